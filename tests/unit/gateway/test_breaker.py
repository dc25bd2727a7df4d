"""The circuit breaker under every order of outcomes: only the backend's failures in a row open it, one probe closes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodel.gateway.breaker import Breaker, Trial


def send(breaker: Breaker, now: float) -> Trial:
    trial = breaker.begin(now)
    assert trial is not None
    return trial


def fail(breaker: Breaker, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        send(breaker, now).report(False, now)


def test_only_failures_in_a_row_open_it() -> None:
    breaker = Breaker(3, 5.0)
    fail(breaker, 2)
    send(breaker, 0).report(None, 0)
    assert breaker.state(0) == "closed", "a client that left says nothing"
    send(breaker, 0).report(True, 0)
    fail(breaker, 2)
    assert breaker.state(0) == "closed"
    fail(breaker, 1)
    assert breaker.state(0) == "open" and breaker.begin(1) is None and breaker.retry_after(1) == 4.0


def test_one_probe_decides() -> None:
    breaker = Breaker(1, 5.0)
    fail(breaker, 1)
    assert breaker.begin(4.9) is None
    probe = send(breaker, 5.0)
    assert breaker.state(5.0) == "half_open" and breaker.begin(5.0) is None and breaker.retry_after(5.0) == 1.0
    probe.report(None, 6.0)
    probe = send(breaker, 6.0)
    probe.report(False, 7.0)
    assert breaker.begin(16.9) is None, "twice as long after a failed probe"
    send(breaker, 17.0).report(True, 17.0)
    assert breaker.state(17.0) == "closed"
    fail(breaker, 1, 18.0)
    assert breaker.retry_after(18.0) == 5.0, "the first time again"


def test_the_open_time_stays_within_a_minute() -> None:
    breaker = Breaker(1, 40.0)
    fail(breaker, 1)
    send(breaker, 40.0).report(False, 40.0)
    assert breaker.retry_after(40.0) == 60.0


def test_what_was_sent_before_it_opened_has_no_say_afterwards() -> None:
    breaker = Breaker(2, 5.0)
    early = [send(breaker, 0) for _ in range(8)]
    for trial in early[:4]:
        trial.report(False, 1.0)
    assert breaker.retry_after(1.0) == 5.0
    probe = send(breaker, 6.0)
    early[4].report(True, 6.0)
    assert breaker.begin(6.0) is None
    early[5].report(False, 6.5)
    assert breaker.state(6.5) == "half_open"
    probe.report(True, 7.0)
    early[6].report(False, 7.0)
    early[7].report(False, 7.0)
    assert breaker.state(7.0) == "closed"


def test_a_second_report_does_nothing() -> None:
    breaker = Breaker(2, 5.0)
    trial = send(breaker, 0)
    trial.report(False, 0)
    trial.report(False, 0)
    assert breaker.state(0) == "closed"


def test_a_new_backend_starts_clean() -> None:
    breaker = Breaker(2, 5.0)
    fail(breaker, 2)
    breaker.reset()
    assert breaker.state(0) == "closed"
    fail(breaker, 1)
    breaker.reset()
    fail(breaker, 1)
    assert breaker.state(0) == "closed"


def test_never() -> None:
    breaker = Breaker(0, 5.0)
    fail(breaker, 1000)
    assert breaker.state(0) == "closed"


@pytest.mark.parametrize("failures", [1, 3])
@given(steps=st.lists(st.tuples(st.sampled_from(["send", "ok", "bad", "void"]), st.floats(0, 7)), max_size=80))
def test_at_most_one_probe_at_a_time(failures: int, steps: list[tuple[str, float]]) -> None:
    breaker = Breaker(failures, 5.0)
    now = 0.0
    flying: list[Trial] = []
    probe: Trial | None = None
    for step, pause in steps:
        now += pause
        if step == "send":
            trial = breaker.begin(now)
            assert (trial is None) == (breaker.state(now) != "closed" and (breaker.state(now) == "open" or probe is not None))
            if trial is not None:
                flying.append(trial)
                probe = trial if breaker.state(now) == "half_open" else None
        elif flying:
            trial = flying.pop(0)
            trial.report({"ok": True, "bad": False, "void": None}[step], now)
            if trial is probe:
                probe = None
                assert breaker.state(now) == {"ok": "closed", "bad": "open", "void": "half_open"}[step]
