"""Silences as people ask about them: of which sensors each is, and whether it is in force now."""

from __future__ import annotations

from typing import Literal

from streamproc.core.attention.times import in_force_until
from streamproc.records import SensorEntry, Severity
from streamproc.records.alerting import SilenceEntry
from streamproc.registry.document_checks import SCOPE, silence_faults
from streamproc.registry.spans import moment_text, weekly_text
from streamproc.store.edits import Registered

State = Literal["active", "waiting", "ended"]

#: 32 bits for an id that is made: short enough to be typed, and two of them alike are told and tried again.
ID_BYTES = 4


def silences(found: Registered) -> list[SilenceEntry]:
    """The silences that are registered, by id; those that were written wrong by SQL are not in force, and left out."""
    mine = (entry for entry in found.values() if isinstance(entry, SilenceEntry))
    return sorted(
        (entry for entry in mine if not any(silence_faults(entry))), key=lambda entry: entry.silence
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
    return "waiting" if in_force_until(silence, now) is None else "active"


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
