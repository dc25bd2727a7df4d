"""The dashboard of whoever answers for the models: does it answer, how fast, how full, and why not."""

from localmodel.api import metrics
from localmodel.api.metrics import Metric
from localmodel.monitoring.grafana import Dashboard, Panel, Row, Target, Variable
from localmodel.monitoring.outcomes import FAILED, SHED, one_of
from localmodel.monitoring.promql import MODEL, aggregate, quantile, rate, select

_CHOSEN = ('namespace=~"$namespace"', 'localmodel=~"$localmodel"')
_MODEL = "{{namespace}}/{{localmodel}}"


def _quantiles(metric: Metric) -> tuple[Target, ...]:
    return (
        Target(quantile(0.5, MODEL, metric, _CHOSEN), f"{_MODEL} p50"),
        Target(quantile(0.99, MODEL, metric, _CHOSEN), f"{_MODEL} p99"),
    )


def _share(outcomes: tuple[str, ...]) -> str:
    """0 for a model that has requests and none of these, nothing for one without requests."""
    requests = metrics.GATEWAY_REQUESTS
    part, whole = rate(MODEL, requests, (*_CHOSEN, one_of(outcomes))), rate(MODEL, requests, _CHOSEN)
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


_NOW = Row(
    "Now",
    (
        Panel(
            "Ready replicas",
            "Pods that answer a request sent now.",
            (Target(aggregate("sum", MODEL, metrics.GATEWAY_READY, _CHOSEN), _MODEL),),
            kind="stat",
        ),
        Panel(
            "Shed",
            "Share of requests refused, or given up in the queue, because all slots were taken.",
            (Target(_share(SHED), _MODEL),),
            unit="percentunit",
            kind="stat",
        ),
        Panel(
            "Failed",
            "Share of requests that were taken in and not answered.",
            (Target(_share(FAILED), _MODEL),),
            unit="percentunit",
            kind="stat",
        ),
    ),
)

_REQUESTS = Row(
    "Requests",
    (
        Panel(
            "Requests by outcome",
            "How requests ended.",
            (Target(rate(("outcome",), metrics.GATEWAY_REQUESTS, _CHOSEN), "{{outcome}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Requests by endpoint",
            "What clients call.",
            (Target(rate(("endpoint",), metrics.GATEWAY_REQUESTS, _CHOSEN), "{{endpoint}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Whole request",
            "Request head to last byte, by endpoint.",
            (
                Target(quantile(0.5, ("endpoint",), metrics.GATEWAY_REQUEST_SECONDS, _CHOSEN), "{{endpoint}} p50"),
                Target(quantile(0.99, ("endpoint",), metrics.GATEWAY_REQUEST_SECONDS, _CHOSEN), "{{endpoint}} p99"),
            ),
            unit="s",
        ),
        Panel(
            "First token",
            "From sending to the engine to the first token.",
            _quantiles(metrics.GATEWAY_FIRST_TOKEN_SECONDS),
            unit="s",
        ),
        Panel(
            "Per token",
            "Mean time per token after the first, of one request.",
            _quantiles(metrics.GATEWAY_PER_TOKEN_SECONDS),
            unit="s",
        ),
        Panel(
            "Tokens",
            "Tokens per second: read (prompt), written (completion), and written after the client had left (wasted).",
            (
                Target(rate(("kind",), metrics.GATEWAY_TOKENS, _CHOSEN), "{{kind}}"),
                Target(rate((), metrics.GATEWAY_WASTED_TOKENS, _CHOSEN), "wasted"),
            ),
            unit="short",
        ),
    ),
)

_CAPACITY = Row(
    "Capacity",
    (
        Panel(
            "Slots",
            "Requests running in the engine, and how many may.",
            (
                Target(aggregate("sum", MODEL, metrics.GATEWAY_SLOTS_IN_USE, _CHOSEN), f"{_MODEL} in use"),
                Target(aggregate("sum", MODEL, metrics.GATEWAY_SLOTS, _CHOSEN), f"{_MODEL} slots"),
            ),
            width=12,
        ),
        Panel(
            "Queue",
            "Requests that wait for a slot.",
            (Target(aggregate("sum", MODEL, metrics.GATEWAY_QUEUE_LENGTH, _CHOSEN), _MODEL),),
            width=12,
        ),
        Panel(
            "Time in the queue",
            "Of requests that got a slot.",
            _quantiles(metrics.GATEWAY_QUEUE_SECONDS),
            unit="s",
            width=12,
        ),
        Panel(
            "KV cache",
            "Tokens that the engine's cache holds and can hold.",
            (Target(aggregate("sum", (*MODEL, "kind"), metrics.GATEWAY_KV_TOKENS, _CHOSEN), f"{_MODEL} {{{{kind}}}}"),),
            width=12,
        ),
    ),
)

_BACKEND = Row(
    "When something fails or does not fit",
    (
        Panel(
            "Sent again",
            "Requests that the engine lost, by what came of sending them again; no_budget was not sent.",
            (Target(rate(("result",), metrics.GATEWAY_RETRIES, _CHOSEN), "{{result}}"),),
            unit="reqps",
        ),
        Panel(
            "Circuit breaker",
            "Gateways by the state that their breaker is in; open ones answer 503 without asking the engine.",
            (Target(aggregate("sum", (*MODEL, "state"), metrics.GATEWAY_BREAKER, _CHOSEN), f"{_MODEL} {{{{state}}}}"),),
        ),
        Panel(
            "Long input",
            "Parts in which documents that are too long were read, and tokens left out of chats, per second.",
            (
                Target(rate(MODEL, metrics.GATEWAY_SEGMENTS, _CHOSEN), f"{_MODEL} parts"),
                Target(rate(MODEL, metrics.GATEWAY_TRUNCATED_TOKENS, _CHOSEN), f"{_MODEL} tokens left out"),
            ),
        ),
    ),
)

_GATEWAY = Row(
    "Gateway",
    (
        Panel(
            "Overhead",
            "The gateway's own time before the first byte of an answer.",
            _quantiles(metrics.GATEWAY_OVERHEAD_SECONDS),
            unit="s",
        ),
        Panel(
            "Loop lag",
            "How late a gateway's event loop runs; above 0.1 s it needs more CPU.",
            (Target(select(metrics.GATEWAY_LOOP_LAG_SECONDS, _CHOSEN), "{{namespace}}/{{pod}}"),),
            unit="s",
        ),
        Panel(
            "Turned away unread",
            "Requests per second that were not read because the event loop ran late for seconds. Should be zero.",
            (Target(rate(MODEL, metrics.GATEWAY_SHED_BY_LAG, _CHOSEN), _MODEL),),
            unit="reqps",
        ),
        Panel(
            "Memory of the queue",
            "What the waiting requests hold.",
            (Target(aggregate("sum", MODEL, metrics.GATEWAY_QUEUE_BYTES, _CHOSEN), _MODEL),),
            unit="bytes",
        ),
        Panel(
            "Log records lost",
            "Request records that could not be written, per second and sink. Should be zero.",
            (Target(rate((*MODEL, "sink"), metrics.GATEWAY_LOG_RECORDS_LOST, _CHOSEN), f"{_MODEL} {{{{sink}}}}"),),
        ),
    ),
)

_READY = metrics.GATEWAY_READY
SERVING = Dashboard(
    uid="localmodel-serving",
    title="LocalModel / Serving",
    description="Every model: ready, requests, latency, capacity.",
    rows=(_NOW, _REQUESTS, _CAPACITY, _BACKEND, _GATEWAY),
    variables=(
        Variable("namespace", "Namespace", f"label_values({select(_READY)}, namespace)"),
        Variable("localmodel", "LocalModel", f"label_values({select(_READY, _CHOSEN[:1])}, localmodel)"),
    ),
)
