"""Who handles one sensor's alarm, and what keeps people from being told of it, for its status."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from streamproc.core.attention.silences import Hush, Silences
from streamproc.core.attention.times import FAR
from streamproc.records import Severity
from streamproc.records.alerting import HANDLING_PREFIX, HandlingEntry
from streamproc.registry.handling import handling_of
from streamproc.store.protocol import Store
from streamproc.store.sensor_status import SensorStatus, SeverityName


class InForce(msgspec.Struct, frozen=True):
    """A silence or maintenance that covers the sensor now, in force `until` then; null means until somebody ends it.

    What is graver than `up_to` is told all the same.
    """

    silence: str
    until: datetime | None
    up_to: SeverityName
    maintenance: bool
    reason: str | None
    by: str | None


class Attended(msgspec.Struct, frozen=True):
    """Who handles the sensor's present alarm, and what keeps people from being told of the sensor now.

    `acknowledged` holds until the alarm is over or gets graver; `by`, `note` and `at` are who has said so, or has snoozed it
    until `snoozed_until`, what else, and when. Of the `silences` in force the one that lasts longest comes first; one of them
    is `maintenance`.
    """

    acknowledged: bool = False
    snoozed_until: datetime | None = None
    by: str | None = None
    note: str | None = None
    at: datetime | None = None
    maintenance: bool = False
    silences: tuple[InForce, ...] = ()


async def attended(store: Store, status: SensorStatus, silences: Silences, now: int) -> Attended:
    """The handling of a sensor's alarm at a time in ms, under these silences."""
    entry, alarm = status.entry, status.alarm
    handling = await _handling(store, status, now)
    severity = alarm.severity if alarm else Severity.NORMAL
    found = tuple(map(_in_force, silences.hushes(entry.sensor, entry, severity, now)))
    return Attended(
        acknowledged=handling is not None and handling.acknowledged,
        snoozed_until=_time(handling.snoozed_until) if handling and _lasts(handling, now) else None,
        by=handling.by if handling else None,
        note=handling.note if handling else None,
        at=_time(handling.at) if handling else None,
        maintenance=any(each.maintenance for each in found),
        silences=found,
    )


async def _handling(store: Store, status: SensorStatus, now: int) -> HandlingEntry | None:
    """What people have said of the alarm that is in force yet."""
    if status.alarm is None:
        return None
    key = HANDLING_PREFIX + status.entry.sensor
    entry = (await store.registry([key])).get(key)
    handling = await handling_of(store, entry, status.alarm)
    return handling if handling and (handling.acknowledged or _lasts(handling, now)) else None


def _lasts(handling: HandlingEntry, now: int) -> bool:
    return handling.snoozed_until is not None and handling.snoozed_until > now


def _in_force(hush: Hush) -> InForce:
    silence = hush.silence
    up_to: SeverityName = "WARN" if silence.up_to == Severity.WARN else "CRITICAL"
    until = _time(hush.until) if hush.until < FAR else None
    return InForce(silence.silence, until, up_to, silence.maintenance, silence.reason, silence.by)


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
