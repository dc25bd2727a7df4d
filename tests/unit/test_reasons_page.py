"""The troubleshooting page can't lose a reason: a place and something to do for each, or generation fails."""

import pytest

from generators import reasons
from localmodel.core.reasons import Reason


def test_every_reason_has_one_row():
    page = reasons.outputs()[reasons.PAGE]
    for reason in Reason:
        assert page.count(f"| `{reason}` |") == 1, reason


def test_a_forgotten_reason_fails(monkeypatch):
    monkeypatch.delitem(reasons._QUIET, Reason.BLOCKED)
    with pytest.raises(ValueError, match="not in this page: \\['Blocked'\\]"):
        reasons.check_complete()


def test_trouble_without_a_hint_fails(monkeypatch):
    monkeypatch.setattr(reasons, "hint", lambda reason: "" if reason == Reason.UNSCHEDULABLE else "Do this.")
    with pytest.raises(ValueError, match="no hint for"):
        reasons.check_complete()
