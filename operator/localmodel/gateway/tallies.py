"""Counters and histograms that cost next to nothing to add to: plain numbers, put into Prometheus' form when somebody scrapes.

For one thread, the event loop's. What is counted, and under which names, is `metrics`' to know.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from localmodel.api import metrics as declared


class Counter:
    __slots__ = ("value",)

    def __init__(self, metric: declared.Metric) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        self.value += amount


class Histogram:
    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, metric: declared.Metric) -> None:
        self._bounds = metric.buckets
        self.counts = [0] * (len(metric.buckets) + 1)
        """Of each bucket alone; the last has no bound."""
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def cumulated(self) -> list[tuple[str, float]]:
        """By upper bound, as Prometheus writes it."""
        buckets, count = [], 0
        for bound, number in zip((*self._bounds, float("inf")), self.counts, strict=True):
            count += number
            buckets.append((floatToGoString(bound), float(count)))  # type: ignore[no-untyped-call]
        return buckets


class Series(Protocol):
    def __init__(self, metric: declared.Metric) -> None: ...


S = TypeVar("S", bound=Series)


class Family(Collector, Generic[S]):
    """All series of one metric. Looking one up costs more than adding to it, so keep it where that counts."""

    def __init__(self, metric: declared.Metric, make: Callable[[declared.Metric], S]) -> None:
        self._metric = metric
        self._make = make
        self._series: dict[tuple[str, ...], S] = {}

    def labels(self, *values: str) -> S:
        series = self._series.get(values)
        if series is None:
            if len(values) != len(self._metric.labels):
                raise ValueError(f"{self._metric.name} has the labels {self._metric.labels}")
            series = self._series[values] = self._make(self._metric)
        return series

    def collect(self) -> Iterator[Metric]:
        name, help_, labels = self._metric.name, self._metric.help, self._metric.labels
        counters = CounterMetricFamily(name, help_, labels=labels)
        histograms = HistogramMetricFamily(name, help_, labels=labels)
        for values, series in self._series.items():
            if isinstance(series, Counter):
                counters.add_metric(values, series.value)
            elif isinstance(series, Histogram):
                histograms.add_metric(values, series.cumulated(), series.total)
        yield counters if self._metric.kind == "counter" else histograms
