"""The rows of each table as columns or tuples of plain values, with times as the database has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamproc.core.predict import HORIZON_MS, MODELS
from streamproc.records import SeverityEvent
from streamproc.store.protocol import (
    EventColumns,
    Ints,
    NotificationColumns,
    PredictionColumns,
    ReadingColumns,
    TrialColumns,
    WindowColumns,
)
from streamproc.store.stamps import iso, iso_repeated

#: Milliseconds (n,) as a database takes them.
Stamp = Callable[[Ints], list[Any]]


class Stamps(NamedTuple):
    """How a database takes times; `repeated` is for columns in which most occur again and again."""

    each: Stamp
    repeated: Stamp


#: ISO 8601 text in UTC.
TEXT = Stamps(iso, iso_repeated)

READINGS = (
    "sensor_id",
    "value",
    "device_timestamp",
    "timestamp",
    "dedupe_ms",
    "reading_key",
    "kafka_partition",
    "kafka_offset",
)
PREDICTIONS = (
    "sensor_id",
    "model_id",
    "predicted_value",
    "confidence",
    "predicted_at",
    "target_timestamp",
    "is_anomaly",
    "anomaly_score",
    "lower",
    "upper",
)
EVENTS = (
    "event_id",
    "sensor_id",
    "event_type",
    "event_code",
    "title",
    "message",
    "recommended_action",
    "severity",
    "previous_severity",
    "status",
    "created_at",
    "payload",
)
NOTIFICATIONS = (
    "notification_id",
    "source_event_id",
    "sensor_id",
    "severity",
    "title",
    "message",
    "created_at",
)
WINDOWS = (
    "sensor_id",
    "size_ms",
    "window_start",
    "count",
    "mean",
    "min",
    "max",
    "deviation",
    "first",
    "last",
    "trend",
    "first_offset",
    "last_offset",
    "kafka_partition",
)


TRIAL_EVENTS = (
    "event_id",
    "trial",
    "trial_version",
    "begun_at",
    "sensor_id",
    "severity",
    "previous_severity",
    "cause",
    "message",
    "created_at",
    "payload",
)


def reading_columns(
    rows: ReadingColumns, ids: dict[str, int], stamps: Stamps = TEXT
) -> tuple[list[Any], ...]:
    """The columns READINGS."""
    return (
        list(map(ids.__getitem__, rows.sensor)),
        rows.value.tolist(),
        stamps.each(rows.ts),
        stamps.repeated(rows.received),
        rows.dedupe_ms.tolist(),
        rows.key.tolist(),
        rows.partition.tolist(),
        rows.offset.tolist(),
    )


def prediction_columns(
    rows: PredictionColumns, ids: dict[str, int], models: dict[str, int], stamps: Stamps = TEXT
) -> tuple[list[Any], ...]:
    """The columns PREDICTIONS."""
    return (
        list(map(ids.__getitem__, rows.sensor)),
        list(map(models.__getitem__, rows.model)),
        rows.value.tolist(),
        rows.confidence.tolist(),
        stamps.repeated(rows.made_at),
        stamps.repeated(rows.target),
        rows.is_anomaly.astype(np.int64).tolist(),
        rows.anomaly_score.tolist(),
        rows.lower.tolist(),
        rows.upper.tolist(),
    )


def model_row(model: str) -> tuple[str, str]:
    """A model's name and version in `ml_models`."""
    name, _, version = model.partition("@")
    return name, version or "1"


def model_metadata(model: str) -> str | None:
    """A model's metadata in `ml_models`, as JSON, without its name and version."""
    what = MODELS.get(model_row(model)[0])
    return (
        what and msgspec.json.encode({"description": what, "step_ms": HORIZON_MS, "interval": 0.9}).decode()
    )


def event_rows(rows: EventColumns, ids: dict[str, int], stamps: Stamps = TEXT) -> list[tuple[object, ...]]:
    """Rows of EVENTS."""
    at = stamps.each(np.array([event.at for event in rows.event], dtype=np.int64))
    numbers = [ids[sensor] for sensor in rows.sensor]
    return [_event(*row) for row in zip(rows.event, numbers, at, strict=True)]


def _event(event: SeverityEvent, sensor_id: int, stamp: object) -> tuple[object, ...]:
    payload = {"cause": event.cause, "value": event.value, "lineage": event.lineage, "version": event.version}
    return (
        event.event_id,
        sensor_id,
        "severity_change",
        event.cause,
        f"{event.severity.name}: {event.cause.replace('_', ' ')}",
        event.explanation,
        event.recommended_action,
        event.severity.name,
        event.previous.name,
        "active" if event.severity else "resolved",
        stamp,
        msgspec.json.encode(payload).decode(),
    )


def notification_rows(
    rows: NotificationColumns, ids: dict[str, int], stamps: Stamps = TEXT
) -> list[tuple[object, ...]]:
    """Rows of NOTIFICATIONS."""
    times = stamps.each(np.array([row.at for row in rows.notification], dtype=np.int64))
    return [
        (row.notification_id, row.event_id, ids[sensor], row.severity.name, row.title, row.message, stamp)
        for row, sensor, stamp in zip(rows.notification, rows.sensor, times, strict=True)
    ]


def window_columns(rows: WindowColumns, ids: dict[str, int], stamps: Stamps = TEXT) -> tuple[list[Any], ...]:
    """The columns WINDOWS."""
    return (
        list(map(ids.__getitem__, rows.sensor)),
        rows.size_ms.tolist(),
        stamps.repeated(rows.start),
        rows.count.tolist(),
        rows.mean.tolist(),
        rows.min.tolist(),
        rows.max.tolist(),
        rows.deviation.tolist(),
        rows.first.tolist(),
        rows.last.tolist(),
        rows.trend.tolist(),
        rows.first_offset.tolist(),
        rows.last_offset.tolist(),
        rows.source_partition.tolist(),
    )


def trial_rows(rows: TrialColumns, ids: dict[str, int], stamps: Stamps = TEXT) -> list[tuple[object, ...]]:
    """Rows of TRIAL_EVENTS."""
    begun = stamps.each(np.array([row.begun_at for row in rows.tried], dtype=np.int64))
    times = stamps.each(np.array([row.at for row in rows.tried], dtype=np.int64))
    return [
        (
            row.event_id,
            row.trial,
            row.trial_version,
            since,
            ids[sensor],
            row.severity.name,
            row.previous.name,
            row.cause,
            row.explanation,
            at,
            msgspec.json.encode({"value": row.value, "lineage": row.lineage}).decode(),
        )
        for row, sensor, since, at in zip(rows.tried, rows.sensor, begun, times, strict=True)
    ]
