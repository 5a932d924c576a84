"""Batches and chunks for the tests of stores and sink."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamproc.core.chunk import Chunk, Headers
from streamproc.core.identity import content_id, reading_keys, seed
from streamproc.records import Lineage, Notification, SensorEntry, Severity, SeverityEvent
from streamproc.records.alerting import BEGUN, TrialEvent
from streamproc.store.edits import PutSensor, by_streamproc, sensors_of
from streamproc.store.protocol import (
    Batch,
    EventColumns,
    NotificationColumns,
    PredictionColumns,
    ReadingColumns,
    Store,
    TrialColumns,
    WindowColumns,
)

GROUP = "streamproc-sink"
PLACE = ("readings", 0)
#: 2023-11-14T22:13:20Z
START = 1_700_000_000_000


async def save_entries(store: Store, entries: Sequence[SensorEntry]) -> list[SensorEntry]:
    """Have the registry hold these sensors, by streamproc itself; gives them as they stand."""
    edits = [PutSensor(entry) for entry in entries]
    return sensors_of(await store.edit_registry(edits, by_streamproc()))


def ints(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A column of integers."""
    return np.array(numbers, dtype=np.int64)


def readings(
    *rows: tuple[str, float, int], device: str | None = None, first_offset: int = 0
) -> ReadingColumns:
    """Rows of (sensor, value, milliseconds after START), one record each."""
    sensors = [row[0] for row in rows]
    values = np.array([row[1] for row in rows], dtype=np.float64)
    ts = START + ints(*(row[2] for row in rows))
    seeds = np.array([seed(sensor) for sensor in sensors], dtype=np.uint64)
    return ReadingColumns(
        sensor=sensors,
        device=[device] * len(rows),
        value=values,
        ts=ts,
        received=ts + 5,
        dedupe_ms=ts,
        key=reading_keys(seeds, ts, values, np.zeros(len(rows), dtype=np.uint64)),
        partition=ints(*[0] * len(rows)),
        offset=first_offset + np.arange(len(rows)),
    )


def predictions(*rows: tuple[str, float, int], model: str = "level@2") -> PredictionColumns:
    """Rows of (sensor, value, milliseconds after START)."""
    values = np.array([row[1] for row in rows], dtype=np.float64)
    made_at = START + ints(*(row[2] for row in rows))
    return PredictionColumns(
        sensor=[row[0] for row in rows],
        model=[model] * len(rows),
        made_at=made_at,
        target=made_at + 1000,
        value=values,
        lower=values - 1,
        upper=values + 1,
        confidence=np.full(len(rows), 0.75),
        anomaly_score=np.full(len(rows), 0.5),
        is_anomaly=np.ones(len(rows), dtype=np.bool_),
        partition=ints(*[0] * len(rows)),
        offset=np.arange(len(rows)),
    )


def event(sensor: str, severity: Severity, previous: Severity, ms: int = 0) -> SeverityEvent:
    """A change of severity, so many milliseconds after START."""
    return SeverityEvent(
        event_id=content_id(sensor, severity, previous, ms),
        sensor=sensor,
        severity=severity,
        previous=previous,
        cause="critical_range" if severity else "recovered",
        at=START + ms,
        value=99.5,
        explanation="far above what it may be",
        recommended_action="look at it",
        lineage=Lineage("readings", 0, 3, 9, {"mean": 1.5}, {"level": 0.9}, "critical_range", {"core": "1"}),
    )


def events(*rows: SeverityEvent) -> EventColumns:
    """Rows, one record each."""
    return EventColumns(
        [row.sensor for row in rows], list(rows), ints(*[0] * len(rows)), np.arange(len(rows))
    )


def notification(sensor: str, event_id: str = "e-1") -> Notification:
    """What a person sees of an event."""
    return Notification(
        notification_id=content_id("notification", sensor, event_id),
        event_id=event_id,
        sensor=sensor,
        severity=Severity.CRITICAL,
        at=START,
        title="Critical",
        message="far above what it may be",
    )


def notifications(*rows: Notification) -> NotificationColumns:
    """Rows, one record each."""
    return NotificationColumns(
        [row.sensor for row in rows], list(rows), ints(*[0] * len(rows)), np.arange(len(rows))
    )


def tried(sensor: str, severity: Severity, previous: Severity, ms: int = 0, **other: Any) -> TrialEvent:
    """A change that a trial would have told, so long after START; its begin if that is no change."""
    begins = severity == previous
    known: dict[str, Any] = {"trial": "t", "trial_version": 1, "begun_at": START} | other
    return TrialEvent(
        **known,
        event_id=content_id("trial", *known.values(), sensor, ms, severity),
        sensor=sensor,
        severity=severity,
        previous=previous,
        cause=BEGUN if begins else "level",
        at=START + ms,
        value=None if begins else 99.5,
        explanation="" if begins else "far above what it may be",
        lineage=None if begins else Lineage("readings", 0, 3, 9, {}, {}, "learner level", {"trial": "t@1"}),
    )


def trial_events(*rows: TrialEvent) -> TrialColumns:
    """Rows, one record each."""
    return TrialColumns(
        [row.sensor for row in rows], list(rows), ints(*[0] * len(rows)), np.arange(len(rows))
    )


def windows(*rows: tuple[str, float, int], size_ms: int = 1_000, offset: int = 0) -> WindowColumns:
    """Rows of (sensor, mean, milliseconds after START), of one record at `offset`; each number in a row is another."""
    many = len(rows)
    mean = np.array([row[1] for row in rows], dtype=np.float64)
    return WindowColumns(
        sensor=[row[0] for row in rows],
        size_ms=ints(*[size_ms] * many),
        start=START + ints(*(row[2] for row in rows)),
        count=ints(*[12] * many),
        mean=mean,
        min=mean - 1,
        max=mean + 2,
        deviation=np.full(many, 0.3),
        first=mean + 0.25,
        last=mean + 0.5,
        trend=np.full(many, -4.125),
        first_offset=ints(*[30] * many),
        last_offset=ints(*[40] * many),
        source_partition=ints(*[3] * many),
        partition=ints(*[0] * many),
        offset=ints(*[offset] * many),
    )


def batch(rows: ReadingColumns | None = None, expected: int | None = None, following: int = 1) -> Batch:
    """Readings, and the offset of PLACE."""
    return Batch(GROUP, {PLACE: (expected, following)}, readings=rows or ReadingColumns())


def chunk(
    values: Sequence[bytes | None],
    first_offset: int = 0,
    topic: str = "readings",
    headers: Mapping[int, Headers] | None = None,
) -> Chunk:
    """Records one after another, a millisecond apart."""
    at = np.arange(len(values))
    return Chunk(topic, 0, first_offset + at, START + first_offset + at, values, headers or {})


def single(sensor: str, value: float, ms: int = 0) -> bytes:
    """A reading by itself, as a producer writes it."""
    return json.dumps({"sensor_uuid": sensor, "value": value, "ts": (START + ms) / 1000}).encode()


def packet(device: str, sensor: str, values: Sequence[float], **more: object) -> bytes:
    """Readings of one sensor together, without a time unless `more` has one."""
    rows = [{"sensor_uuid": sensor, "value": value} for value in values]
    return json.dumps({"device_uuid": device, "readings": rows, **more}).encode()
