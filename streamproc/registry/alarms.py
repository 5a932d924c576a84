"""Alarms: sensors that are not NORMAL, who handles each, and what keeps people from being told."""

from __future__ import annotations

from datetime import datetime

import msgspec

from streamproc.core.attention.silences import Silences, covers
from streamproc.records import SensorEntry, Severity
from streamproc.records.alerting import HANDLING_PREFIX, HandlingEntry, SilenceEntry
from streamproc.registry.handling import handling_of
from streamproc.registry.silences import silences
from streamproc.store.protocol import Store
from streamproc.store.sensor_status import SeverityName, StandingAlarm

#: What covers every sensor.
ALL = SilenceEntry("", all_sensors=True)


class Alarm(msgspec.Struct, frozen=True):
    """A sensor that is not NORMAL. `acknowledged` and the three below it are what people have said of this alarm.

    `silences` are the ids of those that keep people from being told of it now. `flapping`: it is held while the sensor goes
    in and out; `device_silent`: people were told that its whole device is silent, in place of it.
    """

    sensor: str
    name: str | None
    device: str | None
    kind: str | None
    site: str | None
    tenant: str | None
    severity: SeverityName
    since: datetime
    cause: str
    explanation: str
    recommended_action: str
    event_id: str
    acknowledged: bool
    snoozed_until: int | None
    by: str | None
    note: str | None
    silences: tuple[str, ...] = ()
    flapping: bool = False
    device_silent: bool = False


async def alarms(store: Store, now: int, of: SilenceEntry = ALL) -> list[Alarm]:
    """The alarms in the database of the sensors that the silence `of` covers, the gravest and oldest first."""
    standing = await store.alarms()
    if not standing:
        return []
    found, said = await store.registry([alarm.sensor for alarm in standing]), await store.documents()
    silent, made = Silences(silences(said)), list[Alarm]()
    for alarm in standing:
        sensor = found.get(alarm.sensor)
        if isinstance(sensor, SensorEntry) and covers(of, sensor.sensor, sensor):
            handling = await handling_of(store, said.get(HANDLING_PREFIX + alarm.sensor), alarm)
            hushes = silent.hushes(sensor.sensor, sensor, alarm.severity, now)
            made.append(_alarm(alarm, sensor, handling, sorted(each.silence.silence for each in hushes)))
    return sorted(made, key=lambda alarm: (-Severity[alarm.severity], alarm.since, alarm.sensor))


def _alarm(
    alarm: StandingAlarm, sensor: SensorEntry, handling: HandlingEntry | None, silent: list[str]
) -> Alarm:
    said = handling or HandlingEntry(alarm.sensor, alarm.event.event_id)
    return Alarm(
        alarm.sensor,
        *(sensor.name, sensor.device, sensor.kind, sensor.site, sensor.tenant),
        alarm.event.severity,
        alarm.event.at,
        str(alarm.event.cause),
        alarm.event.explanation,
        alarm.event.recommended_action,
        alarm.event.event_id,
        said.acknowledged,
        said.snoozed_until,
        said.by,
        said.note,
        tuple(silent),
        alarm.event.flapping,
        alarm.event.device_silent,
    )
