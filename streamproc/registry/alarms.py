"""Alarms: sensors that are not NORMAL, who looks after each, and what keeps people from being told."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from streamproc.errors import RegistryError, UnknownEntry
from streamproc.records import SensorEntry, Severity
from streamproc.records.alerting import HANDLING_PREFIX, HandlingEntry
from streamproc.registry.silences import silences, silencing
from streamproc.registry.spans import moment_text
from streamproc.store.documents import PutDocument
from streamproc.store.edits import Registered
from streamproc.store.protocol import Store
from streamproc.store.sensor_status import SeverityName, StandingAlarm


class Alarm(msgspec.Struct, frozen=True):
    """A sensor that is not NORMAL. `acknowledged` and the three below it are what people have said of this alarm.

    `silences` are the ids of those that keep people from being told of it now.
    """

    sensor: str
    name: str | None
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


async def alarms(store: Store, now: int) -> list[Alarm]:
    """All alarms as the database has them, the gravest and oldest first."""
    standing = await store.alarms()
    if not standing:
        return []
    made = list(_alarms(standing, await store.registry(), now))
    return sorted(made, key=lambda alarm: (-Severity[alarm.severity], alarm.since, alarm.sensor))


def _alarms(standing: Iterable[StandingAlarm], found: Registered, now: int) -> Iterable[Alarm]:
    silent = silences(found)
    for alarm in standing:
        sensor, event = found.get(alarm.sensor), alarm.event
        if not isinstance(sensor, SensorEntry):
            continue
        handling = found.get(HANDLING_PREFIX + alarm.sensor)
        if not isinstance(handling, HandlingEntry) or handling.event_id != event.event_id:
            handling = None  # it was of an alarm before this one
        yield Alarm(
            alarm.sensor,
            sensor.name,
            event.severity,
            event.at,
            str(event.cause),
            event.explanation,
            event.recommended_action,
            event.event_id,
            handling is not None and handling.acknowledged,
            handling and handling.snoozed_until,
            handling and handling.by,
            handling and handling.note,
            tuple(silencing(silent, sensor, Severity[event.severity], now)),
        )


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
    same = known if isinstance(known, HandlingEntry) and known.event_id == event.event_id else None
    entry = HandlingEntry(
        sensor,
        event.event_id,
        acknowledged=until is None or (same is not None and same.acknowledged),
        snoozed_until=until if until is not None else same and same.snoozed_until,
        note=note if note is not None else same and same.note,
        by=by,
        at=now,
    )
    return PutDocument(entry, known.version if known else 0)
