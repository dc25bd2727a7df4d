"""One request's own clock: what counts as the gateway's time and what as waiting."""

import pytest

from localmodel.gateway import errors, exchange
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.record import Record


def test_a_head_that_is_sent_while_others_still_wait_has_no_overhead_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of several choices, or of the parts of a document, has text: the others' wait is no time of ours."""
    now = 100.0
    monkeypatch.setattr(exchange, "monotonic", lambda: now)
    one = Exchange(Record("r", "", "", "", ""), lambda ended: None)
    now = 100.25
    with one.waiting(), one.waiting():
        now = 103.0
        one.head_sent(200)
        now = 104.0
    assert one.record.overhead_seconds == 0.25
    assert one.waited == 3.75, "and nothing counts twice"


def test_why_the_backend_failed_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The record has a code only, and the client alone would know more."""
    for error in (errors.upstream("CUDA error"), errors.protocol("an empty answer"), errors.bad_request("what the client said")):
        one = Exchange(Record("req_1", "", "", "", ""), lambda ended: None)
        one.fail(error)
        one.fail(errors.upstream("too late"))
        assert (one.record.outcome, one.record.code) == (error.outcome, error.code)
    assert [message.partition(": ")[0] for message in caplog.messages] == ["request req_1 failed"] * 2
    assert "CUDA error" in caplog.text and "an empty answer" in caplog.text
