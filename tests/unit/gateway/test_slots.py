"""The queue under every order of arrivals, releases and departures: no slot is lost, none is made up."""

import asyncio
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodel.gateway import errors
from localmodel.gateway.gate import Gate
from localmodel.gateway.slots import Slots
from localmodel.gateway.timers import Limit


@given(st.integers(1, 3), st.integers(0, 3), st.lists(st.sampled_from(["offer", "release", "withdraw"]), max_size=60))
def test_slots_are_conserved(slots: int, queue: int, actions: list[str]) -> None:
    gate: Slots[int] = Slots(slots, queue)
    running: list[int] = []
    waiting: list[int] = []
    for number, action in enumerate(actions):
        if action == "offer":
            verdict = gate.offer(number)
            if len(running) < slots and not waiting:
                assert verdict == "run"
                running.append(number)
            elif len(waiting) < queue:
                assert verdict == "wait"
                waiting.append(number)
            else:
                assert verdict == "refuse"
        elif action == "release" and running:
            running.pop()
            admitted = gate.release(float(number))
            assert admitted == (waiting[0] if waiting else None), "first come, first served"
            if waiting:
                running.append(waiting.pop(0))
        elif action == "withdraw" and waiting:
            assert gate.withdraw(waiting.pop())
        assert gate.in_use == len(running) <= slots
        assert gate.queue_length == len(waiting) <= queue
    assert not gate.withdraw(-1)


def test_retry_after_follows_the_drain_rate() -> None:
    gate: Slots[int] = Slots(1, 10)
    gate.offer(0)
    assert gate.retry_after(0) == 1.0
    for number in range(1, 11):
        gate.offer(number)
    for second in range(5):
        gate.release(float(second))
    slow = gate.retry_after(5)
    assert 5 <= slow <= 7, "six wait, one second each"
    for tenth in range(10):
        gate.release(5 + tenth / 100)
    assert gate.retry_after(5.1) < slow


def limit(seconds: float) -> Limit:
    return Limit(monotonic() + seconds, "queue_timeout", seconds)


async def test_leaving_just_when_the_slot_comes() -> None:
    """Every order of release, cancel and wake-up within one turn of the loop."""
    for order in (("release", "cancel"), ("cancel", "release"), ("release", "turn", "cancel"), ("cancel", "turn", "release")):
        gate = Gate(1, 5)
        await gate.enter(limit(5))
        leaver = asyncio.create_task(gate.enter(limit(5)))
        heir = asyncio.create_task(gate.enter(limit(5)))
        await asyncio.sleep(0)
        for action in order:
            if action == "turn":
                await asyncio.sleep(0)
            elif action == "release":
                gate.leave()
            else:
                leaver.cancel()
        done, _ = await asyncio.wait({leaver, heir}, timeout=0.2)
        if leaver.cancelled():
            assert heir in done and heir.exception() is None, order
        else:
            gate.leave()
            await heir
        assert gate.slots.in_use == 1, order
        gate.leave()
        assert (gate.slots.in_use, gate.slots.queue_length) == (0, 0), order


async def test_queue_timeout_and_overload() -> None:
    gate = Gate(1, 1)
    await gate.enter(limit(5))
    waiting = asyncio.create_task(gate.enter(limit(0.05)))
    await asyncio.sleep(0)
    with pytest.raises(errors.ApiError) as caught:
        await gate.enter(limit(5))
    assert caught.value.code == "server_is_overloaded" and caught.value.retry_after
    with pytest.raises(errors.ApiError) as caught:
        await waiting
    assert caught.value.code == "queue_timeout" and caught.value.retry
    gate.leave()
    assert gate.slots.in_use == 0
