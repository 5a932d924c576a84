"""The status of a sensor in SQLite, inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from datetime import datetime

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
from streamproc.store.sqlite import entries
from streamproc.store.stored_event import STORED, stored_event

_BY_NAME = "SELECT id, uuid FROM sensors WHERE uuid = ?1"
_BY_NUMBER = "SELECT id, uuid FROM sensors WHERE id = ?1"
# Each has an index that ends with the time: a row is found, not looked for.
_LAST = (
    "SELECT value, device_timestamp, timestamp FROM sensor_readings WHERE sensor_id = ?"
    " ORDER BY device_timestamp DESC, id DESC LIMIT 1"
)
_EVENT = (
    f"SELECT {', '.join(EVENT)} FROM ml_events WHERE sensor_id = ?"  # noqa: S608  # constants
    " AND event_type = 'severity_change' AND status <> 'superseded' ORDER BY created_at DESC, id DESC LIMIT 1"
)
_NORMAL_LAST = (
    "SELECT created_at FROM ml_events WHERE sensor_id = ? AND severity = 'NORMAL' AND event_type = 'severity_change'"
    " AND status <> 'superseded' ORDER BY created_at DESC, id DESC LIMIT 1"
)
_WINDOW = (
    f"SELECT {', '.join(WINDOW)} FROM sensor_windows WHERE sensor_id = ? AND size_ms = ?"  # noqa: S608  # constants
    " ORDER BY window_start DESC LIMIT 1"
)
_NORMAL = (
    "(SELECT MAX(n.created_at) FROM ml_events n WHERE n.sensor_id = e.sensor_id AND n.severity = 'NORMAL'"
    " AND n.event_type = 'severity_change' AND n.status <> 'superseded')"
)
# By the index on what stands, which is little; ordered by itself, the table would be read whole by the one on times.
_ALARMS = (
    f"SELECT s.uuid, {_NORMAL}, {', '.join(f'e.{name}' for name in EVENT)}"  # noqa: S608  # constants
    " FROM ml_events e INDEXED BY ml_events_standing CROSS JOIN sensors s ON s.id = e.sensor_id"
    " WHERE (e.status = 'active' OR e.status = 'acknowledged') AND e.severity <> 'NORMAL'"
    " AND e.event_type = 'severity_change' AND s.is_active = 1 AND NOT EXISTS (SELECT 1 FROM ml_events n"
    " WHERE n.sensor_id = e.sensor_id AND n.created_at >= e.created_at AND (n.created_at > e.created_at OR n.id > e.id)"
    " AND n.event_type = 'severity_change' AND n.status <> 'superseded') ORDER BY e.created_at, e.id"
)
_STORED = (
    f"SELECT {', '.join(f'e.{name}' for name in STORED)}, s.uuid, e.created_at FROM ml_events e"  # noqa: S608  # constants
    " JOIN sensors s ON s.id = e.sensor_id WHERE e.event_id = ? AND e.event_type = 'severity_change'"
)
_OVER = (
    "SELECT EXISTS (SELECT 1 FROM alert_notifications WHERE source_event_id = ? AND source = 'ml_event'"
    " AND severity = 'NORMAL')"
)


def told_over(connection: sqlite3.Connection, event_id: str) -> bool:
    """Whether people were told, under this event's id, that its alarm is over."""
    return bool(connection.execute(_OVER, (event_id,)).fetchone()[0])


def stored(connection: sqlite3.Connection, event_id: str) -> SeverityEvent | None:
    """The change of severity of this id; None where there is none."""
    found = connection.execute(_STORED, (event_id,)).fetchone()
    if found is None:
        return None
    *row, sensor, at = found
    return stored_event(row, sensor, round(datetime.fromisoformat(at).timestamp() * 1000))


def alarms(connection: sqlite3.Connection) -> list[StandingAlarm]:
    """The registered sensors that are not NORMAL, the oldest alarm first."""
    found = connection.execute(_ALARMS).fetchall()
    return [
        StandingAlarm(
            sensor,
            event_of(row, datetime.fromisoformat(row[2])),
            normal_at and datetime.fromisoformat(normal_at),
        )
        for sensor, normal_at, *row in found
    ]


def status(connection: sqlite3.Connection, name: str) -> SensorStatus | None:
    """How the sensor of this uuid, or else of this number, stands; None where there is none."""
    found = connection.execute(_BY_NAME, (name,)).fetchone()
    if found is None and (number := number_of(name)) is not None:
        found = connection.execute(_BY_NUMBER, (number,)).fetchone()
    if found is None:
        return None
    number, uuid = found
    entry = entries.entry(connection, uuid)
    if entry is None:
        return None
    event = _event(connection, number)
    windows = (_window(connection, number, size_ms) for size_ms in WINDOW_SIZES_MS)
    return SensorStatus(
        entry,
        _last(connection, number),
        event,
        tuple(filter(None, windows)),
        _normal_at(connection, number) if event and event.severity != "NORMAL" else None,
    )


def _last(connection: sqlite3.Connection, number: int) -> LastReading | None:
    row = connection.execute(_LAST, (number,)).fetchone()
    return row and LastReading(row[0], datetime.fromisoformat(row[1]), datetime.fromisoformat(row[2]))


def _event(connection: sqlite3.Connection, number: int) -> StandingEvent | None:
    row = connection.execute(_EVENT, (number,)).fetchone()
    return row and event_of(row, datetime.fromisoformat(row[2]))


def _normal_at(connection: sqlite3.Connection, number: int) -> datetime | None:
    row = connection.execute(_NORMAL_LAST, (number,)).fetchone()
    return row and datetime.fromisoformat(row[0])


def _window(connection: sqlite3.Connection, number: int, size_ms: int) -> ClosedWindow | None:
    row = connection.execute(_WINDOW, (number, size_ms)).fetchone()
    return row and window_of(row, datetime.fromisoformat(row[1]))
