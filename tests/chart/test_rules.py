"""Alert rules by Prometheus' own tool: each alert fires when it must, and keeps quiet when it must.

promtool plays the samples; a case says for how long, and which alerts a person then has.
"""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from chart.prometheus import promtool
from localmodel.monitoring.alerts import ALERTS

RULES = Path(__file__).resolve().parents[2] / "charts/localmodel-operator/files/monitoring/rules.yaml"
MODEL = 'namespace="llm", localmodel="qwen"'


def requests(outcome: str) -> str:
    return f'localmodel_gateway_requests_total{{{MODEL}, pod="a", outcome="{outcome}", endpoint="chat", model="qwen"}}'


def first_token(le: str) -> str:
    return f'localmodel_gateway_first_token_seconds_bucket{{{MODEL}, pod="a", le="{le}"}}'


def histogram(within_10: str, within_30: str) -> dict[str, str]:
    return {first_token("10"): within_10, first_token("30"): within_30, first_token("+Inf"): within_30}


def models(ready: str, reason: str, pod: str = "a") -> str:
    return f'localmodel_operator_models{{pod="{pod}", ready="{ready}", reason="{reason}"}}'


def changes(ready: str, reason: str) -> str:
    return f'localmodel_operator_changes{{pod="a", ready="{ready}", reason="{reason}"}}'


def lost(sink: str) -> str:
    return f'localmodel_gateway_log_records_lost_total{{{MODEL}, pod="a", sink="{sink}"}}'


def leader(pod: str) -> str:
    return f'localmodel_operator_leader{{pod="{pod}"}}'


class Case(NamedTuple):
    alert: str
    what: str
    series: dict[str, str]
    at: str
    fires: tuple[dict[str, str], ...]


NAMED = ({"namespace": "llm", "localmodel": "qwen"},)
CRASHING = {models("False", "Starting"): "1 0 " * 30, models("False", "CrashLoop"): "0 1 " * 30}
AS_WANTED = ("Complete", "UpgradePending", "Paused")
CASES = (
    Case("LocalModelNotReady", "failed", {models("False", "LoadFailed"): "2x60"}, "16m", ({},)),
    Case("LocalModelNotReady", "unknown", {models("Unknown", "Silent"): "1x60"}, "16m", ({},)),
    Case("LocalModelNotReady", "reason-changes", CRASHING, "16m", ({},)),
    Case("LocalModelNotReady", "still-loading", {models("False", "Loading"): "1x60"}, "14m", ()),
    Case("LocalModelNotReady", "ready", {models("True", "Ready"): "9x60"}, "30m", ()),
    Case("LocalModelNotReady", "asked-for", {models("False", "Stopped"): "1x60", models("False", "Deleting"): "1x60"}, "30m", ()),
    Case("LocalModelDegraded", "blocked", {changes("True", "Blocked"): "1x60"}, "31m", ({},)),
    Case("LocalModelDegraded", "one-replica-starts-for-ever", {changes("True", "Starting"): "1x60"}, "31m", ({},)),
    Case("LocalModelDegraded", "roll-out", {changes("True", "RollingOut"): "1x20 0x40"}, "31m", ()),
    Case("LocalModelDegraded", "as-wanted", {changes("True", each): "1x60" for each in AS_WANTED}, "60m", ()),
    Case("LocalModelDegraded", "not-ready-is-another-alert", {changes("False", "Blocked"): "1x60"}, "60m", ()),
    Case("LocalModelErrors", "one-in-ten", {requests("ok"): "0+9x60", requests("upstream_error"): "0+1x60"}, "11m", NAMED),
    Case("LocalModelErrors", "one-in-fifty", {requests("ok"): "0+49x60", requests("internal_error"): "0+1x60"}, "30m", ()),
    Case("LocalModelErrors", "one-at-night", {requests("ok"): "0x60", requests("idle_timeout"): "0x9 1x50"}, "14m", ()),
    Case("LocalModelErrors", "clients-leave", {requests("ok"): "0+1x60", requests("client_closed"): "0+9x60"}, "30m", ()),
    Case("LocalModelOverloaded", "shed", {requests("ok"): "0+9x60", requests("shed"): "0+1x60"}, "16m", NAMED),
    Case("LocalModelOverloaded", "waited", {requests("ok"): "0+9x60", requests("queue_timeout"): "0+1x60"}, "16m", NAMED),
    Case("LocalModelOverloaded", "burst", {requests("ok"): "0+9x60", requests("shed"): "0x9 90x50"}, "16m", ()),
    Case("LocalModelOverloaded", "busy", {requests("ok"): "0+900x60", requests("shed"): "0+1x60"}, "30m", ()),
    Case("LocalModelSlowFirstToken", "slow", histogram("0+8x60", "0+10x60"), "25m", NAMED),
    Case("LocalModelSlowFirstToken", "quick", histogram("0+99x60", "0+100x60"), "30m", ()),
    Case("LocalModelSlowFirstToken", "idle", histogram("7x60", "9x60"), "30m", ()),
    Case("LocalModelLogRecordsLost", "a-burst", {lost("stdout"): "0x9 40x50"}, "16m", NAMED),
    Case("LocalModelLogRecordsLost", "long-ago", {lost("stdout"): "40x60"}, "30m", ()),
    Case("LocalModelOperatorDown", "not-scraped", {}, "6m", ({},)),
    Case("LocalModelOperatorDown", "no-leader", {leader("a"): "0x60"}, "6m", ({},)),
    Case("LocalModelOperatorDown", "failover", {leader("a"): "1x3 0x2 1x60"}, "6m", ()),
    Case("LocalModelOperatorDown", "leader-and-standby", {leader("a"): "1x60", leader("b"): "0x60"}, "30m", ()),
)  # fmt: skip


def test_rules_are_valid():
    result = promtool("check", "rules", str(RULES))
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    for alert in ALERTS:
        assert {bool(case.fires) for case in CASES if case.alert == alert.name} == {True, False}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.what}")
def test_alert_fires_when_it_must_and_only_then(case, tmp_path):
    result = promtool("test", "rules", str(write_case(tmp_path, case)))
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_wrong_expectation_fails(tmp_path):
    """The control: promtool does compare."""
    case = next(case for case in CASES if case.fires)
    assert promtool("test", "rules", str(write_case(tmp_path, case._replace(fires=())))).returncode != 0


def write_case(folder: Path, case: Case) -> Path:
    alert = next(each for each in ALERTS if each.name == case.alert)
    labels = [{"severity": alert.severity, **labels} for labels in case.fires]
    (folder / "rules.yaml").write_text(without_annotations(RULES.read_text()))
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [
            {"eval_time": case.at, "alertname": case.alert, "exp_alerts": [{"exp_labels": each} for each in labels]}
        ],
    }
    path = folder / "test.yaml"
    path.write_text(json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}))
    return path


def without_annotations(text: str) -> str:
    """promtool compares annotations too; their templates are checked by the unit tests."""
    rules = yaml.safe_load(text)
    for rule in rules["groups"][0]["rules"]:
        del rule["annotations"]
    return yaml.safe_dump(rules)
