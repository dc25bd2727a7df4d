"""The queue turned by hand, and its workers on a real loop."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conftest import eventually
from localmodel.controller.workqueue import Failed, KeyQueue, WorkQueue


def queue() -> KeyQueue[str]:
    return KeyQueue(backoff_base_seconds=1, backoff_limit_seconds=8)


def test_a_key_waits_once_and_in_order() -> None:
    q = queue()
    for key in ("a", "b", "a"):
        q.add(key, 0)
    assert q.depth == 2 and q.age(5) == 5
    assert [q.take(5), q.take(5), q.take(5)] == ["a", "b", None]


def test_a_key_never_runs_twice_at_the_same_time_and_runs_again_afterwards() -> None:
    q = queue()
    q.add("a", 0)
    assert q.take(0) == "a"
    q.add("a", 1)
    q.add("a", 2)
    assert q.take(2) is None
    q.done("a", 3)
    assert (q.take(3), q.take(3)) == ("a", None)


def test_back_off_grows_to_its_limit_and_a_success_ends_it() -> None:
    q, now, pauses = queue(), 0.0, []
    q.add("a", now)
    for _ in range(6):
        assert q.take(now) == "a"
        q.done("a", now, failed=True)
        due = q.next_due()
        assert due is not None and q.take(due - 0.01) is None
        pauses.append(due - now)
        now = due
    assert pauses == [1, 2, 4, 8, 8, 8]
    assert q.take(now) == "a"
    q.done("a", now)
    q.add("a", now)
    q.take(now)
    q.done("a", now, failed=True)
    assert q.next_due() == now + 1


def test_the_servers_retry_after_wins_over_a_shorter_pause() -> None:
    q = queue()
    q.add("a", 0)
    q.take(0)
    q.done("a", 0, failed=True, requeue_after=30)
    assert q.next_due() == 30


def test_an_event_cuts_every_pause_short() -> None:
    q = queue()
    q.add("a", 0)
    q.take(0)
    q.done("a", 0, failed=True)
    q.add("a", 0.1)
    assert q.take(0.1) == "a"
    q.done("a", 0.1)
    assert q.next_due() is None, "the delayed run is not done a second time"


def test_the_earliest_wish_counts() -> None:
    q = queue()
    q.add_after("a", 10, 0)
    q.add_after("a", 3, 0)
    q.add_after("a", 20, 0)
    assert q.next_due() == 3 and q.take(3) == "a"
    q.done("a", 3)
    assert q.take(100) is None


@given(st.lists(st.tuples(st.sampled_from(["add", "after", "take", "done", "fail"]), st.sampled_from("abc")), max_size=60))
def test_no_key_is_lost_or_doubled(steps: list[tuple[str, str]]) -> None:
    q, running, owed, now = queue(), set(), set(), 0.0
    for step, key in steps:
        now += 1
        if step == "add":
            q.add(key, now)
            owed.add(key)
        elif step == "after":
            q.add_after(key, 5, now)
            owed.add(key)
        elif step == "take":
            taken = q.take(now)
            if taken is not None:
                assert taken not in running
                running.add(taken)
                owed.discard(taken)
        elif key in running:
            running.discard(key)
            q.done(key, now, failed=step == "fail")
            owed |= {key} if step == "fail" else set()
    for key in running:
        q.done(key, now)
    left = set()
    while (key := q.take(now + 10_000)) is not None:
        left.add(key)
        q.done(key, now)
    assert owed <= left


async def test_workers_are_parallel_by_key_and_serial_for_one() -> None:
    running: list[str] = []
    most, together = 0, 0

    async def handle(key: str) -> None:
        nonlocal most, together
        assert key not in running
        running.append(key)
        most = max(most, len(running))
        await asyncio.sleep(0.01)
        running.remove(key)
        together += 1

    q = WorkQueue(handle, queue(), workers=3)
    task = asyncio.create_task(q.run())
    for _ in range(5):
        for key in "abcdef":
            q.add(key)
        await asyncio.sleep(0.005)
    await eventually(lambda: q.depth == 0 and not running)
    task.cancel()
    assert most == 3 and together >= 12


@pytest.mark.parametrize("error", [Failed("as planned"), RuntimeError("a bug")])
async def test_a_failing_key_comes_back_and_stops_nobody(error: Exception) -> None:
    done: list[str] = []

    async def handle(key: str) -> None:
        if key == "bad" and len(done) < 2:
            done.append("try")
            raise error
        done.append(key)

    q = WorkQueue(handle, KeyQueue[str](backoff_base_seconds=0.01), workers=1)
    task = asyncio.create_task(q.run())
    q.add("bad")
    q.add("good")
    await eventually(lambda: {"bad", "good"} <= set(done))
    task.cancel()
    assert sorted(done) == ["bad", "good", "try", "try"] or sorted(done) == ["bad", "good", "try"]
