"""Counters for each packet that cost one addition: only the gateway's event loop writes and reads them.

prometheus_client's own take a lock and check their arguments: 1.6 µs for the three that a packet needs, instead of 0.6.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import INF, floatToGoString


class Tally(Collector):
    """A counter with these labels."""

    def __init__(
        self, name: str, told: str, registry: CollectorRegistry, labels: Sequence[str] | None = None
    ) -> None:
        self._name, self._told, self._labels = name, told, labels
        self._counts: Counter[tuple[object, ...]] = Counter()
        if not labels:
            self._counts[()] = 0
        registry.register(self)

    def add(self, count: int, *labels: object) -> None:
        """Count so many more."""
        self._counts[labels] += count

    def describe(self) -> Iterable[Metric]:
        """The family, so that there is none of its name besides."""
        yield CounterMetricFamily(self._name, self._told, labels=self._labels)

    def collect(self) -> Iterable[Metric]:
        """The counts so far."""
        family = CounterMetricFamily(self._name, self._told, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric([str(label) for label in labels], count)
        yield family


class Durations(Collector):
    """A histogram of seconds; each of `bounds` is the greatest of its bucket."""

    def __init__(self, name: str, told: str, registry: CollectorRegistry, bounds: Sequence[float]) -> None:
        self._name, self._told, self._bounds = name, told, (*bounds, INF)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Count one that took so long."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def describe(self) -> Iterable[Metric]:
        """The family, so that there is none of its name besides."""
        yield HistogramMetricFamily(self._name, self._told)

    def collect(self) -> Iterable[Metric]:
        """The counts so far."""
        names = map(floatToGoString, self._bounds)
        buckets = list(zip(names, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._told, buckets=buckets, sum_value=self._sum)
