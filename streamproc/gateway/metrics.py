"""What the gateway counts, in a registry of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamproc.gateway.tallies import Durations, Tally
from streamproc.monitor import build_info

if TYPE_CHECKING:
    from streamproc.gateway.load import Load
    from streamproc.gateway.publisher import Publisher

#: From a broker on the same machine to the longest wait that the settings allow by default.
_ACK_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
#: The names that a label may take: a client's own inventions would make a series each.
_FIELDS = frozenset(
    ("device_uuid", "readings", "sensor_uuid", "sensor_id", "value", "ts", "packet_id"),
)
_last_name = re.compile(r"(\w+)(?:\[\d+\])?$")


class Metrics:
    """The gateway's counters, and gauges over its load."""

    def __init__(self, load: Load, publisher: Publisher) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Tally(
            "streamproc_gateway_requests", "Requests answered.", self.registry, ["endpoint", "status"]
        )
        self.readings = Tally(
            "streamproc_gateway_readings_accepted", "Readings that Kafka has acknowledged.", self.registry
        )
        self.refused = Counter(
            "streamproc_gateway_refused",
            "Readings, packets and bodies refused, by kind of problem and field.",
            ["kind", "field"],
            registry=self.registry,
        )
        self.ack_seconds = Durations(
            "streamproc_gateway_ack_seconds",
            "From handing records to Kafka's producer to their acknowledgement.",
            self.registry,
            _ACK_BUCKETS,
        )
        self.unacknowledged = Counter(
            "streamproc_gateway_unacknowledged",
            "Requests answered 503, or 207, because Kafka did not acknowledge.",
            registry=self.registry,
        )
        self._hold(load)
        self.registry.register(_Standing(publisher))

    def _hold(self, load: Load) -> None:
        """Tell what the gateway holds, and its bounds."""
        waiting = Gauge(
            "streamproc_gateway_in_flight_requests",
            "Requests that wait for Kafka.",
            registry=self.registry,
        )
        waiting.set_function(lambda: load.requests)
        held = Gauge("streamproc_gateway_in_flight_bytes", "Bytes of bodies held.", registry=self.registry)
        held.set_function(lambda: load.bytes)
        for name, told, bound in (
            ("requests", "Most requests that may wait for Kafka.", load.limit),
            ("bytes", "Most bytes of bodies that may be held.", load.limit_bytes),
        ):
            Gauge(f"streamproc_gateway_in_flight_{name}_bound", told, registry=self.registry).set(bound)


class _Standing(Collector):
    """What is known of Kafka without asking it."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that being registered asks for nothing."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The gauges of this moment."""
        yield build_info("gateway")
        yield GaugeMetricFamily(
            "streamproc_gateway_kafka_up",
            "Whether the producer is connected and the last records were acknowledged.",
            float(self._publisher.up),
        )
        yield GaugeMetricFamily(
            "streamproc_gateway_queued_batches",
            "Batches in the producer that are not on their way to Kafka yet.",
            self._publisher.queued,
        )


def field_label(path: object) -> str:
    """Reduce a JSON path to a name of the packet's own, so that there are few.

    >>> field_label("readings[3].value"), field_label("readings[0]"), field_label("x"), field_label(None)
    ('value', 'readings', 'other', '')
    """
    if path is None:
        return ""
    match = _last_name.search(str(path))
    return match.group(1) if match and match.group(1) in _FIELDS else "other"
