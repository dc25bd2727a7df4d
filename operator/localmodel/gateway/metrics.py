"""The gateway's metrics, registered from their declarations in `api.metrics`; what is counted elsewhere is read from there."""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from localmodel.api import metrics as declared
from localmodel.api.gateway import Outcome
from localmodel.gateway.gen_ai import GenAi
from localmodel.gateway.record import Endpoint, Record
from localmodel.gateway.retries import Result
from localmodel.gateway.sinks import SinkName

_KINDS: dict[str, Any] = {"counter": Counter, "gauge": Gauge}


class GatewayMetrics:
    def __init__(self, model: str) -> None:
        """Every outcome starts at 0: a series that appears with its first failure would hide that failure from rate()."""
        self.registry = CollectorRegistry()
        self._lost: dict[str, int] = {}
        self._known: dict[tuple[str, ...], Any] = {}
        self._metrics = {m.name: self._register(m) for m in (*declared.GATEWAY_METRICS, *declared.GEN_AI_METRICS)}
        self._gen_ai = GenAi(self.of)
        for outcome, endpoint in product(get_args(Outcome), get_args(Endpoint)):
            self.of(declared.GATEWAY_REQUESTS).labels(outcome, endpoint, model)
        for sink in get_args(SinkName):
            self.of(declared.GATEWAY_LOG_RECORDS_LOST).labels(sink)
        for result in get_args(Result):
            self.of(declared.GATEWAY_RETRIES).labels(result)

    def _register(self, metric: declared.Metric) -> Any:
        if metric.kind == "histogram":
            return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self.registry)
        return _KINDS[metric.kind](metric.name, metric.help, metric.labels, registry=self.registry)

    def of(self, metric: declared.Metric) -> Any:
        return self._metrics[metric.name]

    def _series(self, metric: declared.Metric, *labels: str) -> Any:
        """Looking it up once is enough: the lookup costs more than counting. Our label sets are closed lists."""
        key = (metric.name, *labels)
        series = self._known.get(key)
        if series is None:
            series = self._known[key] = self._metrics[metric.name].labels(*labels)
        return series

    def follow(self, metric: declared.Metric, read: Callable[[], float], *labels: str) -> None:
        """A gauge whose value is asked for when somebody scrapes."""
        gauge = self.of(metric)
        (gauge.labels(*labels) if labels else gauge).set_function(read)

    def count(self, record: Record) -> None:
        """All that one ended request adds."""
        self._series(declared.GATEWAY_REQUESTS, record.outcome, record.endpoint, record.model).inc()
        self._series(declared.GATEWAY_REQUEST_SECONDS, record.endpoint).observe(record.total_seconds)
        for metric, number in (
            (self.of(declared.GATEWAY_SEGMENTS), record.segments),
            (self.of(declared.GATEWAY_TRUNCATED_TOKENS), record.truncated_tokens),
            (self._series(declared.GATEWAY_TOKENS, "prompt"), record.prompt_tokens),
            (self._series(declared.GATEWAY_TOKENS, "completion"), record.completion_tokens),
        ):
            if number:
                metric.inc(number)
        for metric, value in (
            (declared.GATEWAY_QUEUE_SECONDS, record.queue_seconds),
            (declared.GATEWAY_FIRST_TOKEN_SECONDS, record.first_token_seconds),
            (declared.GATEWAY_OVERHEAD_SECONDS, record.overhead_seconds),
        ):
            if value is not None:
                self.of(metric).observe(value)
        self._gen_ai.count(record)

    def count_lost(self, lost: Mapping[str, int]) -> None:
        """Brings the counter to the log's own numbers, by sink."""
        for sink, number in lost.items():
            self.of(declared.GATEWAY_LOG_RECORDS_LOST).labels(sink).inc(number - self._lost.get(sink, 0))
            self._lost[sink] = number

    def render(self) -> bytes:
        return bytes(generate_latest(self.registry))
