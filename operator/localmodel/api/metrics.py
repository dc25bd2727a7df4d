"""Every metric's name, type, help and labels: the one source for code, dashboards, alert rules and docs.

Declarations only; the processes that own the metrics register them with prometheus-client.
"""

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

GATEWAY_REQUESTS = Metric(
    "localmodel_gateway_requests_total", "counter", "Requests by how they ended.", ("outcome", "endpoint", "model")
)
GATEWAY_SLOTS = Metric("localmodel_gateway_slots", "gauge", "Requests that may run at once.")
GATEWAY_SLOTS_IN_USE = Metric("localmodel_gateway_slots_in_use", "gauge", "Requests running in the engine.")
GATEWAY_QUEUE_LENGTH = Metric("localmodel_gateway_queue_length", "gauge", "Requests waiting for a slot.")
GATEWAY_QUEUE_BYTES = Metric("localmodel_gateway_queue_bytes", "gauge", "What the waiting requests hold in the gateway's memory.")
GATEWAY_QUEUE_SECONDS = Metric("localmodel_gateway_queue_seconds", "histogram", "Time in the queue.", (), _LATENCY)
GATEWAY_FIRST_TOKEN_SECONDS = Metric(
    "localmodel_gateway_first_token_seconds",
    "histogram",
    "From sending to the engine to the first token.",
    (),
    _LATENCY,
)
GATEWAY_PER_TOKEN_SECONDS = Metric(
    "localmodel_gateway_per_token_seconds", "histogram", "Mean time per token after the first, of one request.", (),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)  # fmt: skip
GATEWAY_REQUEST_SECONDS = Metric(
    "localmodel_gateway_request_seconds",
    "histogram",
    "Request head to last byte.",
    ("endpoint",),
    (*_LATENCY, 120, 300, 600),
)
GATEWAY_TOKENS = Metric("localmodel_gateway_tokens_total", "counter", "Tokens by kind: prompt, completion.", ("kind",))
GATEWAY_SEGMENTS = Metric("localmodel_gateway_segments_total", "counter", "Parts in which documents that are too long were read.")
GATEWAY_TRUNCATED_TOKENS = Metric(
    "localmodel_gateway_truncated_tokens_total", "counter", "Tokens that were left out of chats that are too long."
)
GATEWAY_WASTED_TOKENS = Metric("localmodel_gateway_wasted_tokens_total", "counter", "Tokens made after their client had left.")
GATEWAY_LOG_RECORDS_LOST = Metric(
    "localmodel_gateway_log_records_lost_total", "counter", "Request records that could not be written.", ("sink",)
)
GATEWAY_OVERHEAD_SECONDS = Metric(
    "localmodel_gateway_overhead_seconds", "histogram", "The gateway's own time before the first byte of an answer.", (),
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1),
)  # fmt: skip
GATEWAY_LOOP_LAG_SECONDS = Metric("localmodel_gateway_loop_lag_seconds", "gauge", "How late the event loop runs.")
GATEWAY_SHED_BY_LAG = Metric(
    "localmodel_gateway_shed_by_lag_total", "counter", "Requests turned away unread because the event loop ran late for seconds."
)
GATEWAY_READY = Metric("localmodel_gateway_ready", "gauge", "1 if a request sent now is answered.")
GATEWAY_KV_TOKENS = Metric(
    "localmodel_gateway_kv_tokens",
    "gauge",
    "KV cache of the engine in tokens: capacity, used, and reserved for the longest answers of what runs.",
    ("kind",),
)
GATEWAY_DRAFTED_TOKENS = Metric(
    "localmodel_gateway_drafted_tokens_total",
    "counter",
    "Tokens that the engine guessed from the text so far and verified: accepted ones saved a step each, rejected ones were work "
    "for nothing.",
    ("result",),
)
GATEWAY_RETRIES = Metric(
    "localmodel_gateway_retries_total",
    "counter",
    "Failed requests sent to the engine again, by what came of it: answered, failed, or not sent: no_budget.",
    ("result",),
)
GATEWAY_EVENT_STREAM_CUTS = Metric(
    "localmodel_gateway_event_stream_cuts_total",
    "counter",
    "Ends of the engine's event stream that nobody wanted, by reason; it is resumed, and the gateway's own log says more.",
    ("reason",),
)
GATEWAY_BREAKER = Metric("localmodel_gateway_breaker", "gauge", "1 for the state that the circuit breaker is in.", ("state",))

_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
GEN_AI_REQUEST_DURATION = Metric(
    "gen_ai_server_request_duration_seconds", "histogram", "Request head to last byte.", (*_GEN_AI, "error_type"),
    (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)  # fmt: skip
GEN_AI_TIME_TO_FIRST_TOKEN = Metric(
    "gen_ai_server_time_to_first_token_seconds", "histogram", "Queue and first token, of answers that ended well.", _GEN_AI,
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
)  # fmt: skip
GEN_AI_TIME_PER_OUTPUT_TOKEN = Metric(
    "gen_ai_server_time_per_output_token_seconds", "histogram", "Per token after the first, of answers that ended well.", _GEN_AI,
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5),
)  # fmt: skip
GEN_AI_TOKEN_USAGE = Metric(
    "gen_ai_client_token_usage", "histogram", "Tokens of one request: input, output.", (*_GEN_AI, "gen_ai_token_type"),
    (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864),
)  # fmt: skip

OPERATOR_RECONCILE_SECONDS = Metric(
    "localmodel_operator_reconcile_seconds", "histogram", "Time of one reconcile.", ("result",), _LATENCY
)
OPERATOR_QUEUE_DEPTH = Metric("localmodel_operator_queue_depth", "gauge", "Keys waiting to be reconciled.")
OPERATOR_QUEUE_AGE_SECONDS = Metric("localmodel_operator_queue_age_seconds", "gauge", "Age of the oldest waiting key.")
OPERATOR_MODELS = Metric("localmodel_operator_models", "gauge", "LocalModels by Ready status and reason.", ("ready", "reason"))
OPERATOR_CHANGES = Metric(
    "localmodel_operator_changes",
    "gauge",
    "LocalModels by Ready status and by what becomes of their last change, the reason of Progressing.",
    ("ready", "reason"),
)
OPERATOR_PLANNED_MEMORY_BYTES = Metric(
    "localmodel_operator_planned_memory_bytes",
    "gauge",
    "Memory planned for a model, all replicas.",
    ("namespace", "name"),
)
OPERATOR_WATCH_AGE_SECONDS = Metric(
    "localmodel_operator_watch_age_seconds",
    "gauge",
    "Seconds since the last event of a watched resource.",
    ("resource",),
)
OPERATOR_LEADER = Metric("localmodel_operator_leader", "gauge", "1 on the replica that may write.")
OPERATOR_WRITES = Metric("localmodel_operator_writes_total", "counter", "Writes to the API server.", ("verb", "resource"))

GATEWAY_METRICS = tuple(m for name, m in list(globals().items()) if name.startswith("GATEWAY_") and isinstance(m, Metric))
OPERATOR_METRICS = tuple(m for name, m in list(globals().items()) if name.startswith("OPERATOR_") and isinstance(m, Metric))
GEN_AI_METRICS = tuple(m for name, m in list(globals().items()) if name.startswith("GEN_AI_") and isinstance(m, Metric))
"""The gateway's, once more under the names of OpenTelemetry's conventions, for dashboards that others made."""
