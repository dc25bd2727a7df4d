"""The budget of retries, and the shell that sends again: how often, after which failures, and for how long it waits."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodel.gateway import errors
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.record import Record
from localmodel.gateway.resend import Resender
from localmodel.gateway.retries import RetryBudget


def granted(budget: RetryBudget, now: float, wanted: int) -> int:
    return sum(budget.grant(now) for _ in range(wanted))


def test_a_share_of_the_last_minute_plus_three() -> None:
    budget = RetryBudget(10)
    assert granted(budget, 0, 10) == 3
    for _ in range(50):
        budget.request(1, again=False)
    assert granted(budget, 1, 100) == 5
    assert granted(budget, 60.9, 100) == 3, "the first second has been forgotten, with its three retries"
    assert granted(budget, 200, 100) == 3


def test_a_clients_own_retries_use_it_up() -> None:
    budget = RetryBudget(10)
    for _ in range(10):
        budget.request(0, again=True)
    assert granted(budget, 0, 10) == 0
    assert granted(budget, 61, 10) == 3


def test_requests_that_took_long_to_arrive_cost_no_memory() -> None:
    budget = RetryBudget(0)
    for number in range(1000):
        budget.request(100.0 - 20 * (number % 2), again=False)
    assert len(budget._seconds) == 1


@given(st.integers(0, 100), st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["request", "retry"])), max_size=200))
def test_no_minute_has_more(percent: int, steps: list[tuple[float, str]]) -> None:
    budget = RetryBudget(percent)
    now, requests, retries = 0.0, list[float](), list[float]()
    for pause, step in steps:
        now += pause
        if step == "request":
            budget.request(now, again=False)
            requests.append(now)
        elif budget.grant(now):
            retries.append(now)
            recent = [at for at in retries if at > now - 59]
            assert len(recent) <= 3 + percent / 100 * len([at for at in requests if at > now - 61])


LOST = errors.upstream("lost", resend=True)


def exchange() -> Exchange:
    return Exchange(Record(request_id="r", pod="", namespace="", model="", model_version=""), lambda ended: None)


class Attempts:
    """Fails as scripted, then answers."""

    def __init__(self, *failures: errors.ApiError) -> None:
        self.failures = list(failures)
        self.seen: list[bool] = []

    async def __call__(self, again: bool) -> str:
        self.seen.append(again)
        if self.failures:
            raise self.failures.pop(0)
        return "text"


def resender(
    attempts: int = 2, results: list[str] | None = None, wait: Callable[[float], Awaitable[bool]] | None = None
) -> Resender:
    async def at_once(until: float) -> bool:
        return True

    return Resender(attempts, RetryBudget(10), wait or at_once, (results if results is not None else []).append)


@pytest.mark.parametrize(
    ("failures", "attempts", "tries", "outcome", "results"),
    [
        ([], 2, 1, "text", []),
        ([LOST], 2, 2, "text", ["answered"]),
        ([LOST, LOST], 2, 3, "text", ["failed", "answered"]),
        ([LOST, LOST, LOST], 2, 3, "upstream_error", ["failed", "failed"]),
        ([LOST], 0, 1, "upstream_error", []),
        ([errors.upstream("CUDA error")], 2, 1, "upstream_error", []),
        ([errors.bad_request("no")], 2, 1, None, []),
        ([errors.timed_out("first_token_timeout", 30)], 2, 1, "first_token_timeout", []),
        ([LOST, errors.bad_request("no")], 2, 2, None, ["failed"]),
    ],
)
async def test_what_is_sent_again(
    failures: list[errors.ApiError], attempts: int, tries: int, outcome: str | None, results: list[str]
) -> None:
    attempt, seen, noted = Attempts(*failures), list[str](), exchange()
    try:
        got: str | None = await resender(attempts, seen).run(noted, attempt, lambda: monotonic() + 5)
    except errors.ApiError as error:
        got = error.code
    assert (got, len(attempt.seen), noted.record.retries, seen) == (outcome, tries, tries - 1, results)
    assert attempt.seen == [number > 0 for number in range(tries)]


async def test_an_empty_budget_lets_the_failure_stand() -> None:
    seen = list[str]()
    again = resender(9, seen)
    with pytest.raises(errors.ApiError, match="lost"):
        await again.run(exchange(), Attempts(*[LOST] * 9), lambda: monotonic() + 5)
    assert seen == ["failed", "failed", "failed", "no_budget"]


async def test_a_backend_that_does_not_come_back() -> None:
    asked: list[float] = []

    async def never(until: float) -> bool:
        asked.append(until)
        return False

    attempt, noted = Attempts(LOST), exchange()
    with pytest.raises(errors.ApiError, match="lost"):
        await resender(wait=never).run(noted, attempt, lambda: 12.5)
    assert asked == [12.5] and attempt.seen == [False]
    assert noted.waited >= 0.1, "the pause before a retry is no time of ours"


async def test_leaving_while_it_waits() -> None:
    async def forever(until: float) -> bool:
        await asyncio.Event().wait()
        return True

    attempt = Attempts(LOST)
    task = asyncio.create_task(resender(wait=forever).run(exchange(), attempt, lambda: 0.0))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert attempt.seen == [False]
