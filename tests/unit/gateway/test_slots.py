"""The queue under every order of arrivals, releases and departures: no slot is lost, none is made up, nobody is passed."""

import asyncio
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodel.gateway import errors
from localmodel.gateway.gate import Gate, Slot
from localmodel.gateway.slots import Need, Slots
from localmodel.gateway.timers import Limit

ONE = Need()
PLENTY = 10**9
ACTIONS = st.one_of(
    st.tuples(st.just("offer"), st.integers(0, 12), st.integers(0, 12)),
    st.tuples(st.just("again"), st.integers(0, 12), st.integers(0, 12)),
    st.tuples(st.just("release"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("withdraw"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("resize"), st.integers(0, 20), st.just(0)),
)


@given(st.integers(1, 3), st.integers(0, 4), st.integers(0, 30), st.integers(0, 20), st.integers(0, 12), st.integers(0, 12))
def test_an_idle_server_refuses_the_first_of_too_many(
    slots: int, queue: int, queue_bytes: int, capacity: int, tokens: int, size: int
) -> None:
    """Whoever asks for more at once is told so: another try would meet no more room."""
    gate: Slots[int] = Slots(slots, queue, queue_bytes)
    gate.token_limit = capacity
    verdicts = [gate.offer(number, Need(tokens, size)) for number in range(9)]
    assert gate.most_at_once(Need(tokens, size)) == verdicts.index("refuse")


@given(st.integers(1, 3), st.integers(0, 4), st.integers(0, 30), st.lists(ACTIONS, max_size=80))
def test_slots_and_memory_are_conserved(slots: int, queue: int, queue_bytes: int, actions: list[tuple[str, int, int]]) -> None:
    gate: Slots[int] = Slots(slots, queue, queue_bytes)
    running: dict[int, Need] = {}
    waiting: list[tuple[int, Need]] = []

    def fits(need: Need) -> bool:
        held = sum(each.tokens for each in running.values())
        return not running or (len(running) < slots and (not gate.token_limit or held + need.tokens <= gate.token_limit))

    for number, (action, first, second) in enumerate(actions):
        if action in ("offer", "again"):
            again, need = action == "again", Need(first, second)
            verdict = gate.offer(number, need, again=again)
            held = sum(each.size for _, each in waiting)
            if fits(need) and (again or not waiting):
                assert verdict == "run"
                running[number] = need
            elif again or (len(waiting) < queue and held + need.size <= queue_bytes):
                assert verdict == "wait"
                waiting.insert(0 if again else len(waiting), (number, need))
            else:
                assert verdict == "refuse"
        elif action == "release" and running:
            gate.release(running.pop(list(running)[first % len(running)]), float(number))
        elif action == "withdraw" and waiting:
            assert gate.withdraw(waiting.pop(first % len(waiting))[0])
        elif action == "resize":
            gate.token_limit = first
        for ticket in gate.admit():
            assert ticket == waiting[0][0], "first come, first served"
            assert fits(waiting[0][1])
            running.update([waiting.pop(0)])
        assert not waiting or not fits(waiting[0][1]), "room, and nobody was let in"
        assert gate.in_use == len(running) <= slots
        assert gate.tokens_in_use == sum(each.tokens for each in running.values())
        assert gate.queue_length == len(waiting)
        assert gate.queued_bytes == sum(each.size for _, each in waiting)
    assert not gate.withdraw(-1)


def test_a_large_request_is_not_starved_by_small_ones() -> None:
    gate: Slots[str] = Slots(10, 10, PLENTY)
    gate.token_limit = 100
    assert gate.offer("a", Need(60)) == "run"
    assert gate.offer("large", Need(90)) == "wait"
    for name in ("b", "c", "d"):
        assert gate.offer(name, Need(10)) == "wait", "it would fit, but it came later"
    gate.release(Need(60), 0.0)
    assert gate.admit() == ["large", "b"]
    gate.release(Need(90), 0.0)
    assert gate.admit() == ["c", "d"]


def test_retry_after_follows_the_drain_rate() -> None:
    gate: Slots[int] = Slots(1, 10, PLENTY)
    gate.offer(0, ONE)
    assert gate.retry_after(0) == 1.0
    for number in range(1, 11):
        gate.offer(number, ONE)
    for second in range(5):
        gate.release(ONE, float(second))
        gate.admit()
    slow = gate.retry_after(5)
    assert 5 <= slow <= 7, "six wait, one second each"
    for tenth in range(10):
        gate.release(ONE, 5 + tenth / 100)
        gate.admit()
    assert gate.retry_after(5.1) < slow


def limit(seconds: float) -> Limit:
    return Limit(monotonic() + seconds, "queue_timeout", seconds)


async def test_leaving_just_when_the_slot_comes() -> None:
    """Every order of release, cancel and wake-up within one turn of the loop."""
    for order in (("release", "cancel"), ("cancel", "release"), ("release", "turn", "cancel"), ("cancel", "turn", "release")):
        gate = Gate(1, 5, PLENTY)
        first = await gate.enter(limit(5), Need(7, 7))
        leaver = asyncio.create_task(gate.enter(limit(5), Need(5, 5)))
        heir = asyncio.create_task(gate.enter(limit(5), Need(3, 3)))
        await asyncio.sleep(0)
        for action in order:
            if action == "turn":
                await asyncio.sleep(0)
            elif action == "release":
                first.release()
            else:
                leaver.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        if leaver.cancelled():
            assert heir.done() and heir.exception() is None, order
        else:
            leaver.result().release()
            await heir
        assert (gate.slots.in_use, gate.slots.tokens_in_use, gate.slots.queued_bytes) == (1, 3, 0), order
        heir.result().release()
        heir.result().release()
        assert (gate.slots.in_use, gate.slots.tokens_in_use, gate.slots.queue_length) == (0, 0, 0), order


async def test_whoever_leaves_the_head_of_the_queue_makes_way() -> None:
    gate = Gate(4, 5, PLENTY)
    gate.resize(10)
    await gate.enter(limit(5), Need(6))
    large = asyncio.create_task(gate.enter(limit(5), Need(9)))
    await asyncio.sleep(0)
    small = asyncio.create_task(gate.enter(limit(5), Need(2)))
    await asyncio.sleep(0)
    large.cancel()
    slot = await asyncio.wait_for(small, 60)
    assert isinstance(slot, Slot) and gate.slots.tokens_in_use == 8
    waiting = asyncio.create_task(gate.enter(limit(5), Need(9)))
    await asyncio.sleep(0)
    gate.resize(20)
    await asyncio.wait_for(waiting, 60)


async def test_what_never_fits_is_refused_with_the_numbers() -> None:
    gate = Gate(4, 5, PLENTY)
    gate.resize(10)
    with pytest.raises(errors.ApiError, match="11 tokens together, but the engine's memory holds 10") as caught:
        await gate.enter(limit(5), Need(11))
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")


async def test_queue_timeout_and_overload() -> None:
    gate = Gate(1, 1, PLENTY)
    first = await gate.enter(limit(5), ONE)
    waiting = asyncio.create_task(gate.enter(limit(0.05), ONE))
    await asyncio.sleep(0)
    with pytest.raises(errors.ApiError) as caught:
        await gate.enter(limit(5), ONE)
    assert caught.value.code == "server_is_overloaded" and caught.value.retry_after
    with pytest.raises(errors.ApiError) as caught:
        await waiting
    assert caught.value.code == "queue_timeout" and caught.value.retry
    first.release()
    assert gate.slots.in_use == 0


async def test_leaving_just_when_the_queue_is_dismissed() -> None:
    """It never had the slot that it would give back."""
    gate = Gate(1, 5, PLENTY)
    first = await gate.enter(limit(5), Need(7, 7))
    leaver = asyncio.create_task(gate.enter(limit(5), Need(5, 5)))
    await asyncio.sleep(0)
    gate.dismiss(errors.draining())
    leaver.cancel()
    await asyncio.wait({leaver})
    assert (gate.slots.in_use, gate.slots.tokens_in_use) == (1, 7)
    first.release()
