"""Alarms: sensors that are not NORMAL, who looks after each, and what keeps people from being told."""

from __future__ import annotations

from datetime import datetime

import msgspec

from streamproc.errors import RegistryError, UnknownEntry
from streamproc.records import SensorEntry, Severity
from streamproc.records.alerting import HANDLING_PREFIX, HandlingEntry, SilenceEntry
from streamproc.registry.silences import covers, silences, silencing
from streamproc.registry.spans import moment_text
from streamproc.store.documents import PutDocument
from streamproc.store.edits import Entry
from streamproc.store.protocol import Store
from streamproc.store.sensor_status import SeverityName, StandingAlarm

#: What covers every sensor.
ALL = SilenceEntry("", all_sensors=True)


class Alarm(msgspec.Struct, frozen=True):
    """A sensor that is not NORMAL. `acknowledged` and the three below it are what people have said of this alarm.

    `silences` are the ids of those that keep people from being told of it now.
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


async def alarms(store: Store, now: int, of: SilenceEntry = ALL) -> list[Alarm]:
    """The alarms of the sensors that a silence would be `of`, as the database has them, the gravest and oldest first."""
    standing = await store.alarms()
    if not standing:
        return []
    found, said = await store.registry([alarm.sensor for alarm in standing]), await store.documents()
    silent, made = silences(said), list[Alarm]()
    for alarm in standing:
        sensor = found.get(alarm.sensor)
        if isinstance(sensor, SensorEntry) and covers(of, sensor):
            handling = await _handling(store, said.get(HANDLING_PREFIX + alarm.sensor), alarm)
            made.append(_alarm(alarm, sensor, handling, silencing(silent, sensor, _severity(alarm), now)))
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
    )


def _severity(alarm: StandingAlarm) -> Severity:
    return Severity[alarm.event.severity]


async def _handling(store: Store, entry: Entry | None, alarm: StandingAlarm) -> HandlingEntry | None:
    """What people have said of this alarm: of an event of it that was as grave as it is now."""
    if not isinstance(entry, HandlingEntry) or entry.event_id == alarm.event.event_id:
        return entry if isinstance(entry, HandlingEntry) else None
    event = await store.event(entry.event_id)
    if event is None or event.sensor != alarm.sensor or event.severity < _severity(alarm):
        return None
    before = alarm.normal_at is not None and event.at <= round(alarm.normal_at.timestamp() * 1000)
    return None if before else entry


async def sensor_named(store: Store, name: str) -> str:
    """The uuid of the sensor that has this uuid or number; the name itself where there is none."""
    status = await store.status(name.lower())
    return status.entry.sensor if status else name.lower()


async def handled(
    store: Store, name: str, by: str, now: int, *, note: str | None = None, until: int | None = None
) -> PutDocument:
    """The edit that acknowledges a sensor's alarm, or snoozes it `until` a time; what was said of it before stays.

    Raises UnknownEntry where there is no such sensor, RegistryError where it has no alarm.
    """
    status = await store.status(name.lower())
    if status is None:
        raise UnknownEntry(f"no sensor {name} is registered")
    sensor, event = status.entry.sensor, status.event
    if event is None or event.severity == "NORMAL":
        since = f" since {moment_text(round(event.at.timestamp() * 1000))}" if event else ""
        raise RegistryError(f"sensor {sensor} is NORMAL{since}: it has no alarm that could be handled")
    known = (await store.registry([HANDLING_PREFIX + sensor])).get(HANDLING_PREFIX + sensor)
    said: HandlingEntry | None = None
    if isinstance(known, HandlingEntry):
        standing = [alarm for alarm in await store.alarms() if alarm.sensor == sensor]
        said = await _handling(store, known, standing[0]) if standing else None
    said = said or HandlingEntry(sensor, event.event_id)
    entry = HandlingEntry(
        sensor,
        said.event_id,  # of an alarm that has eased the graver event: that it gets as bad again is no news
        acknowledged=until is None or said.acknowledged,
        snoozed_until=said.snoozed_until if until is None else until,
        note=said.note if note is None else note,
        by=by,
        at=now,
    )
    return PutDocument(entry, known.version if known else 0)
