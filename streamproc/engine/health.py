"""Whether a worker can work, and the present state of its partitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import monotonic, time
from typing import Protocol

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric

from streamproc.core.engine import PartitionState
from streamproc.core.windows import NEVER
from streamproc.engine.outbox import UNCONFIRMED_BYTES
from streamproc.engine.partition import Partition
from streamproc.engine.snapshots import Snapshots, Timer
from streamproc.engine.watchdog import Watchdog
from streamproc.kafka import health
from streamproc.kafka.transport import ChunkedApp
from streamproc.monitor import Check

#: Records of a partition that may wait at a worker that calls itself ready: about a second's work.
READY_LAG = 200_000
#: A backlog of which nothing is taken in for so long is stuck; a chunk takes 75 ms, a slow broker's answer a second.
STUCK_S = 10.0


class Worker(Protocol):
    """What these checks ask of a worker."""

    app: ChunkedApp
    partitions: dict[int, Partition]
    watchdog: Watchdog
    snapshots: Timer

    @property
    def taken_over(self) -> bool:
        """Whether the assigned partitions are restored."""
        ...

    def lags(self) -> Mapping[int, int | None]:
        """Records of each assigned partition that wait; None where that is not known yet."""
        ...


def checks(worker: Worker) -> list[Check]:
    """The checks of `/ready`; a worker without partitions stands by, ready."""
    if not worker.taken_over or worker.app.rebalancing:
        partitions = Check("partitions", False, "being assigned and restored")
    else:
        partitions = Check("partitions", True, f"has {len(worker.partitions)}")
    lags = worker.lags() if worker.taken_over else {}
    return [
        partitions,
        health.broker_check(worker.app),
        health.lag_check({str(number): lag for number, lag in lags.items()}, READY_LAG),
        _progress(worker, lags),
    ]


def _progress(worker: Worker, lags: Mapping[int, int | None]) -> Check:
    idle = {
        number: worker.watchdog.idle_s(number, lag, worker.partitions[number].progressed, monotonic())
        for number, lag in lags.items()
        if number in worker.partitions
    }
    stuck = {number: round(seconds) for number, seconds in idle.items() if seconds > STUCK_S}
    if stuck:
        return Check(
            "progress", False, f"seconds without progress in spite of a backlog, by partition: {stuck}"
        )
    return Check("progress", True, "no backlog stands still")


def gauges(worker: Worker) -> Iterable[Metric]:
    """The state of this worker's partitions, and its connection with Kafka."""
    yield from health.gauges(worker.app)
    families = {name: GaugeMetricFamily(name, told, labels=["partition"]) for name, told in _TOLD.items()}
    lags = worker.lags() if worker.taken_over else {}
    for number, partition in worker.partitions.items():
        values = _values(partition) | _snapshot_values(worker.snapshots.held(number))
        lag = lags.get(number)
        if lag is not None:
            values["streamproc_engine_lag"] = lag
        for name, value in values.items():
            families[name].add_metric([str(number)], value)
    yield from families.values()
    yield GaugeMetricFamily(
        "streamproc_engine_unconfirmed_bytes_bound",
        "Bytes of a partition's messages that may wait for Kafka: beyond it, no further chunk is taken in.",
        UNCONFIRMED_BYTES,
    )


_TOLD = {
    "streamproc_engine_lag": "Records of the partition not yet taken in.",
    "streamproc_engine_sensors": "Sensors known.",
    "streamproc_engine_sensors_withheld": "Sensors that people were not told of as they are now.",
    "streamproc_engine_registry_position": "Position of the registry that the partition is judged by.",
    "streamproc_engine_unconfirmed": "Messages sent that Kafka has not confirmed yet.",
    "streamproc_engine_unconfirmed_bytes": "Their bytes.",
    "streamproc_engine_checkpoint_bytes": "Size of the last checkpoint.",
    "streamproc_engine_checkpoint_cpu_seconds": "CPU time that the last checkpoint took to encode.",
    "streamproc_engine_checkpoint_age_seconds": "Age of the last checkpoint; 0 where nothing has come since.",
    "streamproc_engine_checkpoint_lag": "Records taken in since the last checkpoint: what a restart takes in again.",
    "streamproc_engine_snapshot_bytes": "Size of the last snapshot that this worker has written.",
    "streamproc_engine_snapshot_timestamp": "When the last snapshot was complete, whoever has written it.",
    "streamproc_engine_idle_seconds": "Since the last chunk or tick of the partition.",
    "streamproc_engine_watermark_delay_seconds": (
        "How far behind now windows are closed: the median over the sensors that have one open."
    ),
    "streamproc_engine_watermark_delay_max_seconds": "The same, of the sensor that is furthest behind.",
}


def _values(partition: Partition) -> dict[str, float]:
    state = partition.state
    messages, size = partition.outbox.unconfirmed
    behind = state.next_offset - partition.kept
    median, greatest = watermark_delay(state, round(time() * 1000))
    return {
        "streamproc_engine_sensors": len(state.sensors),
        "streamproc_engine_sensors_withheld": state.attention.withheld,
        "streamproc_engine_registry_position": state.registry_position,
        "streamproc_engine_unconfirmed": messages,
        "streamproc_engine_unconfirmed_bytes": size,
        "streamproc_engine_checkpoint_bytes": partition.checkpoints.bytes,
        "streamproc_engine_checkpoint_cpu_seconds": partition.checkpoint_cpu_s,
        "streamproc_engine_checkpoint_age_seconds": monotonic() - partition.checkpointed if behind else 0.0,
        "streamproc_engine_checkpoint_lag": behind,
        "streamproc_engine_idle_seconds": monotonic() - partition.progressed,
        "streamproc_engine_watermark_delay_seconds": median,
        "streamproc_engine_watermark_delay_max_seconds": greatest,
    }


def _snapshot_values(held: Snapshots | None) -> dict[str, float]:
    """What is known of the last snapshot; an empty value would be one of 1970."""
    values = {
        "streamproc_engine_snapshot_bytes": held.bytes if held else 0,
        "streamproc_engine_snapshot_timestamp": held.taken_at if held else 0.0,
    }
    return {name: value for name, value in values.items() if value}


def watermark_delay(state: PartitionState, now_ms: int) -> tuple[float, float]:
    """Seconds from the time up to which windows are closed to now: median and greatest; 0 where no window is open.

    Only sensors with an open base window count: one that is silent has nothing left to close. In good order it is the
    allowed lateness and up to a window more. 0.4 ms for 25,000 sensors, at each scrape.
    """
    base = state.open[0]
    sensors = len(base.rows) // base.depth
    held = (base.rows.start != NEVER).reshape(sensors, base.depth).any(axis=1)
    closed = state.watermarks.closed[:sensors][held]
    closed = closed[closed != NEVER]
    if not len(closed):
        return 0.0, 0.0
    return float(now_ms - np.median(closed)) / 1000, float(now_ms - closed.min()) / 1000
