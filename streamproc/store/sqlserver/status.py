"""The status of a sensor in SQL Server, inside a transaction of the caller's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from streamproc.records import WINDOW_SIZES_MS, SeverityEvent
from streamproc.store.sensor_status import (
    EVENT,
    WINDOW,
    ClosedWindow,
    LastReading,
    SensorStatus,
    StandingAlarm,
    StandingEvent,
    event_of,
    number_of,
    window_of,
)
from streamproc.store.sqlserver import entries
from streamproc.store.sqlserver.sensors import EXACT
from streamproc.store.stored_event import STORED, stored_event

_BY_NAME = f"SELECT id, uuid FROM dbo.sensors WHERE uuid = ? {EXACT}"
_BY_NUMBER = "SELECT id, uuid FROM dbo.sensors WHERE id = ?"
# Each has an index that ends with the time: a row is found, not looked for.
_LAST = (
    "SELECT TOP (1) value, COALESCE(device_timestamp, [timestamp]), [timestamp] FROM dbo.sensor_readings"
    " WHERE sensor_id = ? ORDER BY device_timestamp DESC, id DESC"
)
_EVENT = (
    f"SELECT TOP (1) {', '.join(EVENT)} FROM dbo.ml_events WHERE sensor_id = ?"
    " AND event_type = N'severity_change' AND status <> N'superseded' ORDER BY created_at DESC, id DESC"
)
_NORMAL_LAST = (
    "SELECT TOP (1) created_at FROM dbo.ml_events WHERE sensor_id = ? AND severity = N'NORMAL'"
    " AND event_type = N'severity_change' AND status <> N'superseded' ORDER BY created_at DESC, id DESC"
)
_WINDOW = (
    f"SELECT TOP (1) {', '.join(f'[{name}]' for name in WINDOW)} FROM dbo.sensor_windows"
    " WHERE sensor_id = ? AND size_ms = ? ORDER BY window_start DESC"
)
_NORMAL = (
    "(SELECT MAX(n.created_at) FROM dbo.ml_events n WHERE n.sensor_id = e.sensor_id AND n.severity = N'NORMAL'"
    " AND n.event_type = N'severity_change' AND n.status <> N'superseded')"
)
_ALARMS = (
    f"SELECT s.uuid, {_NORMAL}, {', '.join(f'e.{name}' for name in EVENT)} FROM dbo.ml_events e"
    " JOIN dbo.sensors s ON s.id = e.sensor_id WHERE e.status IN ('active', 'acknowledged')"
    " AND e.severity <> N'NORMAL' AND e.event_type = N'severity_change' AND s.is_active = 1"
    " AND NOT EXISTS (SELECT 1 FROM dbo.ml_events n WHERE n.sensor_id = e.sensor_id AND n.created_at >= e.created_at"
    " AND (n.created_at > e.created_at OR n.id > e.id)"
    " AND n.event_type = N'severity_change' AND n.status <> N'superseded') ORDER BY e.created_at, e.id"
)
_STORED = (
    f"SELECT {', '.join(f'e.{name}' for name in STORED)}, s.uuid, e.created_at FROM dbo.ml_events e"
    " JOIN dbo.sensors s ON s.id = e.sensor_id WHERE e.event_id = ? AND e.event_type = N'severity_change'"
)
# By the event's number: of that there is an index.
_OVER = (
    "SELECT TOP (1) n.id FROM dbo.ml_events e JOIN dbo.alert_notifications n ON n.source_event_id = e.id"
    " WHERE e.event_id = ? AND n.source = N'ml_event' AND n.severity = N'NORMAL'"
)


async def told_over(cursor: Any, event_id: str) -> bool:
    """Whether people were told, under this event's id, that its alarm is over."""
    return await _row(cursor, _OVER, event_id) is not None


async def stored(cursor: Any, event_id: str) -> SeverityEvent | None:
    """The change of severity of this id; None where there is none."""
    if "\0" in event_id:
        return None  # not every server takes one in a text
    found = await _row(cursor, _STORED, event_id)
    if found is None:
        return None
    *row, sensor, at = found
    return stored_event(row, sensor, round(_utc(at).timestamp() * 1000))


async def alarms(cursor: Any) -> list[StandingAlarm]:
    """The registered sensors that are not NORMAL, the oldest alarm first."""
    await cursor.execute(_ALARMS)
    return [
        StandingAlarm(sensor, event_of(row, _utc(row[2])), normal_at and _utc(normal_at))
        for sensor, normal_at, *row in map(tuple, await cursor.fetchall())
    ]


async def status(cursor: Any, name: str) -> SensorStatus | None:
    """How the sensor of this uuid, or else of this number, stands; None where there is none."""
    if "\0" in name:
        return None  # not every server takes one in a text
    found = await _row(cursor, _BY_NAME, name)
    if found is not None and found[1] != name:
        found = None  # blanks at the end of a text make no difference there
    if found is None and (number := number_of(name)) is not None:
        found = await _row(cursor, _BY_NUMBER, number)
    if found is None:
        return None
    number, uuid = found
    entry = await entries.entry(cursor, uuid)
    if entry is None:
        return None
    last, event = await _last(cursor, number), await _event(cursor, number)
    windows = [await _window(cursor, number, size_ms) for size_ms in WINDOW_SIZES_MS]
    normal_at = await _normal_at(cursor, number) if event and event.severity != "NORMAL" else None
    return SensorStatus(entry, last, event, tuple(filter(None, windows)), normal_at)


async def _last(cursor: Any, number: int) -> LastReading | None:
    row = await _row(cursor, _LAST, number)
    return row and LastReading(float(row[0]), _utc(row[1]), _utc(row[2]))


async def _event(cursor: Any, number: int) -> StandingEvent | None:
    row = await _row(cursor, _EVENT, number)
    return row and event_of(row, _utc(row[2]))


async def _normal_at(cursor: Any, number: int) -> datetime | None:
    row = await _row(cursor, _NORMAL_LAST, number)
    return row and _utc(row[0])


async def _window(cursor: Any, number: int, size_ms: int) -> ClosedWindow | None:
    row = await _row(cursor, _WINDOW, number, size_ms)
    return row and window_of(row, _utc(row[1]))


async def _row(cursor: Any, query: str, *values: object) -> Any:
    await cursor.execute(query, *values)
    return await cursor.fetchone()


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC)
