"""The handling of an alarm: acknowledged or snoozed, named by its sensor or by one of its events."""

from __future__ import annotations

from streamproc.errors import RegistryError, UnknownEntry
from streamproc.records import DEVICE_SILENT, Severity, SeverityEvent
from streamproc.records.alerting import HANDLING_PREFIX, HandlingEntry
from streamproc.registry.spans import moment_text
from streamproc.store.documents import PutDocument
from streamproc.store.edits import Entry
from streamproc.store.protocol import Store
from streamproc.store.sensor_status import SensorStatus, StandingAlarm, StandingEvent, ms_of


async def sensor_named(store: Store, name: str) -> str:
    """The sensor with this uuid or number, or of the event with this id; the name itself if there is none."""
    name = name.strip().lower()
    status = await store.status(name)
    if status is not None:
        return status.entry.sensor
    event = await store.event(name)
    return event.sensor if event else name


async def handled(
    store: Store, name: str, by: str, now: int, *, note: str | None = None, until: int | None = None
) -> PutDocument:
    """The edit that acknowledges an alarm, or snoozes it `until` a time; earlier handling of it stays.

    `name` is the sensor's uuid or number, or the id of an event of the alarm. Raises UnknownEntry where there is no such
    sensor or event, RegistryError where it has no alarm, or the event is of another one or less grave than it is by now.
    """
    alarm, event = await _named(store, name.strip().lower())
    key = HANDLING_PREFIX + alarm.sensor
    known = (await store.registry([key])).get(key)
    said = await handling_of(store, known, alarm)
    entry = HandlingEntry(
        alarm.sensor,
        await _graver(store, said, event, alarm),
        acknowledged=until is None or (said is not None and said.acknowledged),
        snoozed_until=said.snoozed_until if until is None and said else until,
        note=said.note if note is None and said else note,
        by=by,
        at=now,
    )
    return PutDocument(entry, known.version if known else 0)


async def handling_of(store: Store, entry: Entry | None, alarm: StandingAlarm) -> HandlingEntry | None:
    """The handling of this alarm, if it is for an event of it that was as grave as the alarm is now."""
    if not isinstance(entry, HandlingEntry) or entry.event_id == alarm.event.event_id:
        return entry if isinstance(entry, HandlingEntry) else None
    event = await store.event(entry.event_id)
    if event is None or event.sensor != alarm.sensor or event.severity < alarm.severity:
        return None
    return entry if await _is_of(store, event, alarm) else None


async def _is_of(store: Store, event: SeverityEvent, alarm: StandingAlarm) -> bool:
    """Whether an event is one of this alarm: the silence of a device that came back for a while is one until that is told."""
    if alarm.has(event.at):
        return True
    hidden = event.severity and alarm.event.device_silent and DEVICE_SILENT in event.lineage.scores
    return bool(hidden) and not await store.told_over(event.event_id)


async def _named(store: Store, name: str) -> tuple[StandingAlarm, SeverityEvent | None]:
    """The alarm that is meant, and the event that it was named by."""
    status = await store.status(name)
    if status is not None:
        if status.alarm is None:
            raise RegistryError(
                f"sensor {status.entry.sensor} is {_normal(status.event)}: it has no alarm that could be handled"
            )
        return status.alarm, None
    event = await store.event(name)
    if event is None:
        raise UnknownEntry(f"no sensor {name} is registered, and no event has this id")
    status = await store.status(event.sensor)
    if status is None:
        raise UnknownEntry(f"event {name} is of sensor {event.sensor}, which is no longer registered")
    return await _checked(store, event, status), event


async def _checked(store: Store, event: SeverityEvent, status: SensorStatus) -> StandingAlarm:
    """The alarm of the event's sensor, where the event is one of it and as grave as it is now."""
    alarm = status.alarm
    whose = f"event {event.event_id} of sensor {event.sensor}"
    if event.severity == Severity.NORMAL:
        raise RegistryError(f"{whose} is the end of an alarm: give the event that tells of its begin")
    if alarm is None:
        raise RegistryError(f"the alarm of {whose} is over: the sensor is {_normal(status.event)}")
    now = f"event {alarm.event.event_id}, {alarm.event.severity} since {moment_text(ms_of(alarm.event.at))}"
    if not await _is_of(store, event, alarm):
        raise RegistryError(f"the alarm of {whose} is over, and there is another one: {now}")
    if event.severity < alarm.severity:
        raise RegistryError(f"the alarm of {whose} has become graver since: give {now}")
    return alarm


def _normal(event: StandingEvent | None) -> str:
    return f"NORMAL since {moment_text(ms_of(event.at))}" if event else "NORMAL"


async def _graver(
    store: Store, said: HandlingEntry | None, event: SeverityEvent | None, alarm: StandingAlarm
) -> str:
    """The event that counts: of an alarm that has eased the graver one, for that it gets as bad again is no news."""
    if event is None:
        return said.event_id if said else alarm.event.event_id
    before = await store.event(said.event_id) if said and said.event_id != event.event_id else None
    return before.event_id if before and before.severity >= event.severity else event.event_id
