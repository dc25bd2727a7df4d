"""Whose silence it was: the engine's, or that of a gateway that was itself stopped; and when a silent stream is given up."""

import asyncio
from typing import Any

import pytest

from localmodel.gateway import pulse as pulse_module
from localmodel.gateway.backend_errors import BackendSilent, BackendUnreachable
from localmodel.gateway.pulse import Finding, Pulse
from localmodel.gateway.silence import LOOK_SECONDS, Silence


def test_silence_grows_by_looks() -> None:
    silence = Silence(10.0)
    assert [round(silence.look(10.0 + 0.05 * n), 2) for n in (1, 2, 3)] == [0.05, 0.1, 0.15]
    silence.hear(10.2)
    assert silence.seconds == 0.0
    assert silence.look(10.3) == pytest.approx(0.1)


def test_a_pause_of_the_gateway_is_no_silence_of_the_engine() -> None:
    silence = Silence(0.0)
    silence.look(0.05)
    assert silence.look(60.0) <= 0.05 + LOOK_SECONDS
    silence.look(59.0)
    assert silence.look(59.05) <= 0.1 + LOOK_SECONDS, "a clock that goes back adds nothing"


class Stream:
    """An event stream that says nothing."""

    def __init__(self) -> None:
        self.silence = Silence(0.0)
        self.open = asyncio.Event()
        self.dropped: list[str] = []

    def reconnect(self, why: str) -> None:
        self.dropped.append(why)


class Link:
    """Answers `status` as told, or not at all."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.timed_out = False
        self.breaks = 0

    async def status(self, seconds: float) -> None:
        if self.breaks:
            self.breaks -= 1
            raise BackendUnreachable("the connection was closed")
        if self.timed_out:
            raise BackendSilent("no answer in time")
        await self.answers.wait()


class Patient:
    """A pulse on a clock of its own: each step is a look and a question, as the supervisor's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.stream, self.link = Stream(), Link()
        monkeypatch.setattr(pulse_module, "monotonic", lambda: self.now)
        monkeypatch.setattr(pulse_module, "_WAIT_SECONDS", 0.001)
        self.pulse = Pulse(self.link, self.stream)  # type: ignore[arg-type]

    async def step(self, seconds: float = 0.1) -> Finding:
        self.now += seconds
        self.pulse.look()
        return await self.pulse.ask()

    async def pass_by(self, seconds: float) -> list[Finding]:
        return [await self.step() for _ in range(round(seconds * 10))]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Any:
    return Patient(monkeypatch)


async def test_a_stream_is_given_up_if_the_engine_answers_and_says_nothing(patient: Patient) -> None:
    patient.link.answers.set()
    assert set(await patient.pass_by(2.4)) == {"alive"} and not patient.stream.dropped
    await patient.pass_by(0.3)
    assert len(patient.stream.dropped) == 1 and "though the engine answers" in patient.stream.dropped[0]
    await patient.pass_by(0.7)
    assert len(patient.stream.dropped) == 1, "the new connection has time to speak"
    await patient.pass_by(0.5)
    assert len(patient.stream.dropped) == 2


async def test_an_engine_that_comes_back_from_a_pause_may_answer_before_its_stream_speaks(patient: Patient) -> None:
    assert (await patient.pass_by(3.0))[-1] == "late"
    patient.link.answers.set()
    assert set(await patient.pass_by(0.9)) == {"alive"} and not patient.stream.dropped
    patient.stream.silence.hear(patient.now)
    patient.pulse.stop()
    assert set(await patient.pass_by(0.9)) == {"alive"} and not patient.stream.dropped, "a new silence starts anew"


@pytest.mark.parametrize("timed_out", [False, True])
async def test_a_gateway_that_was_stopped_finds_nothing_late(patient: Patient, timed_out: bool) -> None:
    assert await patient.step() == "asking"
    patient.link.timed_out = timed_out  # its own timer runs out during the pause, too
    assert await patient.step(30.0) == "asking"
    assert patient.stream.silence.seconds < 0.5 and not patient.stream.dropped


@pytest.mark.parametrize("timed_out", [False, True])
async def test_an_engine_that_owes_an_answer_is_late_after_two_seconds(patient: Patient, timed_out: bool) -> None:
    patient.link.timed_out = timed_out  # a question asked again is no new patience
    assert set(await patient.pass_by(1.7)) == {"asking"}, "so long it may be silent on a busy machine"
    await patient.pass_by(0.2)
    assert set(await patient.pass_by(3.0)) == {"late"}
    patient.link.timed_out = False
    patient.link.answers.set()
    assert set(await patient.pass_by(0.2)) == {"alive"}
    patient.link.answers.clear()
    assert set(await patient.pass_by(1.0)) == {"asking"}


async def test_one_broken_connection_is_no_dead_triton(patient: Patient) -> None:
    patient.link.answers.set()
    for breaks, found in ((1, ["asking", "alive", "alive"]), (1, ["asking", "alive", "alive"]), (2, ["asking", "triton_gone"])):
        patient.link.breaks = breaks
        assert [await patient.step() for _ in found] == found
    patient.link.breaks = 1
    patient.pulse.stop()
    assert await patient.step() == "asking", "what was before the stream spoke again does not count"
