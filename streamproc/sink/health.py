"""Whether a sink can work, and the present state of its partitions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from faust.types import TP
from prometheus_client.core import GaugeMetricFamily, Metric

from streamproc.kafka import health
from streamproc.kafka.transport import ChunkedApp
from streamproc.monitor import Check
from streamproc.sink.writer import Writer

#: Records of a partition that may wait at a sink that calls itself ready: some two seconds' work.
READY_LAG = 200_000


class Sink(Protocol):
    """What these checks ask of a sink."""

    app: ChunkedApp
    writer: Writer

    @property
    def assigned(self) -> bool:
        """Whether partitions were given to it."""
        ...


def lags(sink: Sink) -> dict[TP, int | None]:
    """Records of each assigned partition that are not in the database; None where that is not known yet."""
    found: dict[TP, int | None] = {}
    for tp in sink.app.consumer.assignment() if sink.assigned else ():
        done = sink.writer.next_offset((tp.topic, tp.partition))
        end = sink.app.end(tp, done)
        found[tp] = None if end is None else max(end - done, 0)
    return found


def checks(sink: Sink) -> list[Check]:
    """The checks of `/ready`; a sink without partitions stands by, ready."""
    by_name = {f"{tp.topic}/{tp.partition}": lag for tp, lag in lags(sink).items()}
    if not sink.assigned or sink.app.rebalancing:
        partitions = Check("partitions", False, "being assigned")
    else:
        partitions = Check("partitions", True, f"has {len(by_name)}")
    return [
        partitions,
        health.broker_check(sink.app),
        sink.writer.standing.check(),
        health.lag_check(by_name, READY_LAG),
    ]


def gauges(sink: Sink) -> Iterable[Metric]:
    """The state of this sink's partitions, of the database, and of the connection with Kafka."""
    yield from health.gauges(sink.app)
    behind = GaugeMetricFamily(
        "streamproc_sink_lag", "Records that are not in the database yet.", labels=["topic", "partition"]
    )
    for tp, lag in lags(sink).items():
        if lag is not None:
            behind.add_metric([tp.topic, str(tp.partition)], lag)
    yield behind
    yield GaugeMetricFamily(
        "streamproc_sink_database_up",
        "Whether the database answered when it was last asked.",
        float(sink.writer.standing.check().ok),
    )
    bounds = sink.writer.bounds
    yield GaugeMetricFamily("streamproc_sink_batch_rows_bound", "Most rows in one transaction.", bounds.rows)
    yield GaugeMetricFamily(
        "streamproc_sink_batch_bytes_bound",
        "Most bytes of records in one transaction.",
        bounds.size_bytes,
    )
