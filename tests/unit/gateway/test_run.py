"""One sequence's life as a composer sees it: what came before a failure is delivered, and a failed try leaves no trace."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from gateway.conftest import eventually
from localmodel.api.channel import NewSequence, Refusal, Sampling, Submitted
from localmodel.api.events import SequenceEvent, TokenLogprob, Usage
from localmodel.api.gateway import Timeouts
from localmodel.gateway import errors
from localmodel.gateway.backend_errors import Refused
from localmodel.gateway.breaker import Breaker
from localmodel.gateway.ending import Ending
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.gate import Gate
from localmodel.gateway.lane import Lane
from localmodel.gateway.record import Record
from localmodel.gateway.resend import Resender
from localmodel.gateway.retries import RetryBudget
from localmodel.gateway.run import Run
from localmodel.gateway.sequences import Sequences

LOST = errors.upstream("lost", resend=True)


async def settle() -> None:
    """Nothing here waits for anything but its turn."""
    for _ in range(10):
        await asyncio.sleep(0)


class Accepting:
    token = instance = "x"

    async def submit(self, epoch: int, sequences: list[NewSequence], *_: Any) -> Submitted:
        return Submitted(accepted=tuple(each.id for each in sequences), refused={})


class Engine:
    """What the test plays: events and failures of the sequences that runs have started."""

    def __init__(self, slots: int = 1) -> None:
        self.wasted: list[int] = []
        self.sequences = Sequences(Accepting(), self.wasted.append)  # type: ignore[arg-type]
        self.witnessed: list[bool] = []
        self.lane = Lane(
            timeouts=Timeouts(queue_seconds=5, first_token_seconds=5, idle_seconds=5, total_seconds=9),
            gate=Gate(slots, 10, 10**9),
            sequences=self.sequences,
            breaker=Breaker(3, 60.0),
            ending=Ending(),
            resender=Resender(2, RetryBudget(10), self._back, lambda result: None),
            check_load=lambda: None,
            check_serving=lambda: None,
            wait_serving=self._at_once,
            witness=self.witnessed.append,
            on_pace=lambda seconds: None,
        )
        self.record = Record(request_id="r", pod="", namespace="", model="", model_version="")
        self.exchange = Exchange(self.record, lambda exchange: None)

    async def _back(self, until: float) -> bool:
        self.sequences.keep_only(set())
        return True

    async def _at_once(self, limit: object) -> None:
        return

    def run(self) -> Run:
        deadlines = self.lane.accept({}, monotonic())
        return Run(self.lane, self.exchange, deadlines, (1, 2), Sampling(max_tokens=8))

    @asynccontextmanager
    async def started(self) -> AsyncIterator[tuple[Run, "asyncio.Task[str]"]]:
        with self.run() as run:
            task = asyncio.create_task(run.first())
            await settle()
            yield run, task
            task.cancel()

    def say(self, number: int, *events: tuple[Any, ...]) -> None:
        self.sequences.apply([SequenceEvent(f"s{number}", *event) for event in events])


FAILED = ("", 0, "error", Usage(2, 1), "CUDA error")


async def test_text_that_comes_with_a_failure_is_delivered_first() -> None:
    engine = Engine()
    async with engine.started() as (run, first):
        engine.say(1, ("The", 1), FAILED)
        assert await first == "The"
        for _ in range(2):
            with pytest.raises(errors.ApiError, match="CUDA error"):
                await run.more()
    engine = Engine()
    async with engine.started() as (run, first):
        engine.say(1, ("The", 1))
        assert await first == "The"
        engine.say(1, (" end", 1), FAILED)
        assert await run.more() == " end"
        with pytest.raises(errors.ApiError, match="CUDA error"):
            await run.more()
    engine = Engine()
    async with engine.started() as (run, first):
        engine.say(1, ("The", 1))
        engine.sequences.fail_all(LOST)
        assert await first == "The"
        with pytest.raises(errors.ApiError, match="lost"):
            await run.more()
    assert engine.record.retries == 0 and engine.record.completion_tokens == 1


async def test_a_failed_try_leaves_no_trace() -> None:
    engine = Engine()
    async with engine.started() as (run, first):
        engine.say(1, ("", 1, None, None, None, (TokenLogprob(7, -1.0, ()),)))
        await settle()
        engine.sequences.fail_all(LOST)
        await eventually(lambda: "s2" in engine.sequences._live)
        await settle()
        engine.say(1, ("of the dead", 9))
        engine.say(2, ("The", 1, None, None, None, (TokenLogprob(8, -2.0, ()),)))
        assert await first == "The"
        assert [each.token for each in run.logprobs] == [8]
        engine.say(2, (" end", 1, "stop", Usage(2, 2)))
        assert (await run.more(), run.finish_reason, run.usage) == (" end", "stop", Usage(2, 2))
    assert (engine.record.retries, engine.record.completion_tokens) == (1, 2)
    assert engine.witnessed == [False, True]
    assert engine.lane.gate.slots.in_use == 0


async def test_a_prompt_counts_once_the_engine_has_taken_it() -> None:
    engine = Engine()
    async with engine.started() as (_, first):
        assert engine.record.prompt_tokens is None
        engine.say(1, ("The", 1, "stop", Usage(2, 1)))
        await first
        assert engine.record.prompt_tokens == 2
    async with engine.started() as (_, running):
        async with engine.started() as (_, waiting):
            assert engine.lane.gate.slots.queue_length == 1
            waiting.cancel()
            await asyncio.wait({waiting})
        assert engine.record.prompt_tokens == 2, "it never left the queue"
        running.cancel()
        await asyncio.wait({running})
    assert engine.record.prompt_tokens == 4, "left while the engine was at it"


async def test_a_prompt_that_the_engine_did_not_take_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()

    async def refuse(*_: Any) -> None:
        raise Refused(Refusal(code="overloaded", message="full"))

    monkeypatch.setattr(Accepting, "submit", refuse)
    with engine.run() as run, pytest.raises(errors.ApiError) as refused:
        await run.first()
    assert (refused.value.code, engine.record.prompt_tokens) == ("server_is_overloaded", None)


async def test_a_schema_that_can_not_be_followed_is_the_clients_error() -> None:
    """Else one client with such a schema would open the circuit for all."""
    engine = Engine()
    async with engine.started() as (_, first):
        engine.say(1, ("", 0, "error", Usage(2, 0), "[SchemaTooComplex] the JSON schema is too complex to follow: no"))
        with pytest.raises(errors.ApiError, match=r"too complex to follow: no\. Send a simpler one") as refused:
            await first
    assert (refused.value.status, refused.value.outcome) == (400, "rejected")
    assert engine.witnessed == [] and engine.lane.gate.slots.in_use == 0


async def test_runs_of_one_request_share_its_record() -> None:
    engine = Engine(slots=2)
    async with engine.started() as (one, first), engine.started() as (two, second):
        engine.say(1, ("a", 1, "length", Usage(2, 1)))
        engine.say(2, ("b", 2))
        assert (await first, await second) == ("a", "b")
        engine.say(2, ("c", 1, "stop", Usage(2, 3)))
        assert await two.more() == "c" and (one.finish_reason, two.finish_reason) == ("length", "stop")
    assert engine.record.completion_tokens == 4 and engine.record.first_token_seconds is not None
    assert engine.lane.gate.slots.in_use == 0


async def test_a_request_that_runs_goes_on_when_new_ones_are_refused() -> None:
    """Such as the next part of a document, in a drain."""
    engine = Engine(slots=2)

    def refuse() -> None:
        raise errors.draining()

    async with engine.started() as (_, first):
        engine.say(1, ("a", 1, "stop", Usage(2, 1)))
        await first
        engine.lane.check_serving = refuse
        async with engine.started() as (_, second):
            engine.say(2, ("b", 1, "stop", Usage(2, 1)))
            assert await second == "b"
    engine.exchange = Exchange(Record(request_id="other", pod="", namespace="", model="", model_version=""), lambda _: None)
    with engine.run() as run, pytest.raises(errors.ApiError, match="shutting down"):
        await run.first()


async def test_the_rest_comes_in_one_go() -> None:
    engine = Engine()
    async with engine.started() as (run, first):
        engine.say(1, ("The", 1))
        assert await first == "The"
        rest = asyncio.create_task(run.rest())
        for text in (" capital", " is"):
            engine.say(1, (text, 1, None, None, None, (TokenLogprob(8, -2.0, ()),)))
            await asyncio.sleep(0.01)
            assert not rest.done()
        engine.say(1, (" Paris.", 2, "stop", Usage(2, 5)))
        assert (await rest, run.finish_reason, len(run.logprobs)) == (" capital is Paris.", "stop", 2)
    assert engine.record.completion_tokens == 5


async def test_the_rest_has_the_idle_limit_between_its_events_and_comes_before_its_failure() -> None:
    engine = Engine(slots=2)
    engine.lane.timeouts = Timeouts(queue_seconds=5, first_token_seconds=5, idle_seconds=1.2, total_seconds=9)
    async with engine.started() as (run, first):
        engine.say(1, ("The", 1))
        await first
        rest = asyncio.create_task(run.rest())
        for _ in range(6):
            await asyncio.sleep(0.3)
            engine.say(1, (" a", 1))
        assert not rest.done(), "it was never silent for so long"
        with pytest.raises(errors.ApiError) as caught:
            await rest
        assert caught.value.code == "idle_timeout"
    async with engine.started() as (run, first):
        engine.say(2, ("The", 1))
        await first
        engine.say(2, (" end", 1), FAILED)
        assert await run.rest() == " end"
        with pytest.raises(errors.ApiError, match="CUDA error"):
            await run.rest()


async def test_a_bug_before_the_submit_keeps_no_slot() -> None:
    engine = Engine()
    deadlines = engine.lane.accept({}, monotonic())
    run = Run(engine.lane, engine.exchange, deadlines, ("no id",), Sampling())  # type: ignore[arg-type]
    with run, pytest.raises(ValueError, match="prompt"):
        await run.first()
    assert engine.lane.gate.slots.in_use == 0 and len(engine.sequences) == 0


async def test_leaving_the_block_gives_the_sequence_up() -> None:
    engine = Engine()
    async with engine.started() as (_, first):
        engine.say(1, ("The", 1))
        await first
        assert not engine.sequences.cancellable()
    assert engine.sequences.cancellable() == ("s1",) and engine.lane.gate.slots.in_use == 1
    engine.sequences.confirmed(["s1"])
    assert engine.lane.gate.slots.in_use == 0 and engine.lane.gate.slots.tokens_in_use == 0


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (("", 0, "deadline", None), "total_timeout"),
        (("", 0, "cancelled", None), "upstream_error"),
        (("", 0, "error", None), "upstream_error"),
    ],
)
async def test_ends_that_are_failures(event: tuple[Any, ...], code: str) -> None:
    engine = Engine()
    async with engine.started() as (_, first):
        engine.say(1, event)
        with pytest.raises(errors.ApiError) as caught:
            await first
    assert caught.value.code == code and engine.lane.gate.slots.in_use == 0


async def test_tokens_that_came_and_were_never_read_are_wasted() -> None:
    engine = Engine()
    async with engine.started() as (_, first):
        engine.say(1, ("a", 1))
        await first
        engine.say(1, ("b", 2), ("c", 3))
    assert engine.record.completion_tokens == 1 and engine.wasted == [5]
    engine.say(1, ("d", 4, "stop", Usage(2, 10)))
    assert engine.wasted == [5, 4]
    engine = Engine()
    async with engine.started() as (_, first):
        engine.say(1, ("a", 1), ("b", 2, "stop", Usage(2, 3)))
        await first
    assert engine.record.completion_tokens == 3 and not engine.wasted


async def test_the_breaker_hears_each_try(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    for number in range(1, 4):
        async with engine.started() as (_, first):
            engine.say(number, FAILED)
            with pytest.raises(errors.ApiError, match="CUDA"):
                await first
    with engine.run() as run, pytest.raises(errors.ApiError) as caught:
        await run.first()
    assert caught.value.code == "circuit_open" and engine.lane.gate.slots.in_use == 0
    assert caplog.messages == ["the circuit is open: requests failed in a row, nothing is sent for 60 s"]


async def test_texts_are_handed_on_until_the_last_which_wakes() -> None:
    engine = Engine()
    async with engine.started() as (run, first):
        engine.say(1, ("a", 1))
        assert await first == "a"
        said: list[str] = []
        engine.say(1, ("b", 1))

        def say(text: str) -> bool:
            said.append(text)
            return text != "stop here"

        assert await run.more(say=say) == "b" and not said  # it had come before anybody waited
        more = asyncio.create_task(run.more(say=say))
        await asyncio.sleep(0)
        engine.say(1, ("c", 1))
        engine.say(1, ("", 1), ("d", 2))
        assert not said
        await asyncio.sleep(0)
        assert said == ["cd"] and not more.done()
        engine.say(1, ("stop here", 1))
        await asyncio.sleep(0)
        engine.say(1, ("e", 1))
        assert await more == "e" and said[1:] == ["stop here"]
        more = asyncio.create_task(run.more(say=say))
        await asyncio.sleep(0)
        engine.say(1, ("f", 1), ("g", 1, "stop", Usage(2, 9)))
        assert await more == "fg" and run.finish_reason == "stop" and not said[2:]
    assert engine.record.completion_tokens == 9


async def test_what_breaks_while_a_text_is_handed_on_is_raised_to_who_waits() -> None:
    engine = Engine()
    async with engine.started() as (run, first):
        engine.say(1, ("a", 1))
        await first

        def say(text: str) -> bool:
            raise ConnectionResetError("gone")

        more = asyncio.create_task(run.more(say=say))
        await asyncio.sleep(0)
        engine.say(1, ("b", 1), ("c", 1))
        with pytest.raises(ConnectionResetError):
            await more
        assert len(engine.sequences) == 1


async def test_handed_on_texts_move_the_idle_limit() -> None:
    engine = Engine()
    engine.lane.timeouts = Timeouts(queue_seconds=5, first_token_seconds=5, idle_seconds=1.0, total_seconds=9)
    async with engine.started() as (run, first):
        engine.say(1, ("a", 1))
        await first
        more = asyncio.create_task(run.more(say=lambda text: True))
        await asyncio.sleep(0.1)
        engine.say(1, ("b", 1))
        assert await more == ""  # it looked after a second, and there had been news
        with pytest.raises(errors.ApiError) as idle:
            await run.more(say=lambda text: True)
        assert idle.value.outcome == "idle_timeout"
