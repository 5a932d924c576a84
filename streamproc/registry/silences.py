"""Silences, for people who ask: which sensors each covers, and whether it is in force now."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from streamproc.core.attention.silences import FIELDS, covers
from streamproc.core.attention.times import in_force_until
from streamproc.records.alerting import SilenceEntry
from streamproc.registry.document_checks import silence_faults
from streamproc.registry.spans import moment_text, weekly_text
from streamproc.store.edits import Registered, devices, sensors

State = Literal["active", "waiting", "ended"]

#: 32 bits for an id that is made: short enough to be typed, and two of them alike are told and tried again.
ID_BYTES = 4


def silences(found: Registered) -> list[SilenceEntry]:
    """The registered silences, by id, without invalid ones written by SQL, which are not in force."""
    mine = (entry for entry in found.values() if isinstance(entry, SilenceEntry))
    return sorted(
        (entry for entry in mine if not any(silence_faults(entry))), key=lambda entry: entry.silence
    )


def of_all_that_has(**fields: str | None) -> SilenceEntry:
    """A silence that covers the sensors with all the given fields; without any, all sensors.

    >>> of_all_that_has(site=None).all_sensors, of_all_that_has(site="north").all_sensors
    (True, False)
    """
    return SilenceEntry("", **fields, all_sensors=not any(fields.values()))  # type: ignore[arg-type]


def left_out(silence: SilenceEntry, found: Registered) -> int:
    """How many sensors it would also cover if a device's site and tenant counted for its sensors.

    >>> from streamproc.records import DeviceEntry, SensorEntry
    >>> found = {"device/d": DeviceEntry("d", site="north"), "a": SensorEntry("a", device="d")}
    >>> left_out(SilenceEntry("s", site="north"), found), left_out(SilenceEntry("s", site="south"), found)
    (1, 0)
    """
    homes = {device.device: device for device in devices(found)}
    count = 0
    for sensor in sensors(found):
        home = homes.get(sensor.device or "")
        if home is not None and not covers(silence, sensor.sensor, sensor):
            as_home = replace(sensor, site=sensor.site or home.site, tenant=sensor.tenant or home.tenant)
            count += covers(silence, sensor.sensor, as_home)
    return count


def state(silence: SilenceEntry, now: int) -> State:
    """Whether it is in force at a time in ms, will be later, or never again.

    >>> state(SilenceEntry("s", begin=5, end=7), 5), state(SilenceEntry("s", begin=5, end=7), 7)
    ('active', 'ended')
    """
    if silence.end is not None and now >= silence.end:
        return "ended"
    if silence.begin is not None and now < silence.begin:
        return "waiting"
    return "waiting" if in_force_until(silence, now) is None else "active"


def whom(silence: SilenceEntry) -> str:
    """Which sensors it covers, for people."""
    if silence.all_sensors:
        return "all sensors"
    return ", ".join(f"{field} {name}" for field in FIELDS if (name := getattr(silence, field)) is not None)


def when(silence: SilenceEntry) -> str:
    """When it is in force, for people."""
    told = [weekly_text(silence.weekly)] if silence.weekly else []
    told += [f"from {moment_text(silence.begin)}"] if silence.begin is not None else []
    told += [f"until {moment_text(silence.end)}"] if silence.end is not None else []
    return ", ".join(told) or "until it is ended"
