"""The console's queries in SQLite, inside a transaction of the caller's."""

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
    " AND (:search IS NULL OR instr(unicode_lower(s.uuid || char(10) || coalesce(s.name, '') || char(10)"
    " || coalesce(d.uuid, '') || char(10) || coalesce(s.site, '')), :search))"
)
_OF_SENSORS = "s.id, s.uuid, s.name, s.unit, s.kind, d.uuid AS device, s.site"
_STANDS = "(e.status = 'active' OR e.status = 'acknowledged') AND e.event_type = 'severity_change'"
# In this order: sensors in alarm are few, and have an index of their own.
_IN_ALARM = (
    f"SELECT {_OF_SENSORS} FROM ml_events e INDEXED BY ml_events_standing CROSS JOIN sensors s"  # noqa: S608
    f" LEFT JOIN devices d ON d.id = s.device_id WHERE {_STANDS} AND e.severity = :severity AND s.id = e.sensor_id"
    f" AND s.is_active = 1 AND s.uuid > :after AND e.id = {_CURRENT}{_SEARCHED} ORDER BY s.uuid LIMIT :limit"
)
_OTHERS = (
    f"SELECT {_OF_SENSORS} FROM sensors s LEFT JOIN devices d ON d.id = s.device_id"  # noqa: S608  # constants
    f" WHERE s.is_active = 1 AND s.uuid > :after{_SEARCHED} AND NOT EXISTS (SELECT 1"
    f" FROM ml_events e INDEXED BY ml_events_standing WHERE e.sensor_id = s.id AND {_STANDS}"
    f" AND e.severity <> 'NORMAL' AND e.id = {_CURRENT}) ORDER BY s.uuid LIMIT :limit"
)
# What there is of the newest of each is looked up for the rows of the page alone.
_STANDING = (
    "SELECT s.uuid, s.id, s.name, s.unit, s.kind, s.device, s.site, c.severity, c.created_at, c.event_code, c.message,"  # noqa: S608
    " r.value, r.device_timestamp FROM ({0}) s"
    f" LEFT JOIN ml_events c ON c.id = {_CURRENT}"
    " LEFT JOIN sensor_readings r ON r.id = (SELECT n.id FROM sensor_readings n WHERE n.sensor_id = s.id"
    " ORDER BY n.device_timestamp DESC, n.id DESC LIMIT 1) ORDER BY s.uuid"
)
# In this order: events by the index that they are ordered by.
_EVENTS = (
    "SELECT e.id, e.event_id, s.uuid, s.name, d.uuid, e.severity, e.previous_severity, e.created_at, e.event_code,"  # noqa: S608
    " e.message, e.recommended_action FROM ml_events e INDEXED BY {0} CROSS JOIN sensors s ON s.id = e.sensor_id"
    f" LEFT JOIN devices d ON d.id = s.device_id WHERE e.{_CHANGE.format('e')}"
    " AND (:severity IS NULL OR e.severity = :severity)"
    " AND (e.created_at, e.id) >= (:since, :least) AND (e.created_at, e.id) < (:at, :number)"
)
_NEWEST_FIRST = " ORDER BY e.created_at DESC, e.id DESC LIMIT :limit"
_OF_ALL = f"{_EVENTS.format('ml_events_by_time')}{_NEWEST_FIRST}"
_OF_ONE = f"{_EVENTS.format('ml_events_latest')} AND e.sensor_id = :sensor{_NEWEST_FIRST}"
#: The last row that a page looks through, and the one below it.
_LOOKED_THROUGH = (
    "SELECT id, created_at FROM ml_events WHERE created_at >= :since AND (created_at, id) < (:at, :number)"
    " ORDER BY created_at DESC, id DESC LIMIT 2 OFFSET :look_through - 1"
)
_WINDOWS = (
    f"SELECT {', '.join(WINDOW)} FROM sensor_windows WHERE sensor_id = (SELECT id FROM sensors WHERE uuid = ?)"  # noqa: S608
    " AND size_ms = ? AND window_start < ? ORDER BY window_start DESC LIMIT ?"
)
#: Before and after any time.
_FIRST, _LAST = "", "9999"


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
    """Events, without withdrawn ones; none for an unknown sensor."""
    values = _span(asked) | {"severity": asked.severity, "limit": asked.limit + 1}
    if asked.sensor is not None:
        values["sensor"] = _number(connection, asked.sensor)
        return event_page(connection.execute(_OF_ONE, values).fetchall(), asked, None, _time)
    looked = values | {"look_through": asked.look_through}
    least, *below = connection.execute(_LOOKED_THROUGH, looked).fetchall() or [None]
    if not below:
        return event_page(connection.execute(_OF_ALL, values).fetchall(), asked, None, _time)
    values |= {"least": least[0], "since": least[1]}
    return event_page(connection.execute(_OF_ALL, values).fetchall(), asked, least, _time)


def _span(asked: EventsAsked) -> dict[str, Any]:
    """From `since` on, row `least`, to before `at`, row `number`: one bound each, for an index takes no more."""
    at, number = _LAST, 0
    if asked.before is not None and asked.before.at is not None:
        at, number = _text(asked.before.at), asked.before.number
    if asked.until is not None and _text(asked.until) < at:
        at, number = _text(asked.until), 0
    return {"since": _text(asked.since) if asked.since else _FIRST, "least": 0, "at": at, "number": number}


def _number(connection: sqlite3.Connection, sensor: str) -> int | None:
    found = connection.execute("SELECT id FROM sensors WHERE uuid = ?", (sensor,)).fetchone()
    return found and int(found[0])


def windows_page(connection: sqlite3.Connection, asked: WindowsAsked) -> list[ClosedWindow]:
    """Closed windows, newest first; none for an unknown sensor."""
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
