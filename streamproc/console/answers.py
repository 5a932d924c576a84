"""The API's answers, as types. Times are in UTC; `next` leads to the next page and is null on the last one."""

from __future__ import annotations

from datetime import datetime

import msgspec

from streamproc.store.sensor_status import ClosedWindow, SeverityName, ToldStatus
from streamproc.store.views import EventRow, SensorRow


class Sensors(msgspec.Struct, frozen=True):
    """Sensors, those in alarm first: CRITICAL, WARN, then the others; within each by their key."""

    sensors: list[SensorRow]
    next: str | None


class Events(msgspec.Struct, frozen=True):
    """Changes of severity, newest first. A page may be shorter than `limit` and still have a next one."""

    events: tuple[EventRow, ...]
    next: str | None


class Windows(msgspec.Struct, frozen=True):
    """Closed windows of one sensor and size, newest first; `next` is the `before` of the next page."""

    windows: list[ClosedWindow]
    next: datetime | None


class Sensor(ToldStatus, frozen=True, kw_only=True):
    """The status of one sensor, and its ranges and rules; `windows` has the newest closed one of each size."""

    site: str | None


class Change(msgspec.Struct, frozen=True):
    """A change of severity as it happens: as EventRow, with the value, but without the sensor's name and device."""

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
