"""Alerts a person is woken by: each says what is wrong, has a runbook that says what to do, and names real outcomes."""

import re
from pathlib import Path
from typing import get_args

import pytest

from localmodel.api.gateway import Outcome
from localmodel.monitoring.alerts import ALERTS, render_rules
from localmodel.monitoring.outcomes import FAILED, SHED

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_the_runbook_says_what_it_means_how_to_look_and_what_to_do(alert):
    text = (ROOT / alert.runbook).read_text()
    assert text.startswith(f"# {alert.name}\n")
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings == ["What it means", "How to look", "What to do"]
    assert "kubectl" in text


def test_every_runbook_belongs_to_an_alert():
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_templates_use_labels_that_survive_the_aggregation(alert):
    kept = re.search(r"by \(([^)]*)\)", alert.expression)
    used = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.description))
    assert used <= set(kept[1].split(", ") if kept else ())


def test_rules_have_what_alertmanager_routes_and_people_read():
    (group,) = render_rules()["groups"]
    assert len(group["rules"]) == len(ALERTS)
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}


def test_every_outcome_of_a_request_is_ours_to_repair_or_too_little_capacity_or_neither():
    """A new outcome must be put into one of the three, or nobody is told of it."""
    neither = ("ok", "client_closed", "rejected", "unauthorized", "rate_limited", "drained")
    assert sorted((*FAILED, *SHED, *neither)) == sorted(get_args(Outcome))
