"""The operator's metrics: registered from the table in api/metrics.py, served with prometheus-client.

What can be read when it is asked for is computed at the scrape, so that no gauge can go stale.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from localmodel.api import metrics as names


@dataclass
class Sources:
    """Where the gauges' values come from, as functions that never block."""

    bodies: Callable[[], Iterator[dict[str, Any]]]
    queue_depth: Callable[[], int]
    queue_age_seconds: Callable[[], float]
    is_leader: Callable[[], bool]
    watch_ages: Callable[[], dict[str, float]]


class OperatorMetrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        reconcile, writes = names.OPERATOR_RECONCILE_SECONDS, names.OPERATOR_WRITES
        self._reconcile_seconds = Histogram(
            reconcile.name, reconcile.help, reconcile.labels, buckets=reconcile.buckets, registry=self.registry
        )
        self._writes = Counter(writes.name, writes.help, writes.labels, registry=self.registry)

    def attach(self, sources: Sources) -> None:
        self.registry.register(_Gauges(sources))

    async def serve(self, host: str, port: int) -> None:
        """On the event loop, where everything that is read lives too."""
        application = web.Application()
        application.add_routes([web.get("/metrics", self._answer)])
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()

    async def _answer(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def observe_reconcile(self, result: str, seconds: float) -> None:
        self._reconcile_seconds.labels(result).observe(seconds)

    def count_write(self, verb: str, resource: str) -> None:
        self._writes.labels(verb, resource).inc()


class _Gauges(Collector):
    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        sources = self._sources
        yield _gauge(names.OPERATOR_QUEUE_DEPTH, {(): sources.queue_depth()})
        yield _gauge(names.OPERATOR_QUEUE_AGE_SECONDS, {(): sources.queue_age_seconds()})
        yield _gauge(names.OPERATOR_LEADER, {(): float(sources.is_leader())})
        yield _gauge(names.OPERATOR_WATCH_AGE_SECONDS, {(name,): age for name, age in sources.watch_ages().items()})
        models: Tally[tuple[str, ...]] = Tally()
        changes: Tally[tuple[str, ...]] = Tally()
        memory: dict[tuple[str, ...], float] = {}
        for body in sources.bodies():
            metadata, status = body["metadata"], body.get("status", {})
            ready, reason = _ready_of(metadata, status)
            models[(ready, reason)] += 1
            if change := _condition(status, "Progressing"):
                changes[(ready, change["reason"])] += 1
            if planned := status.get("memory", {}).get("plannedBytes"):
                memory[(metadata["namespace"], metadata["name"])] = planned * body["spec"].get("replicas", 1)
        yield _gauge(names.OPERATOR_MODELS, dict(models))
        yield _gauge(names.OPERATOR_CHANGES, dict(changes))
        yield _gauge(names.OPERATOR_PLANNED_MEMORY_BYTES, memory)


def _ready_of(metadata: dict[str, Any], status: dict[str, Any]) -> tuple[str, str]:
    if "deletionTimestamp" in metadata:
        return "False", "Deleting"
    ready = _condition(status, "Ready")
    return (ready["status"], ready["reason"]) if ready else ("Unknown", "NotReconciled")


def _condition(status: dict[str, Any], type_: str) -> dict[str, Any] | None:
    return next((c for c in status.get("conditions", ()) if c["type"] == type_), None)


def _gauge(metric: names.Metric, values: dict[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(list(labels), value)
    return family
