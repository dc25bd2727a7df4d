"""Every query of dashboards and alerts, with Grafana's variables filled in, for whoever wants to run them all.

It must list what the dashboards render, not a second list of its own.
"""

from collections.abc import Iterator
from typing import NamedTuple

from localmodel.monitoring.alerts import ALERTS
from localmodel.monitoring.grafana import Dashboard
from localmodel.monitoring.operator import OPERATOR
from localmodel.monitoring.promql import DASHBOARD_WINDOW
from localmodel.monitoring.serving import SERVING

DASHBOARDS = (SERVING, OPERATOR)


class Query(NamedTuple):
    where: str
    """`dashboard uid: panel`, or the alert's name."""
    expression: str


def list_queries(window: str = "5m") -> Iterator[Query]:
    """All of them; every variable stands at `All`."""
    for dashboard in DASHBOARDS:
        for row in dashboard.rows:
            for panel in row.panels:
                for target in panel.targets:
                    where = f"{dashboard.uid}: {panel.title}: {target.legend}"
                    yield Query(where, _fill(dashboard, target.expression, window))
    for alert in ALERTS:
        yield Query(alert.name, alert.expression)


def _fill(dashboard: Dashboard, expression: str, window: str) -> str:
    filled = expression.replace(DASHBOARD_WINDOW, window)
    for variable in dashboard.variables:
        filled = filled.replace(f'"${variable.name}"', '".*"')
    return filled
