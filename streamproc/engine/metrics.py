"""The worker's metrics, for Prometheus."""

from __future__ import annotations

from collections import Counter as Numbers

from prometheus_client import Counter, Histogram

from streamproc.core.engine import Outputs

_BY_PARTITION = ("partition",)

READINGS = Counter("streamproc_engine_readings", "Readings taken in.", _BY_PARTITION)
DUPLICATES = Counter(
    "streamproc_engine_duplicates", "Readings that were sent again, and not counted again.", _BY_PARTITION
)
LATE = Counter("streamproc_engine_late", "Readings that came after their window had closed.", _BY_PARTITION)
REJECTED = Counter(
    "streamproc_engine_rejected",
    "Records and readings not accepted, by kind of fault.",
    ("partition", "reason"),
)
ROUTED = Counter(
    "streamproc_engine_routed",
    "Readings by what they are told by: alerts, warnings, or predictions alone.",
    ("partition", "pipeline"),
)
MOVED = Counter(
    "streamproc_engine_misrouted", "Records sent on to the partition that they belong to.", _BY_PARTITION
)
PASSED_OVER = Counter(
    "streamproc_engine_passed_over",
    "Records not taken in since they had been, or since the partition had gone.",
    _BY_PARTITION,
)
REDRIVEN = Counter(
    "streamproc_engine_redriven", "Records sent again from dead-letter that were taken in.", _BY_PARTITION
)
WINDOWS = Counter("streamproc_engine_windows", "Windows closed.", ("partition", "size_ms"))
EVENTS = Counter("streamproc_engine_events", "Changes of severity.", ("partition", "severity"))
TICKS = Counter(
    "streamproc_engine_ticks", "Tick records written to move a silent partition's clock.", _BY_PARTITION
)
EDITS = Counter(
    "streamproc_engine_registry_announced",
    "Records written that give the registry's edits their place in the partition.",
    _BY_PARTITION,
)
EDITS_IGNORED = Counter(
    "streamproc_engine_registry_ignored",
    "Records and checkpoints that name a position which the registry did not have.",
    _BY_PARTITION,
)
PREDICTIONS = Counter("streamproc_engine_predictions", "Predictions made.", _BY_PARTITION)
NOTIFICATIONS = Counter("streamproc_engine_notifications", "Notifications made.", _BY_PARTITION)
TRIAL_EVENTS = Counter(
    "streamproc_engine_trial_events",
    "What trials would have told, and sensors' begins in them.",
    _BY_PARTITION,
)
WITHHELD = Counter(
    "streamproc_engine_notifications_withheld",
    "Changes of severity that people were not told of at once, by why.",
    ("partition", "reason"),
)
LETTERS = Counter("streamproc_engine_dead_letters", "Records sent to dead-letter.", _BY_PARTITION)
WAITS = Counter(
    "streamproc_engine_waits",
    "Times that a partition took nothing in until Kafka had confirmed more of its messages.",
    _BY_PARTITION,
)
CHUNK_RECORDS = Histogram(
    "streamproc_engine_chunk_records", "Records in a chunk.", buckets=(1, 4, 16, 64, 256, 1024, 4096, 16384)
)
STEP_SECONDS = Histogram(
    "streamproc_engine_step_seconds",
    "Time that the core takes for a chunk.",
    buckets=(0.0005, 0.002, 0.01, 0.05, 0.2, 1),
)
CHECKPOINT_SECONDS = Histogram(
    "streamproc_engine_checkpoint_seconds",
    "From the beginning of a checkpoint until Kafka had confirmed it.",
    buckets=(0.01, 0.05, 0.2, 1, 5, 20),
)
RESTORE_SECONDS = Histogram(
    "streamproc_engine_restore_seconds", "Time to take over partitions.", buckets=(0.1, 0.3, 1, 3, 10, 30)
)
FALLBACKS = Counter(
    "streamproc_engine_rebuilds",
    "Checkpoints that could not be used: the state was built anew.",
    _BY_PARTITION,
)
SNAPSHOT_SECONDS = Histogram(
    "streamproc_engine_snapshot_pause_seconds",
    "Time that no records are taken in while a snapshot is made.",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3),
)
SNAPSHOT_FAILURES = Counter(
    "streamproc_engine_snapshot_failures",
    "Snapshots that Kafka did not take; each is tried again.",
    _BY_PARTITION,
)
HISTORY_LOST = Counter(
    "streamproc_engine_history_lost",
    "States built anew without records that Kafka had deleted: results may differ from before.",
    _BY_PARTITION,
)
RECORDS_LOST = Counter(
    "streamproc_engine_records_lost", "Records that Kafka deleted before they were taken in.", _BY_PARTITION
)


def count(partition: str, out: Outputs) -> None:
    """Count the results of a chunk."""
    READINGS.labels(partition).inc(out.readings)
    for pipeline, number in out.routed.items():
        ROUTED.labels(partition, pipeline.name.lower()).inc(number)
    for closed in out.windows:
        WINDOWS.labels(partition, str(closed.size_ms)).inc(len(closed.slot))
    for event in out.events:
        EVENTS.labels(partition, event.severity.name).inc()
    for why, number in out.withheld.items():
        WITHHELD.labels(partition, why).inc(number)
    for reason, number in Numbers(fault.kind for fault in out.rejected).items():
        REJECTED.labels(partition, reason).inc(number)
    for counter, number in (
        (DUPLICATES, out.duplicates),
        (LATE, len(out.late)),
        (MOVED, len(out.moved)),
        (NOTIFICATIONS, len(out.notifications)),
        (TRIAL_EVENTS, len(out.trial_events)),
        (PREDICTIONS, 0 if out.predictions is None else len(out.predictions.slot)),
        (LETTERS, len({fault.record for fault in out.rejected})),
    ):
        if number:
            counter.labels(partition).inc(number)
