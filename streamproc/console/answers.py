"""What the API answers, as types; times in UTC, `next` leads to the page behind, and is null at the end."""

from __future__ import annotations

from datetime import datetime

import msgspec

from streamproc.records import Range, Rule
from streamproc.store.sensor_status import (
    ClosedWindow,
    LastReading,
    SensorStatus,
    SeverityName,
    StandingEvent,
)
from streamproc.store.views import EventRow, SensorRow


class Sensors(msgspec.Struct, frozen=True):
    """Sensors, those in alarm first: CRITICAL, WARN, then the others; within each by their key."""

    sensors: list[SensorRow]
    next: str | None


class Events(msgspec.Struct, frozen=True):
    """Changes of severity, newest first. A page may have fewer than it could while there is a next one."""

    events: tuple[EventRow, ...]
    next: str | None


class Windows(msgspec.Struct, frozen=True):
    """Closed windows of one sensor and size, newest first; `next` is the `before` of the page behind."""

    windows: list[ClosedWindow]
    next: datetime | None


class Sensor(msgspec.Struct, frozen=True):
    """How one sensor stands, and what it is judged by; `windows` has the newest closed one of each size."""

    sensor: str
    sensor_id: int | None
    device: str | None
    name: str | None
    unit: str | None
    kind: str | None
    site: str | None
    severity: SeverityName
    since: datetime | None
    last: LastReading | None
    event: StandingEvent | None
    windows: tuple[ClosedWindow, ...]
    warning: Range | None
    critical: Range | None
    rules: tuple[Rule, ...]


class Change(msgspec.Struct, frozen=True):
    """A change of severity as it happens: what EventRow tells, and the value; of the sensor, only its key is known."""

    event_id: str
    sensor: str
    severity: SeverityName
    previous: SeverityName
    at: datetime
    cause: str
    explanation: str
    recommended_action: str
    value: float


class LiveWindow(msgspec.Struct, frozen=True):
    """A closed window as it comes, from `start` on."""

    sensor: str
    size_ms: int
    start: datetime
    count: int
    mean: float
    min: float
    max: float
    last: float


def of_status(found: SensorStatus) -> Sensor:
    """What is told of what the database has."""
    entry, event = found.entry, found.event
    return Sensor(
        sensor=entry.sensor,
        sensor_id=entry.sensor_id,
        device=entry.device,
        name=entry.name,
        unit=entry.unit,
        kind=entry.kind,
        site=entry.site,
        severity=event.severity if event else "NORMAL",
        since=event.at if event else None,
        last=found.last,
        event=event,
        windows=found.windows,
        warning=entry.warning,
        critical=entry.critical,
        rules=entry.rules,
    )
