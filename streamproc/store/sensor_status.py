"""The status of a sensor in the database: what a store's `status` gives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Self

import msgspec

from streamproc.records import DEVICE_SILENT, FLAPPING, Cause, Range, Rule, SensorEntry, Severity
from streamproc.store.stored_event import told_with

#: A key of more digits is beyond a 64-bit integer, and no `sensors.id`.
_DIGITS = 18

SeverityName = Literal["NORMAL", "WARN", "CRITICAL"]


class LastReading(msgspec.Struct, frozen=True):
    """The reading that was measured last, at `ts`; Kafka got it at `received_at`."""

    value: float
    ts: datetime
    received_at: datetime


class StandingEvent(msgspec.Struct, frozen=True):
    """The change of severity that the sensor is in, and what is to be done about it.

    `flapping`: the sensor goes in and out of its alarm, which is held until it settles. `device_silent`: people were told
    that its whole device is silent, in place of this.
    """

    event_id: str
    severity: SeverityName
    at: datetime
    cause: Cause | str
    explanation: str
    recommended_action: str
    flapping: bool = False
    device_silent: bool = False


class ClosedWindow(msgspec.Struct, frozen=True):
    """The newest closed window of one size, from `start` on: `deviation` is the population's, `trend` in units per second."""

    size_ms: int
    start: datetime
    count: int
    mean: float
    min: float
    max: float
    deviation: float
    first: float
    last: float
    trend: float


class StandingAlarm(msgspec.Struct, frozen=True):
    """A registered sensor that is not NORMAL, the change of severity that it is in, and when it was NORMAL last."""

    sensor: str
    event: StandingEvent
    normal_at: datetime | None

    @property
    def severity(self) -> Severity:
        """How grave it is."""
        return Severity[self.event.severity]

    def has(self, at: int) -> bool:
        """Whether what its sensor was at this time (ms) belongs to it, and not to an alarm before."""
        return self.normal_at is None or at > ms_of(self.normal_at)


class SensorStatus(msgspec.Struct, frozen=True):
    """How a sensor stands; windows by size, `normal_at` is when it was NORMAL last, if it is not now."""

    entry: SensorEntry
    last: LastReading | None = None
    event: StandingEvent | None = None
    windows: tuple[ClosedWindow, ...] = ()
    normal_at: datetime | None = None

    @property
    def alarm(self) -> StandingAlarm | None:
        """Its alarm; None where it is NORMAL."""
        if self.event is None or self.event.severity == "NORMAL":
            return None
        return StandingAlarm(self.entry.sensor, self.event, self.normal_at)


class ToldStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What every answer tells of how a sensor stands."""

    sensor: str
    sensor_id: int | None
    device: str | None
    name: str | None
    unit: str | None
    kind: str | None
    severity: SeverityName
    since: datetime | None
    last: LastReading | None
    event: StandingEvent | None
    windows: tuple[ClosedWindow, ...]
    warning: Range | None
    critical: Range | None
    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, found: SensorStatus, **besides: Any) -> Self:
        """The answer to what the database has, with the fields that it has `besides`."""
        entry, event = found.entry, found.event
        return cls(
            sensor=entry.sensor,
            sensor_id=entry.sensor_id,
            device=entry.device,
            name=entry.name,
            unit=entry.unit,
            kind=entry.kind,
            severity=event.severity if event else "NORMAL",
            since=event.at if event else None,
            last=found.last,
            event=event,
            windows=found.windows,
            warning=entry.warning,
            critical=entry.critical,
            rules=entry.rules,
            **besides,
        )


#: What is asked of a window, in the order of ClosedWindow's fields; `start` is `window_start`.
WINDOW = ("size_ms", "window_start", "count", "mean", "min", "max", "deviation", "first", "last", "trend")
EVENT = ("event_id", "severity", "created_at", "event_code", "message", "recommended_action", "payload")


def number_of(name: str) -> int | None:
    """The `sensors.id` that a name may be.

    >>> number_of("7"), number_of("s7")
    (7, None)
    """
    return int(name) if name.isascii() and name.isdigit() and len(name) <= _DIGITS else None


def window_of(row: Sequence[Any], start: datetime) -> ClosedWindow:
    """The window that a row of the columns WINDOW is."""
    size_ms, _, count, *numbers = row
    return ClosedWindow(int(size_ms), start, int(count), *map(float, numbers))


def ms_of(at: datetime) -> int:
    """A time in ms since 1970."""
    return round(at.timestamp() * 1000)


def event_of(row: Sequence[Any], at: datetime) -> StandingEvent:
    """The event that a row of the columns EVENT is; other programs may leave texts out."""
    event_id, severity, _, cause, explanation, action, payload = row
    told = told_with(payload)
    return StandingEvent(
        event_id,
        severity,
        at,
        cause,
        explanation or "",
        action or "",
        flapping=FLAPPING in told,
        device_silent=DEVICE_SILENT in told,
    )
