"""Submits that come together go together, and how one ends is nobody else's business."""

import asyncio
import json
from typing import Any

import pytest

from localmodel.api.channel import REQUEST, NewSequence, Refusal, Sampling, Submit, Submitted
from localmodel.gateway.backend_errors import BackendGarbage, BackendGone, Refused
from localmodel.gateway.submits import Submits
from localmodel.gateway.wire import envelope, submit_envelope

SAMPLED = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
UNSAMPLED = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-02"}


class Link:
    """Keeps each call until the test answers it."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.traces: list[Any] = []
        self.answers: list[asyncio.Future[Submitted]] = []

    async def submit(self, epoch: int, sequences: list[NewSequence], seconds: float, trace: Any) -> Submitted:
        self.calls.append([each.id for each in sequences])
        self.traces.append(trace)
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    def accept(self, call: int, **refused: Refusal) -> None:
        accepted = tuple(id_ for id_ in self.calls[call] if id_ not in refused)
        self.answers[call].set_result(Submitted(accepted=accepted, refused=refused))


class World:
    def __init__(self, patience_seconds: float = 60.0) -> None:
        self.link = Link()
        self.submits = Submits(self.link, lambda: 1, patience_seconds)  # type: ignore[arg-type]
        self.heard: dict[str, Exception | None] = {}

    def add(self, id_: str, trace: Any = UNSAMPLED, tokens: int = 2, **sampling: Any) -> None:
        def hear(error: Exception | None) -> None:
            assert id_ not in self.heard
            self.heard[id_] = error

        self.submits.add(NewSequence(id=id_, prompt=(1,) * tokens, sampling=Sampling(**sampling)), trace, hear)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> World:
    return World()


async def test_what_comes_while_a_call_is_under_way_goes_in_the_next(world: World) -> None:
    world.add("a")
    await settle()
    for id_ in "bcd":
        world.add(id_)
        await settle()
    assert world.link.calls == [["a"]]
    world.link.accept(0)
    await settle()
    assert world.link.calls == [["a"], ["b", "c", "d"]] and world.heard == {"a": None}
    world.link.accept(1, c=Refusal(code="overloaded", message="full"))
    await settle()
    assert world.heard["b"] is None and world.heard["d"] is None
    refused = world.heard["c"]
    assert isinstance(refused, Refused) and refused.refusal.code == "overloaded"
    world.add("e")
    await settle()
    assert world.link.calls[2:] == [["e"]]


async def test_a_call_that_takes_long_holds_nobody_up() -> None:
    world = World(0.001)
    world.add("hangs")
    await settle()
    world.add("a")
    while len(world.link.calls) < 2:  # noqa: ASYNC110 - a list that the link fills
        await asyncio.sleep(0.01)
    assert world.link.calls == [["hangs"], ["a"]]
    world.link.accept(1)
    await settle()
    assert world.heard == {"a": None}
    world.add("b")
    await settle()
    world.link.accept(2)
    world.link.accept(0)
    await settle()
    assert world.heard == {"a": None, "b": None, "hangs": None}


async def test_a_schema_and_a_sampled_trace_have_calls_of_their_own(world: World) -> None:
    world.add("a")
    world.add("schema", json_schema="{}")
    world.add("traced", SAMPLED)
    world.add("b")
    await settle()
    assert sorted(world.link.calls) == [["a", "b"], ["schema"], ["traced"]]
    assert world.link.traces[world.link.calls.index(["traced"])] == SAMPLED


async def test_many_and_long_prompts_are_spread_over_calls(world: World) -> None:
    for number in range(70):
        world.add(f"s{number}")
    for number in range(3):
        world.add(f"long{number}", tokens=40_000)
    await settle()
    for call in range(3):
        world.link.accept(call)
        await settle()
    assert [len(call) for call in world.link.calls] == [64, 7, 1, 1]


async def test_one_that_spoils_a_call_harms_itself_alone(world: World) -> None:
    for id_ in ("a", "bad", "b"):
        world.add(id_)
    await settle()
    refused = Refused(Refusal(code="invalid_request", message="bad"))
    world.link.answers[0].set_exception(refused)
    await settle()
    assert world.link.calls[1:] == [["a"], ["bad"], ["b"]] and not world.heard
    world.link.accept(1)
    world.link.answers[2].set_exception(refused)
    world.link.accept(3)
    await settle()
    assert world.heard == {"a": None, "bad": refused, "b": None}


@pytest.mark.parametrize("error", [BackendGone("dead"), Refused(Refusal(code="stale_epoch", message="no")), ZeroDivisionError()])
async def test_what_befalls_a_call_befalls_all_in_it(world: World, error: Exception) -> None:
    world.add("a")
    world.add("b")
    await settle()
    world.link.answers[0].set_exception(error)
    await settle()
    assert world.heard == {"a": error, "b": error} and len(world.link.calls) == 1
    world.add("c")
    await settle()
    assert len(world.link.calls) == 2


async def test_an_answer_that_forgets_one(world: World) -> None:
    world.add("a")
    world.add("b")
    await settle()
    world.link.answers[0].set_result(Submitted(accepted=("a",), refused={}))
    await settle()
    assert world.heard["a"] is None and isinstance(world.heard["b"], BackendGarbage)


def test_the_envelope_of_a_submit_says_what_the_submit_says() -> None:
    sampling = Sampling(max_tokens=9, temperature=0, stop=('"\n', "é"), logit_bias={3: -1.5}, seed=2**63 - 1, logprobs=0)
    sequences = (
        NewSequence(id="s1", prompt=(1, 2), sampling=sampling, deadline_seconds=0.25),
        NewSequence(id="s2", prompt=(3,), sampling=Sampling(json_schema='{"a": "\\u00e9"}'), deadline_seconds=None),
    )
    submit = Submit(token="t", instance="i", epoch=7, sequences=sequences)
    for body in (submit_envelope("t", "i", 7, sequences), envelope(submit)):
        assert Submit.model_validate_json(json.loads(body)[REQUEST]) == submit
