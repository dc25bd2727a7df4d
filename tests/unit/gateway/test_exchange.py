"""One request's own clock: what counts as the gateway's time and what as waiting."""

import pytest

from localmodel.gateway import exchange
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
