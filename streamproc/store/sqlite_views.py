"""What people look at, from SQLite, inside a transaction that the caller begins and ends."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Any

from streamproc.store.sensor_status import WINDOW, ClosedWindow, window_of
from streamproc.store.views import (
    EventPage,
    EventsAsked,
    SensorRow,
    SensorsAsked,
    WindowsAsked,
    event_page,
    sensor_row,
)

_CHANGE = "event_type = 'severity_change' AND {0}.status <> 'superseded'"
#: The number of the change of severity that sensor `s` is in.
_CURRENT = (
    "(SELECT n.id FROM ml_events n WHERE n.sensor_id = s.id"  # noqa: S608  # constants
    f" AND n.{_CHANGE.format('n')} ORDER BY n.created_at DESC, n.id DESC LIMIT 1)"
)
_SEARCHED = (
    " AND (:search IS NULL OR instr(lower(s.uuid), :search) OR instr(lower(coalesce(s.name, '')), :search)"
    " OR instr(lower(coalesce(d.uuid, '')), :search) OR instr(lower(coalesce(s.site, '')), :search))"
)
_OF_SENSORS = "s.id, s.uuid, s.name, s.unit, s.kind, d.uuid AS device, s.site"
# In this order: sensors in alarm are few, and have an index of their own.
_IN_ALARM = (
    f"SELECT {_OF_SENSORS} FROM ml_events e CROSS JOIN sensors s LEFT JOIN devices d ON d.id = s.device_id"  # noqa: S608
    " WHERE e.status = 'active' AND e.event_type = 'severity_change' AND e.severity = :severity AND s.id = e.sensor_id"
    f" AND s.is_active = 1 AND s.uuid > :after AND e.id = {_CURRENT}{_SEARCHED} ORDER BY s.uuid LIMIT :limit"
)
_OTHERS = (
    f"SELECT {_OF_SENSORS} FROM sensors s LEFT JOIN devices d ON d.id = s.device_id"  # noqa: S608  # constants
    f" WHERE s.is_active = 1 AND s.uuid > :after{_SEARCHED} AND NOT EXISTS (SELECT 1"
    " FROM ml_events e INDEXED BY ml_events_active WHERE e.sensor_id = s.id"
    " AND e.status = 'active' AND e.event_type = 'severity_change' AND e.severity <> 'NORMAL'"
    f" AND e.id = {_CURRENT}) ORDER BY s.uuid LIMIT :limit"
)
# What there is of the newest of each is looked up for the rows of the page alone.
_STANDING = (
    "SELECT s.uuid, s.id, s.name, s.unit, s.kind, s.device, s.site, c.severity, c.created_at, c.event_code, c.message,"  # noqa: S608
    " r.value, r.device_timestamp FROM ({0}) s"
    f" LEFT JOIN ml_events c ON c.id = {_CURRENT}"
    " LEFT JOIN sensor_readings r ON r.id = (SELECT n.id FROM sensor_readings n WHERE n.sensor_id = s.id"
    " ORDER BY n.device_timestamp DESC, n.id DESC LIMIT 1) ORDER BY s.uuid"
)
_EVENTS = (
    "SELECT e.id, e.event_id, s.uuid, s.name, d.uuid, e.severity, e.previous_severity, e.created_at, e.event_code,"  # noqa: S608
    " e.message, e.recommended_action FROM ml_events e JOIN sensors s ON s.id = e.sensor_id"
    f" LEFT JOIN devices d ON d.id = s.device_id WHERE e.{_CHANGE.format('e')}"
    " AND (:severity IS NULL OR e.severity = :severity) AND (:since IS NULL OR e.created_at >= :since)"
    " AND (:until IS NULL OR e.created_at < :until)"
)
_OF_ALL = f"{_EVENTS} AND e.id < :number AND e.id >= :least ORDER BY e.id DESC LIMIT :limit"
_OF_ONE = (
    f"{_EVENTS} AND e.sensor_id = :sensor AND (e.created_at, e.id) < (:at, :number)"
    " ORDER BY e.created_at DESC, e.id DESC LIMIT :limit"
)
_WINDOWS = (
    f"SELECT {', '.join(WINDOW)} FROM sensor_windows WHERE sensor_id = (SELECT id FROM sensors WHERE uuid = ?)"  # noqa: S608
    " AND size_ms = ? AND window_start < ? ORDER BY window_start DESC LIMIT ?"
)
#: Later than any time.
_LAST = "9999"
_LAST_NUMBER = 2**63 - 1


def sensors_page(connection: sqlite3.Connection, asked: SensorsAsked) -> list[SensorRow]:
    """Sensors by their key, `limit` at most."""
    values = {
        "severity": asked.severity,
        "after": asked.after,
        "search": asked.search and asked.search.lower(),
        "limit": asked.limit,
    }
    page = _OTHERS if asked.severity == "NORMAL" else _IN_ALARM
    return [sensor_row(row, _time) for row in connection.execute(_STANDING.format(page), values)]


def events_page(connection: sqlite3.Connection, asked: EventsAsked) -> EventPage:
    """What was told, without what was withdrawn; none of a sensor that is not known."""
    before = asked.before
    values: dict[str, Any] = {
        "severity": asked.severity,
        "since": asked.since and _text(asked.since),
        "until": asked.until and _text(asked.until),
        "limit": asked.limit + 1,
    }
    if asked.sensor is not None:
        values |= {
            "sensor": _number(connection, asked.sensor),
            "number": before.number if before else _LAST_NUMBER,
            "at": _text(before.at) if before and before.at else _LAST,
        }
        return event_page(connection.execute(_OF_ONE, values).fetchall(), asked, 0, _time)
    newest = connection.execute("SELECT max(id) FROM ml_events").fetchone()[0] or 0
    number = min(before.number, newest + 1) if before else newest + 1
    least = number - asked.look_through
    values |= {"number": number, "least": least}
    return event_page(connection.execute(_OF_ALL, values).fetchall(), asked, least, _time)


def _number(connection: sqlite3.Connection, sensor: str) -> int | None:
    found = connection.execute("SELECT id FROM sensors WHERE uuid = ?", (sensor,)).fetchone()
    return found and int(found[0])


def windows_page(connection: sqlite3.Connection, asked: WindowsAsked) -> list[ClosedWindow]:
    """Closed windows, the newest first; none of an unknown sensor."""
    until = _text(asked.before) if asked.before else _LAST
    rows = connection.execute(_WINDOWS, (asked.sensor, asked.size_ms, until, asked.limit)).fetchall()
    return [window_of(row, datetime.fromisoformat(row[1])) for row in rows]


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _text(time: datetime) -> str:
    """As times are stored: UTC to the millisecond.

    >>> from datetime import timedelta, timezone
    >>> _text(datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))))
    '2024-01-01T00:00:00.000Z'
    """
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
