"""The serving dashboard's rows about the gateway itself, and what all of its rows share: whose numbers, and their names."""

from localmodel.api import metrics
from localmodel.api.metrics import Metric
from localmodel.monitoring.grafana import Panel, Row, Target
from localmodel.monitoring.promql import MODEL, aggregate, quantile, rate, select

CHOSEN = ('namespace=~"$namespace"', 'localmodel=~"$localmodel"')
ONE_MODEL = "{{namespace}}/{{localmodel}}"


def quantiles(metric: Metric) -> tuple[Target, ...]:
    return (
        Target(quantile(0.5, MODEL, metric, CHOSEN), f"{ONE_MODEL} p50"),
        Target(quantile(0.99, MODEL, metric, CHOSEN), f"{ONE_MODEL} p99"),
    )


BACKEND = Row(
    "When something fails or does not fit",
    (
        Panel(
            "Sent again",
            "Requests that the engine lost, by what came of sending them again; no_budget was not sent.",
            (Target(rate(("result",), metrics.GATEWAY_RETRIES, CHOSEN), "{{result}}"),),
            unit="reqps",
        ),
        Panel(
            "Circuit breaker",
            "Gateways by the state that their breaker is in; open ones answer 503 without asking the engine.",
            (Target(aggregate("sum", (*MODEL, "state"), metrics.GATEWAY_BREAKER, CHOSEN), f"{ONE_MODEL} {{{{state}}}}"),),
        ),
        Panel(
            "Event stream cuts",
            "How often the engine's one event stream was cut and resumed, by reason. Should be zero.",
            (Target(rate((*MODEL, "reason"), metrics.GATEWAY_EVENT_STREAM_CUTS, CHOSEN), f"{ONE_MODEL} {{{{reason}}}}"),),
        ),
        Panel(
            "Long input",
            "Parts in which documents that are too long were read, and tokens left out of chats, per second.",
            (
                Target(rate(MODEL, metrics.GATEWAY_SEGMENTS, CHOSEN), f"{ONE_MODEL} parts"),
                Target(rate(MODEL, metrics.GATEWAY_TRUNCATED_TOKENS, CHOSEN), f"{ONE_MODEL} tokens left out"),
            ),
        ),
    ),
)

GATEWAY = Row(
    "Gateway",
    (
        Panel(
            "Overhead",
            "The gateway's own time before the first byte of an answer.",
            quantiles(metrics.GATEWAY_OVERHEAD_SECONDS),
            unit="s",
        ),
        Panel(
            "Loop lag",
            "How late a gateway's event loop runs; above 0.1 s it needs more CPU.",
            (Target(select(metrics.GATEWAY_LOOP_LAG_SECONDS, CHOSEN), "{{namespace}}/{{pod}}"),),
            unit="s",
        ),
        Panel(
            "Turned away unread",
            "Requests per second that were not read because the event loop ran late for seconds. Should be zero.",
            (Target(rate(MODEL, metrics.GATEWAY_SHED_BY_LAG, CHOSEN), ONE_MODEL),),
            unit="reqps",
        ),
        Panel(
            "Memory of the queue",
            "What the waiting requests hold.",
            (Target(aggregate("sum", MODEL, metrics.GATEWAY_QUEUE_BYTES, CHOSEN), ONE_MODEL),),
            unit="bytes",
        ),
        Panel(
            "Log records lost",
            "Request records that could not be written, per second and sink. Should be zero.",
            (Target(rate((*MODEL, "sink"), metrics.GATEWAY_LOG_RECORDS_LOST, CHOSEN), f"{ONE_MODEL} {{{{sink}}}}"),),
        ),
    ),
)
