"""The console's queries in SQL Server, inside a transaction of the caller's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from streamproc.store.sensor_status import WINDOW, ClosedWindow, window_of
from streamproc.store.sqlserver.sensors import EXACT
from streamproc.store.views import (
    EventPage,
    EventsAsked,
    SensorRow,
    SensorsAsked,
    WindowsAsked,
    event_page,
    sensor_row,
)

#: The number of the change of severity that sensor `s` is in.
_CURRENT = (
    "(SELECT TOP (1) n.id FROM dbo.ml_events n WHERE n.sensor_id = s.id AND n.event_type = N'severity_change'"
    " AND n.status <> N'superseded' ORDER BY n.created_at DESC, n.id DESC)"
)
_ALARMED = (
    "e.status IN ('active', 'acknowledged') AND e.event_type = N'severity_change'"
    f" AND s.id = e.sensor_id AND e.id = {_CURRENT}"
)
_SEARCHED = (
    " AND (CHARINDEX(?, LOWER(s.uuid)) > 0 OR CHARINDEX(?, LOWER(s.name)) > 0 OR CHARINDEX(?, LOWER(d.uuid)) > 0"
    " OR CHARINDEX(?, LOWER(s.site)) > 0)"
)
_OF_SENSORS = "SELECT TOP ({0}) s.id, s.uuid, s.name, s.unit, s.sensor_type AS kind, d.uuid AS device, s.site"
_IN_ALARM = (
    f"{_OF_SENSORS} FROM dbo.ml_events e JOIN dbo.sensors s ON s.id = e.sensor_id"
    " LEFT JOIN dbo.devices d ON d.id = s.device_id"
    f" WHERE s.is_active = 1 AND s.uuid > ? {EXACT} AND e.severity = ? AND {_ALARMED}"
)
_OTHERS = (
    f"{_OF_SENSORS} FROM dbo.sensors s LEFT JOIN dbo.devices d ON d.id = s.device_id"
    f" WHERE s.is_active = 1 AND s.uuid > ? {EXACT}"
    f" AND NOT EXISTS (SELECT 1 FROM dbo.ml_events e WHERE e.severity <> ? AND {_ALARMED})"
)
# What there is of the newest of each is looked up for the rows of the page alone.
_STANDING = (
    "SELECT s.uuid, s.id, s.name, s.unit, s.kind, s.device, s.site, c.severity, c.created_at, c.event_code, c.message,"
    " r.value, COALESCE(r.device_timestamp, r.[timestamp]) FROM ({0} ORDER BY s.uuid) s"
    f" LEFT JOIN dbo.ml_events c ON c.id = {_CURRENT}"
    " LEFT JOIN dbo.sensor_readings r ON r.id = (SELECT TOP (1) n.id FROM dbo.sensor_readings n WHERE n.sensor_id = s.id"
    " ORDER BY n.device_timestamp DESC, n.id DESC) ORDER BY s.uuid"
)
_EVENTS = (
    "SELECT TOP ({0}) e.id, e.event_id, s.uuid, s.name, d.uuid, e.severity, e.previous_severity, e.created_at,"
    " e.event_code, e.message, e.recommended_action FROM dbo.ml_events e JOIN dbo.sensors s ON s.id = e.sensor_id"
    " LEFT JOIN dbo.devices d ON d.id = s.device_id WHERE e.event_type = N'severity_change'"
    " AND e.status <> N'superseded' AND e.severity IS NOT NULL"
)
_NEWEST_FIRST = " ORDER BY e.created_at DESC, e.id DESC"
#: From a time on, a row of it and those after it; and before a time, or a row of it.
_FROM = "e.created_at >= ? AND (e.created_at > ? OR e.id >= ?)"
_BEFORE = "e.created_at <= ? AND (e.created_at < ? OR e.id < ?)"
#: The last row that a page looks through, and the one below it.
_LOOKED_THROUGH = (
    f"SELECT e.id, e.created_at FROM dbo.ml_events e WHERE {_FROM} AND {_BEFORE}{_NEWEST_FIRST}"
    " OFFSET {0} ROWS FETCH NEXT 2 ROWS ONLY"
)
_WINDOWS = (
    f"SELECT TOP ({{0}}) {', '.join(f'[{name}]' for name in WINDOW)} FROM dbo.sensor_windows"
    " WHERE sensor_id = ? AND size_ms = ? AND window_start < ? ORDER BY window_start DESC"
)
_NUMBER = f"SELECT id, uuid FROM dbo.sensors WHERE uuid = ? {EXACT}"
#: Before and after any time that is stored.
_FIRST, _LAST = datetime(1, 1, 1), datetime(9999, 12, 31)  # noqa: DTZ001  # the server's times have no zone


async def sensors_page(cursor: Any, asked: SensorsAsked) -> list[SensorRow]:
    """Sensors by their key, `limit` at most."""
    if "\0" in asked.after + (asked.search or ""):
        return []  # not every server takes one in a text
    calm = asked.severity == "NORMAL"
    query = (_OTHERS if calm else _IN_ALARM) + (_SEARCHED if asked.search else "")
    values: list[object] = [asked.after, asked.severity]
    if asked.search:
        values += [asked.search.lower()] * 4
    await cursor.execute(_STANDING.format(query.format(int(asked.limit))), *values)
    return [sensor_row(row, _time) for row in await cursor.fetchall()]


async def events_page(cursor: Any, asked: EventsAsked) -> EventPage:
    """Events, without withdrawn ones; none for an unknown sensor."""
    (since, least), (at, number) = _span(asked)
    least_row: Any = None
    values: list[object] = [at, at, number]
    query = f"{_EVENTS} AND {_BEFORE}"
    if asked.sensor is not None:
        found = await _number(cursor, asked.sensor)
        if found is None:
            return EventPage()
        query, values = f"{query} AND e.sensor_id = ?", [*values, found]
    else:
        looked = _LOOKED_THROUGH.format(int(asked.look_through) - 1)
        await cursor.execute(looked, since, since, least, at, at, number)
        last, *below = await cursor.fetchall() or [None]
        if below:
            least_row, (least, since) = last, last
    if asked.severity is not None:
        query, values = f"{query} AND e.severity = ?", [*values, asked.severity]
    query = f"{query} AND {_FROM}{_NEWEST_FIRST}".format(asked.limit + 1)
    await cursor.execute(query, *values, since, since, least)
    return event_page(await cursor.fetchall(), asked, least_row, _time)


def _span(asked: EventsAsked) -> tuple[tuple[datetime, int], tuple[datetime, int]]:
    """From which time and row on, and before which; one bound each, for an index takes no more."""
    since = _naive(asked.since) if asked.since else _FIRST
    before = (_LAST, 0)
    if asked.before is not None and asked.before.at is not None:
        before = (_naive(asked.before.at), asked.before.number)
    if asked.until is not None:
        before = min(before, (_naive(asked.until), 0))
    return (since, 0), before


async def windows_page(cursor: Any, asked: WindowsAsked) -> list[ClosedWindow]:
    """Closed windows, newest first; none for an unknown sensor."""
    number = await _number(cursor, asked.sensor)
    if number is None:
        return []
    until = _naive(asked.before) if asked.before else _LAST
    await cursor.execute(_WINDOWS.format(int(asked.limit)), number, asked.size_ms, until)
    return [window_of(row, row[1].replace(tzinfo=UTC)) for row in await cursor.fetchall()]


async def _number(cursor: Any, sensor: str) -> int | None:
    """The number of the sensor of just this key."""
    if "\0" in sensor:
        return None  # not every server takes one in a text
    await cursor.execute(_NUMBER, sensor)
    found = await cursor.fetchone()
    # Blanks at the end of a text make no difference there.
    return int(found[0]) if found is not None and found[1] == sensor else None


def _time(stamp: datetime | None) -> datetime | None:
    return stamp and stamp.replace(tzinfo=UTC)


def _naive(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None)
