"""A minute's limit holds over every 60 seconds, whatever comes when, and what was not used is free again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmodel.gateway.limits import Account, Allowance, Grant, Refusal, format_duration

STEPS = st.lists(
    st.tuples(
        st.floats(0, 3) | st.floats(56, 62) | st.sampled_from([0.0, 30.0]),  # seconds since the last step
        st.integers(1, 60),  # tokens that the request may use
        st.floats(0, 1),  # the share of them that it uses
        st.floats(0, 90),  # how long it runs
        st.booleans(),  # whether it is served
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.floats(1000, 1001), st.integers(1, 8), st.integers(1, 120), st.integers(1, 4))
def test_over_any_minute_the_limits_hold(steps: list, now: float, rpm: int, tpm: int, most: int) -> None:
    account = Account(Allowance(rpm, tpm, most))
    served: list[tuple[float, int]] = []
    running: list[tuple[float, Grant, int, bool]] = []
    for pause, tokens, share, seconds, good in steps:
        now += pause
        for each in sorted((r for r in running if r[0] <= now), key=lambda r: r[0]):
            end, grant, used, was_served = each
            running.remove(each)
            if was_served:
                account.settle(grant, end, used)
                served.append((grant.at, used))
            else:
                account.void(grant, end)
        verdict = account.admit(now, tokens)
        if isinstance(verdict, Grant):
            running.append((now + seconds, verdict, int(tokens * share), good))
        assert account.running == len(running) <= most
        for moment, _ in served:
            inside = [used for at, used in served if moment <= at < moment + 60]
            open_now = [grant for _, grant, _, _ in running if moment <= grant.at < moment + 60]
            assert len(inside) + len(open_now) <= rpm
            assert sum(inside) + sum(grant.tokens for grant in open_now) <= tpm


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), max_size=40), st.integers(50, 100))
def test_whoever_waits_as_told_is_let_in(steps: list, tpm: int) -> None:
    account = Account(Allowance(tokens=tpm))
    now = 5.0
    for pause, tokens in steps:
        now += pause
        verdict = account.admit(now, tokens)
        if isinstance(verdict, Refusal):
            assert verdict.retry_after is not None
            assert 0 < verdict.retry_after <= 61
            assert isinstance(account.admit(now + verdict.retry_after * 0.99, tokens), Refusal) or verdict.retry_after < 1.1
            now += verdict.retry_after
            assert isinstance(account.admit(now, tokens), Grant)


def test_what_can_never_fit_is_told_apart() -> None:
    account = Account(Allowance(requests=10, tokens=100))
    assert account.admit(0.0, 101) == Refusal("tokens", 100, None)
    assert isinstance(account.admit(0.0, 100), Grant)
    refusal = account.admit(1.0, 1)
    assert isinstance(refusal, Refusal) and refusal.retry_after == 60.0


def test_a_refusal_takes_nothing() -> None:
    account = Account(Allowance(requests=2, tokens=100, concurrent=1))
    first = account.admit(0.0, 60)
    assert isinstance(first, Grant)
    for _ in range(5):
        assert account.admit(0.5, 60) == Refusal("tokens", 100, 60.5)
        assert account.admit(0.5, 40) == Refusal("concurrency", 1, 1.0)
    account.settle(first, 1.0, 10)
    account.settle(first, 1.0, 0)  # a second time: nothing
    assert account.running == 0
    assert account.headers(1.0)["x-ratelimit-remaining-tokens"] == "90"
    assert isinstance(account.admit(1.0, 90), Grant)


def test_what_was_not_served_does_not_count() -> None:
    account = Account(Allowance(requests=1, tokens=10))
    grant = account.admit(0.0, 10)
    assert isinstance(grant, Grant)
    account.void(grant, 2.0)
    assert isinstance(account.admit(2.0, 10), Grant)


def test_settling_after_the_minute_changes_nothing_of_the_next() -> None:
    account = Account(Allowance(tokens=10))
    grant = account.admit(0.0, 10)
    assert isinstance(grant, Grant)
    assert isinstance(account.admit(61.0, 10), Grant)
    account.settle(grant, 62.0, 0)
    assert isinstance(account.admit(62.0, 1), Refusal)


def test_headers() -> None:
    account = Account(Allowance(requests=5, tokens=100))
    assert account.headers(0.0)["x-ratelimit-reset-requests"] == "0ms"
    account.admit(0.0, 30)
    assert account.headers(0.5) == {
        "x-ratelimit-limit-requests": "5", "x-ratelimit-remaining-requests": "4", "x-ratelimit-reset-requests": "1m1s",
        "x-ratelimit-limit-tokens": "100", "x-ratelimit-remaining-tokens": "70", "x-ratelimit-reset-tokens": "1m1s",
    }  # fmt: skip
    assert Account(Allowance()).headers(0.0) == {}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0ms"), (0.0001, "1ms"), (0.12, "120ms"), (1, "1s"), (1.2, "2s"), (60, "1m0s"), (125.1, "2m6s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
