"""The dashboard of whoever runs the operator: what it sees, whether it keeps up, and what it writes."""

from localmodel.api import metrics
from localmodel.monitoring.grafana import Dashboard, Panel, Row, Target
from localmodel.monitoring.promql import aggregate, quantile, rate

_MODELS = Row(
    "Models",
    (
        Panel(
            "LocalModels by readiness",
            "Ready status and reason of all LocalModels, as the leader sees them.",
            (Target(aggregate("max", ("ready", "reason"), metrics.OPERATOR_MODELS), "{{ready}} {{reason}}"),),
            width=12,
            stacked=True,
        ),
        Panel(
            "LocalModels by change",
            "What becomes of the last change: Complete, or what it waits for, with and without a model that serves meanwhile.",
            (Target(aggregate("max", ("ready", "reason"), metrics.OPERATOR_CHANGES), "{{ready}} {{reason}}"),),
            width=12,
            stacked=True,
        ),
        Panel(
            "Planned memory",
            "Memory planned for a model, all replicas.",
            (Target(aggregate("max", ("namespace", "name"), metrics.OPERATOR_PLANNED_MEMORY_BYTES), "{{namespace}}/{{name}}"),),
            unit="bytes",
            width=24,
            stacked=True,
        ),
    ),
)

_WORK = Row(
    "Work",
    (
        Panel(
            "Leaders",
            "Replicas that may write. Should be one.",
            (Target(aggregate("sum", (), metrics.OPERATOR_LEADER), "leaders"),),
        ),
        Panel(
            "Waiting keys",
            "Keys in the work queue.",
            (Target(aggregate("sum", ("pod",), metrics.OPERATOR_QUEUE_DEPTH), "{{pod}}"),),
        ),
        Panel(
            "Oldest waiting key",
            "Age of the oldest key; it grows when the operator does not keep up.",
            (Target(aggregate("max", ("pod",), metrics.OPERATOR_QUEUE_AGE_SECONDS), "{{pod}}"),),
            unit="s",
        ),
        Panel(
            "Reconciles",
            "Per second, by result.",
            (Target(rate(("result",), metrics.OPERATOR_RECONCILE_SECONDS), "{{result}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Time of a reconcile",
            "By result.",
            (
                Target(quantile(0.5, ("result",), metrics.OPERATOR_RECONCILE_SECONDS), "{{result}} p50"),
                Target(quantile(0.99, ("result",), metrics.OPERATOR_RECONCILE_SECONDS), "{{result}} p99"),
            ),
            unit="s",
        ),
        Panel(
            "Writes to the API server",
            "Per second. A steady cluster has none.",
            (Target(rate(("verb", "resource"), metrics.OPERATOR_WRITES), "{{verb}} {{resource}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Silence of watches",
            "Seconds since the last event of a watched resource. It grows in a quiet cluster and falls with every change.",
            (Target(aggregate("max", ("resource",), metrics.OPERATOR_WATCH_AGE_SECONDS), "{{resource}}"),),
            unit="s",
        ),
    ),
)

OPERATOR = Dashboard(
    uid="localmodel-operator",
    title="LocalModel / Operator",
    description="The operator: models by state, its work queue, its writes, its watches.",
    rows=(_MODELS, _WORK),
)
