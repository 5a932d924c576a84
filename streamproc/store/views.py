"""The console's pages: sensors by severity, events, and windows.

Each page is one short query by an index, with as many rows as asked for at most; the next page begins where it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from streamproc.store.sensor_status import ClosedWindow, SeverityName

#: Events that a page looks through: where few of them are asked for, it may have less than it could, and say where to go on.
#: 20,000 rows of a kilobyte are read within a tenth of a second.
LOOKED_THROUGH = 20_000
#: A number beyond all; a cursor has as many digits.
_BEYOND = 10**18 - 1


class SensorRow(msgspec.Struct, frozen=True):
    """A registered sensor: its severity, since when and why, and its last reading; None where there is none."""

    sensor: str
    sensor_id: int
    name: str | None
    unit: str | None
    kind: str | None
    device: str | None
    site: str | None
    severity: SeverityName
    since: datetime | None
    cause: str | None
    explanation: str | None
    last_value: float | None
    last_seen: datetime | None


class EventRow(msgspec.Struct, frozen=True):
    """A change of a sensor's severity, as it was told."""

    event_id: str
    sensor: str
    name: str | None
    device: str | None
    severity: SeverityName
    previous: SeverityName
    at: datetime
    cause: str
    explanation: str
    recommended_action: str


@dataclass(frozen=True, slots=True)
class SensorsAsked:
    """Which sensors: those in alarm of this severity, or for NORMAL all others; by name, after the one called `after`.

    `search` is a part of the name, the key, the device or the site, whatever its case.
    """

    severity: SeverityName
    after: str = ""
    search: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class EventPlace:
    """Where a page of events ended: its row's number and time, in whole milliseconds; without a time, at the beginning."""

    number: int
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventsAsked:
    """Which changes of severity: of one sensor (by its key) or all, of one severity or all, `since` inclusive to `until`."""

    sensor: str | None = None
    severity: SeverityName | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: EventPlace | None = None
    limit: int = 100
    look_through: int = LOOKED_THROUGH


@dataclass(frozen=True, slots=True)
class WindowsAsked:
    """Which closed windows: of a sensor (by its key) and a size, that start before a time, or up to now."""

    sensor: str
    size_ms: int
    before: datetime | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class EventPage:
    """Changes by their time, newest first; and where to go on."""

    events: tuple[EventRow, ...] = ()
    following: EventPlace | None = None


class Views(Protocol):
    """The console's queries; nothing is written. All raise StoreUnavailable or StoreError, too."""

    async def sensors_page(self, asked: SensorsAsked) -> list[SensorRow]:
        """Sensors by their key, `limit` at most."""

    async def events_page(self, asked: EventsAsked) -> EventPage:
        """Events, without withdrawn ones; none for an unknown sensor."""

    async def windows_page(self, asked: WindowsAsked) -> list[ClosedWindow]:
        """Closed windows, newest first; none for an unknown sensor."""


#: How a database gives times, none for none.
Time = Callable[[Any], datetime | None]


def sensor_row(row: Sequence[Any], time: Time) -> SensorRow:
    """The sensor that a row of the columns of SensorRow is; other programs may leave texts empty."""
    sensor, number, name, unit, kind, device, site, severity, since, cause, explanation, value, seen = row
    return SensorRow(
        sensor=sensor,
        sensor_id=int(number),
        name=name or None,
        unit=unit or None,
        kind=kind or None,
        device=device,
        site=site or None,
        severity=severity or "NORMAL",
        since=time(since),
        cause=cause,
        explanation=explanation or None,
        last_value=None if value is None else float(value),
        last_seen=time(seen),
    )


def event_page(
    rows: Sequence[Sequence[Any]], asked: EventsAsked, least: Sequence[Any] | None, time: Time
) -> EventPage:
    """The page of rows of a number and the columns of EventRow, of which one more was asked for.

    `least` is the number and time of the last row that was looked through, None where nothing is below it.
    """
    shown = rows[: asked.limit]
    if len(rows) > asked.limit:
        least = (shown[-1][0], shown[-1][7])
    following = None if least is None else _place(least[0], time(least[1]))
    return EventPage(tuple(_event_row(row, time) for row in shown), following)


def _place(number: int, at: datetime | None) -> EventPlace:
    """Other programs' events have microseconds: of such a one the place is the end of the millisecond before it.

    >>> _place(7, datetime(2024, 1, 1, microsecond=1500)) == EventPlace(_BEYOND, datetime(2024, 1, 1, microsecond=1000))
    True
    """
    assert at is not None  # the column takes no NULL
    beyond = at.microsecond % 1000
    return EventPlace(_BEYOND if beyond else int(number), at - timedelta(microseconds=beyond))


def _event_row(row: Sequence[Any], time: Time) -> EventRow:
    _, event_id, sensor, name, device, severity, previous, stamp, cause, explanation, action = row
    at = time(stamp)
    assert at is not None  # the column takes no NULL
    return EventRow(
        event_id=event_id,
        sensor=sensor,
        name=name or None,
        device=device,
        severity=severity,
        previous=previous or "NORMAL",
        at=at,
        cause=cause,
        explanation=explanation or "",
        recommended_action=action or "",
    )
