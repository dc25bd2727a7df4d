"""Clients of the engine's channel for a soak: gateways whose event stream is cut and comes back, and what each sequence becomes.

They check as they listen: batches without a gap, tokens that add up, a text that begins as the reference does, no word after
the end. What is wrong is kept in `wrong`.
"""

import asyncio
import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from localmodel.api.events import EventBatch, SequenceEvent
from localmodel.gateway.wire import read_batch

GRACE_SECONDS = 10.0
"""In which a gateway may come back; the soak's machine is busy."""
MOST_COMPLAINTS = 20
"""Are printed."""
REPLACEMENT = "\ufffd"
"""Half a character, of an answer that was ended in the midst of it."""


@dataclass
class Heard:
    """What became of one sequence."""

    text: str = ""
    tokens: int = 0
    end: SequenceEvent | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Also where its gateway came back too late to hear of it."""


class Engine:
    """Triton's HTTP port with the model `llm` behind it."""

    def __init__(self, port: int, token_file: Path, session: aiohttp.ClientSession) -> None:
        self.url = f"http://127.0.0.1:{port}/v2"
        self.session = session
        self._token_file = token_file
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def complain(self, what: str) -> None:
        self.wrong.append(what)
        if len(self.wrong) <= MOST_COMPLAINTS:
            print(f"wrong: {what}", flush=True)

    async def load(self) -> bool:
        try:
            async with self.session.post(f"{self.url}/repository/models/llm/load") as reply:
                return reply.status == 200
        except aiohttp.ClientError:
            return False

    def envelope(self, document: dict[str, Any]) -> dict[str, str]:
        return {"REQUEST": json.dumps({"token": self._token_file.read_text().strip(), **document})}

    async def post(self, body: Any) -> dict[str, Any]:
        """The engine's document, or Triton's own error."""
        async with self.session.post(f"{self.url}/models/llm/generate", json=body) as reply:
            answer = await reply.json(content_type=None)
            return dict(json.loads(answer["RESPONSE"])) if "RESPONSE" in answer else dict(answer)

    async def ask(self, op: str, **document: Any) -> dict[str, Any]:
        return await self.post(self.envelope({"op": op, **document}))


class Instance:
    """One gateway process, as the engine sees it."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self.epoch = 0
        self.open = asyncio.Event()
        self._number = 0
        self._cut_at = 0.0
        self._heard: dict[str, Heard] = {}
        self._ids = itertools.count()
        self._reading: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Anew, after the last batch that was seen."""
        self.epoch += 1
        self._reading = asyncio.create_task(self._read(self.epoch, self._number))
        await self.open.wait()

    async def cut(self) -> None:
        """As a broken connection does."""
        self._cut_at = monotonic()
        self.open.clear()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def new(self) -> tuple[str, Heard]:
        id_ = f"s{next(self._ids)}"
        self._heard[id_] = Heard()
        return id_, self._heard[id_]

    def forget(self, id_: str) -> None:
        del self._heard[id_]

    async def submit(self, *sequences: dict[str, Any]) -> dict[str, Any]:
        await self.open.wait()
        return await self.engine.ask("submit", instance=self.name, epoch=self.epoch, sequences=sequences)

    async def cancel(self, id_: str) -> None:
        await self.engine.ask("cancel", instance=self.name, ids=[id_])

    async def _read(self, epoch: int, after: int) -> None:
        engine = self.engine
        document = engine.envelope({"op": "events", "instance": self.name, "epoch": epoch, "after": after})
        async with engine.session.post(f"{engine.url}/models/llm/generate_stream", json=document) as reply:
            first = True
            async for line in reply.content:
                if line.startswith(b"data: "):
                    self._take(read_batch(json.loads(line[6:])["RESPONSE"]), first)
                    first = False
                    self.open.set()
        self._complain(f"the event stream of epoch {epoch} ended by itself")

    def _take(self, batch: EventBatch, first: bool) -> None:
        """The first batch of a stream tells all that was missed, under the last number."""
        if batch.lost:
            self._lose(batch.number)
        expected = self._number + bool(batch.events)
        if batch.number != expected and not (first and batch.number >= self._number):
            self._complain(f"batch {batch.number} where {expected} was due")
        self._number = batch.number
        for event in batch.events:
            heard = self._heard.get(event.id)
            if heard is None:
                continue
            if heard.end:
                self._complain(f"{event.id} goes on after its end: {event}")
            heard.text += event.text
            heard.tokens += event.tokens
            if event.finish_reason:
                heard.end = event
                heard.ended.set()

    def _lose(self, number: int) -> None:
        """What ran has been ended, as it must be after the grace."""
        self._number = number
        away = monotonic() - self._cut_at
        if away < GRACE_SECONDS:
            self._complain(f"events were lost after {away:.1f} s")
        self.engine.counts["came back too late"] += 1
        for heard in self._heard.values():
            heard.ended.set()

    def _complain(self, what: str) -> None:
        self.engine.complain(f"{self.name}: {what}")


def compare(heard: Heard, prompt_tokens: int, reference: Heard | None) -> str:
    """What is wrong with an answer that has ended; "" for nothing. `reference`: the same request alone."""
    usage = heard.end.usage if heard.end else None
    if usage is None or usage != (prompt_tokens, heard.tokens):
        return f"usage {usage} for {prompt_tokens} and {heard.tokens} tokens"
    if reference is None:
        return ""
    if heard.end and reference.end and heard.end.finish_reason == reference.end.finish_reason:
        same = (heard.text, heard.tokens) == (reference.text, reference.tokens)
        return "" if same else f"{heard.text!r} is not {reference.text!r}"
    if heard.tokens > reference.tokens or not reference.text.startswith(heard.text.rstrip(REPLACEMENT)):
        return f"{heard.text!r} does not begin {reference.text!r}"
    return ""
