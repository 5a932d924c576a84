"""Silences as people ask about them: of which sensors each is, and whether it is in force now."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from streamproc.records import SensorEntry, Severity
from streamproc.records.alerting import SilenceEntry, Weekly
from streamproc.registry.document_checks import SCOPE
from streamproc.registry.spans import moment_text, weekly_text
from streamproc.store.edits import Registered

State = Literal["active", "waiting", "ended"]

#: 32 bits for an id that is made: short enough to be typed, and two of them alike are told and tried again.
ID_BYTES = 4
#: A weekly time lasts a week at most, and its day's name is that of its begin in its own zone.
_DAYS_BACK = 8


def silences(found: Registered) -> list[SilenceEntry]:
    """The silences that are registered, by id."""
    return sorted(
        (entry for entry in found.values() if isinstance(entry, SilenceEntry)),
        key=lambda entry: entry.silence,
    )


def covers(silence: SilenceEntry, sensor: SensorEntry) -> bool:
    """Whether a silence is of this sensor, whatever the case of what they are called.

    >>> covers(SilenceEntry("s", site="north", kind="pump"), SensorEntry("a", site="north", kind="Pump"))
    True
    """
    return all(
        wanted.lower() == (getattr(sensor, field) or "").lower()
        for field in SCOPE
        if (wanted := getattr(silence, field)) is not None
    )


def state(silence: SilenceEntry, now: int) -> State:
    """Whether it is in force at a time in ms, will be, or never will be again.

    >>> state(SilenceEntry("s", begin=5, end=7), 5), state(SilenceEntry("s", begin=5, end=7), 7)
    ('active', 'ended')
    """
    if silence.end is not None and now >= silence.end:
        return "ended"
    if silence.begin is not None and now < silence.begin:
        return "waiting"
    if silence.weekly is not None and not _within(silence.weekly, now):
        return "waiting"
    return "active"


def _within(weekly: Weekly, now: int) -> bool:
    """By the clock on the wall: 22:00 and eight hours is 06:00, also where an hour is lost or comes twice in between."""
    zone, at = ZoneInfo(weekly.zone), time.fromisoformat(weekly.at)
    today, lasts = datetime.fromtimestamp(now / 1000, zone).date(), timedelta(minutes=weekly.minutes)
    begins = (datetime.combine(today - timedelta(days=back), at) for back in range(_DAYS_BACK))
    return any(
        _ms(begin, zone) <= now < _ms(begin + lasts, zone)
        for begin in begins
        if begin.weekday() in weekly.days
    )


def _ms(wall: datetime, zone: ZoneInfo) -> int:
    return round(wall.replace(tzinfo=zone).timestamp() * 1000)


def silencing(found: list[SilenceEntry], sensor: SensorEntry, severity: Severity, now: int) -> list[str]:
    """The ids of the silences that keep people from being told of this severity of a sensor now."""
    return [
        silence.silence
        for silence in found
        if severity <= silence.up_to and covers(silence, sensor) and state(silence, now) == "active"
    ]


def whom(silence: SilenceEntry) -> str:
    """Of which sensors it is, for people."""
    if silence.all_sensors:
        return "all sensors"
    return ", ".join(f"{field} {name}" for field in SCOPE if (name := getattr(silence, field)) is not None)


def when(silence: SilenceEntry) -> str:
    """When it is, for people."""
    told = [weekly_text(silence.weekly)] if silence.weekly else []
    told += [f"from {moment_text(silence.begin)}"] if silence.begin is not None else []
    told += [f"until {moment_text(silence.end)}"] if silence.end is not None else []
    return ", ".join(told) or "until it is ended"
