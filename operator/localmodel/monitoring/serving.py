"""The dashboard of whoever answers for the models: does it answer, how fast, how full, and why not."""

from localmodel.api import metrics
from localmodel.monitoring.gateway_rows import BACKEND, CHOSEN, GATEWAY, ONE_MODEL, quantiles
from localmodel.monitoring.grafana import Dashboard, Panel, Row, Target, Variable
from localmodel.monitoring.outcomes import FAILED, SHED, one_of
from localmodel.monitoring.promql import MODEL, aggregate, quantile, rate, select


def _share(outcomes: tuple[str, ...]) -> str:
    """0 for a model that has requests and none of these, nothing for one without requests."""
    requests = metrics.GATEWAY_REQUESTS
    part, whole = rate(MODEL, requests, (*CHOSEN, one_of(outcomes))), rate(MODEL, requests, CHOSEN)
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


_NOW = Row(
    "Now",
    (
        Panel(
            "Ready replicas",
            "Pods that answer a request sent now.",
            (Target(aggregate("sum", MODEL, metrics.GATEWAY_READY, CHOSEN), ONE_MODEL),),
            kind="stat",
        ),
        Panel(
            "Shed",
            "Share of requests refused, or given up in the queue, because all slots were taken.",
            (Target(_share(SHED), ONE_MODEL),),
            unit="percentunit",
            kind="stat",
        ),
        Panel(
            "Failed",
            "Share of requests that were taken in and not answered.",
            (Target(_share(FAILED), ONE_MODEL),),
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
            (Target(rate(("outcome",), metrics.GATEWAY_REQUESTS, CHOSEN), "{{outcome}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Requests by endpoint",
            "What clients call.",
            (Target(rate(("endpoint",), metrics.GATEWAY_REQUESTS, CHOSEN), "{{endpoint}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Whole request",
            "Request head to last byte, by endpoint.",
            (
                Target(quantile(0.5, ("endpoint",), metrics.GATEWAY_REQUEST_SECONDS, CHOSEN), "{{endpoint}} p50"),
                Target(quantile(0.99, ("endpoint",), metrics.GATEWAY_REQUEST_SECONDS, CHOSEN), "{{endpoint}} p99"),
            ),
            unit="s",
        ),
        Panel(
            "First token",
            "From sending to the engine to the first token.",
            quantiles(metrics.GATEWAY_FIRST_TOKEN_SECONDS),
            unit="s",
        ),
        Panel(
            "Per token",
            "Mean time per token after the first, of one request.",
            quantiles(metrics.GATEWAY_PER_TOKEN_SECONDS),
            unit="s",
        ),
        Panel(
            "Tokens",
            "Tokens per second: read (prompt), written (completion), and written after the client had left (wasted).",
            (
                Target(rate(("kind",), metrics.GATEWAY_TOKENS, CHOSEN), "{{kind}}"),
                Target(rate((), metrics.GATEWAY_WASTED_TOKENS, CHOSEN), "wasted"),
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
                Target(aggregate("sum", MODEL, metrics.GATEWAY_SLOTS_IN_USE, CHOSEN), f"{ONE_MODEL} in use"),
                Target(aggregate("sum", MODEL, metrics.GATEWAY_SLOTS, CHOSEN), f"{ONE_MODEL} slots"),
            ),
            width=12,
        ),
        Panel(
            "Queue",
            "Requests that wait for a slot.",
            (Target(aggregate("sum", MODEL, metrics.GATEWAY_QUEUE_LENGTH, CHOSEN), ONE_MODEL),),
            width=12,
        ),
        Panel(
            "Time in the queue",
            "Of requests that got a slot.",
            quantiles(metrics.GATEWAY_QUEUE_SECONDS),
            unit="s",
            width=12,
        ),
        Panel(
            "Guessed tokens",
            "Tokens per second that the engine guessed from the text and verified. Many accepted: answers come sooner for it. "
            "None at all: guessing did not pay, or the model is on a GPU.",
            (Target(rate((*MODEL, "result"), metrics.GATEWAY_DRAFTED_TOKENS, CHOSEN), f"{ONE_MODEL} {{{{result}}}}"),),
            width=12,
        ),
        Panel(
            "KV cache",
            "Tokens that the engine's cache holds and can hold.",
            (Target(aggregate("sum", (*MODEL, "kind"), metrics.GATEWAY_KV_TOKENS, CHOSEN), f"{ONE_MODEL} {{{{kind}}}}"),),
            width=12,
        ),
    ),
)

_READY = metrics.GATEWAY_READY
SERVING = Dashboard(
    uid="localmodel-serving",
    title="LocalModel / Serving",
    description="Every model: ready, requests, latency, capacity.",
    rows=(_NOW, _REQUESTS, _CAPACITY, BACKEND, GATEWAY),
    variables=(
        Variable("namespace", "Namespace", f"label_values({select(_READY)}, namespace)"),
        Variable("localmodel", "LocalModel", f"label_values({select(_READY, CHOSEN[:1])}, localmodel)"),
    ),
)
