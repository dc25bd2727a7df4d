"""The alerts. Each is something a person must act on, and has a runbook of the same name that says how.

Thresholds are for people asleep: what heals by itself within minutes must not fire. Nothing here may
depend on a metric of Kubernetes or of another exporter: the rules work with our two scrapes alone.
"""

from dataclasses import dataclass
from typing import Any, Literal

from localmodel.api import metrics
from localmodel.core.reasons import Reason
from localmodel.monitoring.outcomes import FAILED, SHED, one_of
from localmodel.monitoring.promql import MODEL, aggregate, quantile, rate

GROUP = "localmodel"
RUNBOOKS = "docs/runbooks"
INTENDED_REASONS = (Reason.STOPPED, Reason.STOPPING, Reason.PAUSED, "Deleting")
"""Not ready because somebody asked for it. `Deleting` is the operator's word in its metrics only, for a model that goes away."""

_WINDOW = "5m"
_BAD_SHARE = 0.05
_SLOW_SECONDS = 10
_NAME = "{{ $labels.namespace }}/{{ $labels.localmodel }}"


@dataclass(frozen=True)
class Alert:
    name: str
    expression: str
    hold: str
    """How long it must be true before it fires."""
    severity: Literal["critical", "warning"]
    summary: str
    description: str

    @property
    def runbook(self) -> str:
        return f"{RUNBOOKS}/{self.name}.md"


def _share(outcomes: tuple[str, ...]) -> str:
    requests = metrics.GATEWAY_REQUESTS
    part, whole = rate(MODEL, requests, (one_of(outcomes),), window=_WINDOW), rate(MODEL, requests, window=_WINDOW)
    return f"{part} / {whole} > {_BAD_SHARE}"


_INTENDED = "|".join(INTENDED_REASONS)
_UNREADY = aggregate("max", ("ready", "reason"), metrics.OPERATOR_MODELS, ('ready!="True"', f'reason!~"{_INTENDED}"'))
_AS_WANTED = "|".join((Reason.COMPLETE, Reason.UPGRADE_PENDING, Reason.PAUSED))
_UNLIKE_SPEC = aggregate("max", ("ready", "reason"), metrics.OPERATOR_CHANGES, ('ready="True"', f'reason!~"{_AS_WANTED}"'))

ALERTS = (
    Alert(
        "LocalModelNotReady",
        f"sum ({_UNREADY}) > 0",
        "15m",
        "critical",
        "{{ $value }} LocalModels are not ready",
        "For 15 minutes at least one LocalModel has not been ready, and nobody asked for that; now it is {{ $value }}. "
        "`kubectl get localmodels -A` shows which, `kubectl describe localmodel` why.",
    ),
    Alert(
        "LocalModelDegraded",
        f"sum ({_UNLIKE_SPEC}) > 0",
        "30m",
        "warning",
        "{{ $value }} LocalModels serve, but not as their spec wants",
        "For 30 minutes at least one LocalModel that serves has lacked replicas or could not finish a change; "
        "now it is {{ $value }}. `kubectl get localmodels -A` shows which (CHANGE), `kubectl describe localmodel` why.",
    ),
    Alert(
        "LocalModelErrors",
        _share(FAILED),
        "5m",
        "critical",
        f"{_NAME} fails requests",
        f"{{{{ $value | humanizePercentage }}}} of the requests to {_NAME} were taken in and not answered.",
    ),
    Alert(
        "LocalModelOverloaded",
        _share(SHED),
        "10m",
        "warning",
        f"{_NAME} refuses requests: too little capacity",
        f"{{{{ $value | humanizePercentage }}}} of the requests to {_NAME} found no slot in time. "
        "What is taken in is answered; the rest is told to retry.",
    ),
    Alert(
        "LocalModelSlowFirstToken",
        f"{quantile(0.95, MODEL, metrics.GATEWAY_FIRST_TOKEN_SECONDS, window='10m')} > {_SLOW_SECONDS}",
        "10m",
        "warning",
        f"{_NAME} is slow to start its answers",
        f"One request in twenty to {_NAME} waits longer than {{{{ $value | humanizeDuration }}}} for its first token.",
    ),
    Alert(
        "LocalModelLogRecordsLost",
        f"{rate(MODEL, metrics.GATEWAY_LOG_RECORDS_LOST, window='10m')} > 0",
        "5m",
        "warning",
        f"{_NAME} loses records of its request log",
        f"In the last 10 minutes {_NAME} could not write all records of its request log. Requests are answered; "
        "what is lost is counted in the log itself.",
    ),
    Alert(
        "LocalModelOperatorDown",
        f"({aggregate('sum', (), metrics.OPERATOR_LEADER)} or vector(0)) < 1",
        "5m",
        "critical",
        "No LocalModel operator leads",
        "Models keep serving, but no change to a LocalModel is acted upon, no status is current, "
        "and LocalModelNotReady can't fire.",
    ),
)


def render_rules(alerts: tuple[Alert, ...] = ALERTS) -> dict[str, Any]:
    """A Prometheus rule file; the `spec` of a PrometheusRule is the same."""
    return {"groups": [{"name": GROUP, "rules": [_render_alert(alert) for alert in alerts]}]}


def _render_alert(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.hold,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "description": alert.description, "runbook_url": alert.runbook},
    }
