"""The gateway's metrics, made from their declarations in `api.metrics`; what is counted elsewhere is read from there."""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from localmodel.api import metrics as declared
from localmodel.api.engine_status import EngineStatus
from localmodel.api.gateway import Outcome
from localmodel.gateway.events import CutReason
from localmodel.gateway.gen_ai import GenAi
from localmodel.gateway.record import Endpoint, Record
from localmodel.gateway.retries import Result
from localmodel.gateway.sinks import SinkName
from localmodel.gateway.tallies import Counter, Family, Histogram


class GatewayMetrics:
    def __init__(self, model: str) -> None:
        """Every outcome starts at 0: a series that appears with its first failure would hide that failure from rate()."""
        self.registry = CollectorRegistry()
        self._lost: dict[str, int] = {}
        self._drafts = {"accepted": 0, "rejected": 0}
        self._families = {m.name: self._register(m) for m in (*declared.GATEWAY_METRICS, *declared.GEN_AI_METRICS)}
        self._gen_ai = GenAi(self.of)
        self._requests = {
            (outcome, endpoint): self.of(declared.GATEWAY_REQUESTS).labels(outcome, endpoint, model)
            for outcome, endpoint in product(get_args(Outcome), get_args(Endpoint))
        }
        self._seconds = {each: self.of(declared.GATEWAY_REQUEST_SECONDS).labels(each) for each in get_args(Endpoint)}
        self._queue = self.of(declared.GATEWAY_QUEUE_SECONDS)
        self._first_token = self.of(declared.GATEWAY_FIRST_TOKEN_SECONDS)
        self._overhead = self.of(declared.GATEWAY_OVERHEAD_SECONDS)
        self._prompt_tokens = self.of(declared.GATEWAY_TOKENS).labels("prompt")
        self._completion_tokens = self.of(declared.GATEWAY_TOKENS).labels("completion")
        for sink in get_args(SinkName):
            self.of(declared.GATEWAY_LOG_RECORDS_LOST).labels(sink)
        for reason in get_args(CutReason):
            self.of(declared.GATEWAY_EVENT_STREAM_CUTS).labels(reason)
        for result in self._drafts:
            self.of(declared.GATEWAY_DRAFTED_TOKENS).labels(result)
        for result in get_args(Result):
            self.of(declared.GATEWAY_RETRIES).labels(result)

    def _register(self, metric: declared.Metric) -> Any:
        if metric.kind == "gauge":
            return Gauge(metric.name, metric.help, metric.labels, registry=self.registry)
        family = Family[Any](metric, Counter if metric.kind == "counter" else Histogram)
        self.registry.register(family)
        return family if metric.labels else family.labels()

    def of(self, metric: declared.Metric) -> Any:
        """What has labels must be asked for a series of it."""
        return self._families[metric.name]

    def follow(self, metric: declared.Metric, read: Callable[[], float], *labels: str) -> None:
        """A gauge whose value is asked for when somebody scrapes."""
        gauge = self.of(metric)
        (gauge.labels(*labels) if labels else gauge).set_function(read)

    def count(self, record: Record) -> None:
        """All that one ended request adds."""
        self._requests[record.outcome, record.endpoint].inc()
        self._seconds[record.endpoint].observe(record.total_seconds)
        if record.prompt_tokens:
            self._prompt_tokens.inc(record.prompt_tokens)
        if record.completion_tokens:
            self._completion_tokens.inc(record.completion_tokens)
        if record.segments:
            self.of(declared.GATEWAY_SEGMENTS).inc(record.segments)
        if record.truncated_tokens:
            self.of(declared.GATEWAY_TRUNCATED_TOKENS).inc(record.truncated_tokens)
        if record.queue_seconds is not None:
            self._queue.observe(record.queue_seconds)
        if record.first_token_seconds is not None:
            self._first_token.observe(record.first_token_seconds)
        if record.overhead_seconds is not None:
            self._overhead.observe(record.overhead_seconds)
        self._gen_ai.count(record)

    def count_lost(self, lost: Mapping[str, int]) -> None:
        """Brings the counter to the log's own numbers, by sink."""
        for sink, number in lost.items():
            self.of(declared.GATEWAY_LOG_RECORDS_LOST).labels(sink).inc(number - self._lost.get(sink, 0))
            self._lost[sink] = number

    def count_drafts(self, engine: EngineStatus) -> None:
        """Brings the counter to the engine's own numbers, which begin at 0 again with each engine."""
        accepted = engine.accepted_tokens_total
        for result, number in (("accepted", accepted), ("rejected", engine.drafted_tokens_total - accepted)):
            before = self._drafts[result]
            self.of(declared.GATEWAY_DRAFTED_TOKENS).labels(result).inc(number - before if number >= before else number)
            self._drafts[result] = number

    def render(self) -> bytes:
        return bytes(generate_latest(self.registry))
