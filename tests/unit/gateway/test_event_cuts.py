"""The event stream broken at every byte: what was lost is resent, nothing is doubled, and no character is cut in two."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodel.api.channel import RESPONSE, NewSequence, Sampling, Submitted
from localmodel.api.events import EventBatch, SequenceEvent, Usage, encode_batch
from localmodel.gateway.backend_errors import BackendUnreachable
from localmodel.gateway.events import CutReason, EventStream
from localmodel.gateway.sequences import Sequence, Sequences

TEXTS = ("Zo\u00eb ", "\u65e5", "\u672c ", "\U0001f600", "\u2028\n\n", "data: ", "end")


def encode(batch: EventBatch) -> bytes:
    """Unescaped, so that a cut may fall inside a character; `\\r\\n` as some servers send it."""
    document = json.dumps(encode_batch(batch), ensure_ascii=False)
    return b"data: " + json.dumps({"model_name": "llm", RESPONSE: document}, ensure_ascii=False).encode() + b"\r\n\r\n"


def batches(texts: tuple[str, ...], ids: tuple[str, ...]) -> list[EventBatch]:
    """One text per batch for every sequence, then the end of all."""
    made = [EventBatch(n, 0.0, False, tuple([SequenceEvent(i, text, 1) for i in ids])) for n, text in enumerate(texts, 1)]
    ends = tuple([SequenceEvent(i, "", 0, "stop", Usage(1, len(texts))) for i in ids])
    return [*made, EventBatch(len(made) + 1, 0.0, False, ends)]


class Pipe:
    """A connection: some bytes in pieces, then its end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def readany(self) -> bytes:
        await asyncio.sleep(0)
        return self._pieces.pop(0) if self._pieces else b""


class CutChannel:
    """An engine that resends what came after the number asked for; connection n breaks after `cuts[n]` bytes."""

    token = instance = "x"

    def __init__(self, history: list[EventBatch], cuts: list[int], piece: int) -> None:
        self._history = history
        self._cuts = cuts
        self._piece = piece
        self.epochs: list[int] = []
        self.all_sent = asyncio.Event()

    async def submit(self, epoch: int, sequences: list[NewSequence], *_: Any) -> Submitted:
        return Submitted(accepted=tuple(each.id for each in sequences), refused={})

    @asynccontextmanager
    async def events(self, epoch: int, after: int) -> AsyncIterator[Any]:
        self.epochs.append(epoch)
        hello = encode(EventBatch(after, 0.0, False, ()))
        data = hello + b"".join(encode(batch) for batch in self._history if batch.number > after)
        if self._cuts:
            data = data[: self._cuts.pop(0)]
            yield Pipe([data[at : at + self._piece] for at in range(0, len(data), self._piece)])
            raise BackendUnreachable("cut")
        yield Pipe([data])
        self.all_sent.set()
        await asyncio.Event().wait()


def read(sequence: Sequence) -> list[SequenceEvent]:
    return sequence.mailbox._events


async def follow(texts: tuple[str, ...], sequences: int, cuts: list[int], piece: int) -> None:
    ids = tuple(f"s{number}" for number in range(1, sequences + 1))
    link = CutChannel(batches(texts, ids), cuts, piece)
    wasted: list[int] = []
    ended: list[str] = []
    table = Sequences(link, wasted.append)  # type: ignore[arg-type]
    running = [table.start((1,), Sampling(), 1.0, lambda i=i: ended.append(i)) for i in ids]  # type: ignore[misc]
    stream = EventStream(link, table, pause_seconds=0.0)  # type: ignore[arg-type]
    task = asyncio.create_task(stream.run())
    await asyncio.wait_for(link.all_sent.wait(), 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for sequence in running:
        events = read(sequence)
        assert tuple(event.text for event in events) == (*texts, ""), (sequence.id, cuts)
        assert sum(event.tokens for event in events) == len(texts)
        assert [event.finish_reason for event in events] == [None] * len(texts) + ["stop"]
    assert sorted(ended) == sorted(ids) and not wasted and not len(table)
    assert link.epochs == list(range(1, len(link.epochs) + 1)), "each connection has a newer epoch"


async def test_a_cut_at_every_byte() -> None:
    size = len(encode(EventBatch(0, 0.0, False, ()))) + sum(len(encode(batch)) for batch in batches(TEXTS, ("s1", "s2")))
    for cut in range(size + 1):
        await follow(TEXTS, 2, [cut], 7)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), min_size=1, max_size=8),
    st.integers(1, 3),
    st.lists(st.integers(0, 1500), max_size=6),
    st.integers(1, 200),
)
def test_many_cuts(texts: list[str], sequences: int, cuts: list[int], piece: int) -> None:
    asyncio.run(follow(tuple(texts), sequences, list(cuts), piece))


class Scripted:
    """Connection n sends `connections[n]` and ends, or stays open after the last; says after which number each was asked for."""

    token = instance = "x"

    def __init__(self, *connections: list[EventBatch]) -> None:
        self._connections = list(connections)
        self.after: list[int] = []
        self.all_sent = asyncio.Event()

    async def submit(self, epoch: int, sequences: list[NewSequence], *_: Any) -> Submitted:
        return Submitted(accepted=tuple(each.id for each in sequences), refused={})

    @asynccontextmanager
    async def events(self, epoch: int, after: int) -> AsyncIterator[Any]:
        self.after.append(after)
        yield Pipe([encode(batch) for batch in self._connections.pop(0)])
        if not self._connections:
            self.all_sent.set()
            await asyncio.Event().wait()


def hello(number: int) -> EventBatch:
    return EventBatch(number, 0.0, False, ())


def text(number: int) -> EventBatch:
    return EventBatch(number, 0.0, False, (SequenceEvent("s1", f"{number} ", 1),))


async def watch(link: Scripted | CutChannel) -> tuple[list[CutReason], str]:
    """What was cut, and the text that arrived."""
    cuts: list[CutReason] = []
    table = Sequences(link, lambda _: None)  # type: ignore[arg-type]
    running = table.start((1,), Sampling(), 1.0, lambda: None)
    stream = EventStream(link, table, cuts.append, pause_seconds=0.0)  # type: ignore[arg-type]
    task = asyncio.create_task(stream.run())
    await asyncio.wait_for(link.all_sent.wait(), 30)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return cuts, "".join(event.text for event in read(running))


@pytest.mark.parametrize("ahead", [[hello(3)], [hello(4)], [text(4)], [hello(1)]])
async def test_a_number_that_does_not_follow_costs_no_event(ahead: list[EventBatch], caplog: pytest.LogCaptureFixture) -> None:
    """A heartbeat before the events that it counts would have them taken for known ones."""
    link = Scripted([hello(0), text(1), text(2), *ahead, text(3)], [hello(2), text(3), text(4)])
    with caplog.at_level(logging.INFO, "localmodel.gateway.events"):
        cuts, heard = await watch(link)
    assert heard == "1 2 3 4 " and link.after == [0, 2] and cuts == ["protocol"]
    said = [record.getMessage() for record in caplog.records]
    assert "cut (protocol) after event 2, 1 sequences running" in said[0] and "is back after" in said[1]


async def test_each_cut_is_counted_and_an_end_of_ours_is_none() -> None:
    assert await watch(Scripted([hello(0), text(1)], [hello(1), text(2)], [hello(2)])) == (["closed"] * 2, "1 2 ")
    assert await watch(Scripted([], [hello(0)])) == ([], ""), "it had not been open"


async def test_a_stream_given_up_is_a_cut() -> None:
    cuts: list[CutReason] = []
    link = Scripted([hello(0)])
    table = Sequences(link, lambda _: None)  # type: ignore[arg-type]
    stream = EventStream(link, table, cuts.append, pause_seconds=0.0)  # type: ignore[arg-type]
    task = asyncio.create_task(stream.run())
    await asyncio.wait_for(stream.open.wait(), 30)
    link._connections.append([hello(0)])
    stream.reconnect("nothing came")
    assert not cuts
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert cuts == ["silent"] and len(link.after) == 2
