"""PromQL from declared metrics, so that a renamed metric or a wrong label fails when this is imported, not in Grafana.

Prometheus adds labels at the scrape that the processes do not know: `namespace` and `pod` (every usual Kubernetes
scrape configuration has them) and `localmodel`, the pod label localmodel.dev/name (the chart's PodMonitor adds it;
docs/reference/metrics.md shows the same for a plain scrape configuration). Where a process sets `namespace` itself,
its word counts (`honor_labels: true`). This must not contain a metric's name.
"""

import re
from collections.abc import Sequence

from localmodel.api.metrics import Metric

SCRAPE_LABELS = {
    "namespace": "Namespace of the pod.",
    "pod": "Name of the pod.",
    "localmodel": "Name of the LocalModel: the pod label `localmodel.dev/name`. On gateways only.",
}
MODEL = ("namespace", "localmodel")
"""What one model is told apart by."""

DASHBOARD_WINDOW = "$__rate_interval"
"""Grafana's own choice: never shorter than four scrapes."""


def select(metric: Metric, matchers: Sequence[str] = (), *, window: str = "", suffix: str = "") -> str:
    """`name{matchers}[window]`. Matchers are PromQL, such as `outcome=~"shed"`; their labels are checked."""
    for matcher in matchers:
        _check_label(metric, re.split("[!=]", matcher, maxsplit=1)[0])
    braces = "{" + ", ".join(matchers) + "}" if matchers else ""
    return f"{metric.name}{suffix}{braces}" + (f"[{window}]" if window else "")


def aggregate(function: str, by: Sequence[str], metric: Metric, matchers: Sequence[str] = ()) -> str:
    """A gauge over pods: `sum by (namespace, localmodel) (...)`."""
    return f"{function}{_by(metric, by)} ({select(metric, matchers)})"


def rate(by: Sequence[str], metric: Metric, matchers: Sequence[str] = (), *, window: str = DASHBOARD_WINDOW) -> str:
    """A counter, or how often a histogram was observed, per second."""
    suffix = "_count" if metric.kind == "histogram" else ""
    return f"sum{_by(metric, by)} (rate({select(metric, matchers, window=window, suffix=suffix)}))"


def quantile(
    share: float, by: Sequence[str], metric: Metric, matchers: Sequence[str] = (), *, window: str = DASHBOARD_WINDOW
) -> str:
    """A histogram's quantile over all pods of a group."""
    if metric.kind != "histogram":
        raise ValueError(f"{metric.name} is a {metric.kind}, not a histogram")
    buckets = select(metric, matchers, window=window, suffix="_bucket")
    return f"histogram_quantile({share}, sum{_by(metric, ('le', *by))} (rate({buckets})))"


def _by(metric: Metric, labels: Sequence[str]) -> str:
    for label in labels:
        _check_label(metric, label)
    return f" by ({', '.join(labels)})" if labels else ""


def _check_label(metric: Metric, label: str) -> None:
    known = {*metric.labels, *SCRAPE_LABELS, *(("le",) if metric.kind == "histogram" else ())}
    if label not in known:
        raise ValueError(f"{metric.name} has no label {label!r}, only {', '.join(sorted(known))}")
