"""Checks documents before they go into the registry; each fault is a sentence that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec.structs import replace

from streamproc.core import numbers
from streamproc.core.attention.silences import FIELDS
from streamproc.records import ANY_KIND, Range, Severity
from streamproc.records.alerting import (
    HandlingEntry,
    LearnersEntry,
    PolicyEntry,
    SilenceEntry,
    TrialEntry,
    Weekly,
)
from streamproc.registry.checks import (
    LAST_MS,
    NAME_LIMIT,
    TEXT_LIMITS,
    kind_faults,
    names,
    range_faults,
    rules_faults,
)
from streamproc.store.documents import AlertingEntry, DocumentEntry, Unreadable

#: Windows in a row, as of a rule: beyond a quarter of an hour of the smallest, seconds are meant.
_WINDOWS = 1_000
#: Nobody waits for longer than a month to be told again: what is to be never is 0.
_SECONDS = 31 * 86_400
#: A week has so many minutes; what lasts longer always is.
_WEEK = 7 * 24 * 60
#: A line in a list; alert_notifications.message has room for it behind the explanation.
_LINE = 500
_SUNDAY = 6
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
Alerting = TypeVar("Alerting", bound=AlertingEntry)
#: What is compared in lower case, as the topics have it.
_LOWERED: dict[type, tuple[str, ...]] = {
    PolicyEntry: ("kind",),
    SilenceEntry: ("silence", "sensor", "device", "kind"),
    HandlingEntry: ("sensor",),
    TrialEntry: ("trial", "kind", "sensor"),
    LearnersEntry: ("kind",),
}
_AT = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


def document_faults(entry: DocumentEntry) -> Iterator[str]:
    """What is wrong with a document."""
    match entry:
        case PolicyEntry():
            yield from policy_faults(entry)
        case SilenceEntry():
            yield from silence_faults(entry)
        case HandlingEntry():
            yield from handling_faults(entry)
        case TrialEntry():
            yield from trial_faults(entry)
        case LearnersEntry():
            yield from learners_faults(entry)
        case Unreadable():
            yield f"{entry.key}: {entry.reason}"


def normal(entry: Alerting) -> Alerting:
    """The document as the topic has it: names, and kinds of sensors, in lower case."""
    lowered = {
        field: text.lower()
        for field in _LOWERED[type(entry)]
        if isinstance(text := getattr(entry, field), str)
    }
    return replace(entry, **lowered)


def policy_faults(entry: PolicyEntry) -> Iterator[str]:
    """What is wrong with a policy."""
    whose = f"policy {entry.kind}"
    yield from kind_faults(whose, entry.kind)
    yield from _windows_faults(whose, entry)
    for field in ("cooldown_seconds", "remind_seconds", "escalate_seconds"):
        seconds = getattr(entry, field)
        if not (isfinite(seconds) and (seconds == 0 or 1 <= seconds <= _SECONDS)):
            yield f"{whose}: {field} must be 1 to {_SECONDS} (31 days), or 0 for never"


def _windows_faults(whose: str, entry: PolicyEntry | TrialEntry) -> Iterator[str]:
    for field in ("up_windows", "down_windows"):
        windows = getattr(entry, field)
        if windows is not None and not 1 <= windows <= _WINDOWS:
            yield f"{whose}: {field} must be 1 to {_WINDOWS}"


def silence_faults(entry: SilenceEntry) -> Iterator[str]:
    """What is wrong with a silence."""
    whose = f"silence {entry.silence}"
    yield from _id_faults("silence", entry.silence)
    scope = [field for field in FIELDS if getattr(entry, field) is not None]
    if entry.all_sensors and scope:
        yield f"{whose}: all_sensors and {scope[0]} exclude one another"
    if not (entry.all_sensors or scope):
        yield f"{whose}: say of which sensors, by {', '.join(FIELDS)}; or set all_sensors"
    for field in ("sensor", "device"):
        name = getattr(entry, field)
        if name is not None:
            yield from (f"{whose}: {fault}" for fault in _lower_names(field, name))
    if entry.kind is not None:
        yield from kind_faults(whose, entry.kind)
    for field in ("site", "tenant"):
        text = getattr(entry, field)
        if text is not None and not 1 <= len(text) <= TEXT_LIMITS[field]:
            yield f"{whose}: {field} must have 1 to {TEXT_LIMITS[field]} characters"
    yield from _span_faults(whose, entry)
    if entry.up_to is Severity.NORMAL:
        yield f"{whose}: up_to must be 1 (WARN: what is CRITICAL is told) or 2 (CRITICAL: nothing is)"
    yield from _line_faults(whose, entry, "reason", "by")


def _span_faults(whose: str, entry: SilenceEntry) -> Iterator[str]:
    for field in ("begin", "end"):
        if not 0 <= (getattr(entry, field) or 0) <= LAST_MS:
            yield f"{whose}: {field} must be milliseconds since 1970"
    if entry.begin is not None and entry.end is not None and entry.end <= entry.begin:
        yield f"{whose}: its end must come after its begin"
    if entry.weekly is not None:
        yield from (f"{whose}: weekly: {fault}" for fault in _weekly_faults(entry.weekly))


def _weekly_faults(weekly: Weekly) -> Iterator[str]:
    days = weekly.days
    if not days or len(set(days)) < len(days) or not all(0 <= day <= _SUNDAY for day in days):
        yield "days must be some of 0 (Monday) to 6 (Sunday), each once"
    if not _AT.fullmatch(weekly.at):
        yield 'at must be a time of day, "00:00" to "23:59"'
    if not 1 <= weekly.minutes <= _WEEK:
        yield f"minutes must be 1 to {_WEEK} (a week)"
    try:
        ZoneInfo(weekly.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a directory's name
        yield (
            f"the zone {weekly.zone!r} is not known here: give an IANA name such as Europe/Madrid; where none is known but"
            " UTC, install the system's time zones (package tzdata)"
        )


def handling_faults(entry: HandlingEntry) -> Iterator[str]:
    """What is wrong with the handling of an alarm."""
    whose = f"handling {entry.sensor}"
    yield from (f"{whose}: {fault}" for fault in _lower_names("sensor", entry.sensor))
    if not 1 <= len(entry.event_id) <= NAME_LIMIT or not entry.event_id.isprintable():
        yield f"{whose}: event_id must be that of the alarm's event"
    if not entry.acknowledged and entry.snoozed_until is None:
        yield f"{whose}: neither acknowledged nor snoozed: set acknowledged, snoozed_until or both"
    for field in ("snoozed_until", "at"):
        if not 0 <= (getattr(entry, field) or 0) <= LAST_MS:
            yield f"{whose}: {field} must be milliseconds since 1970"
    yield from _line_faults(whose, entry, "note", "by")


def trial_faults(entry: TrialEntry) -> Iterator[str]:
    """What is wrong with a trial."""
    whose = f"trial {entry.trial}"
    yield from _id_faults("trial", entry.trial)
    yield from kind_faults(whose, entry.kind)
    if entry.sensor is not None:
        yield from (f"{whose}: {fault}" for fault in _lower_names("sensor", entry.sensor))
        if entry.kind != ANY_KIND:
            yield f"{whose}: sensor and kind exclude one another"
    yield from (f"{whose}: {fault}" for fault in rules_faults(entry.rules))
    for name in ("warning", "critical"):
        yield from (f"{whose}: {name} {fault}" for fault in range_faults(getattr(entry, name) or Range()))
    yield from (f"{whose}: {fault}" for fault in numbers.faults(entry.learners))
    yield from _windows_faults(whose, entry)
    if not 0 <= entry.begun_at <= LAST_MS:
        yield f"{whose}: begun_at must be milliseconds since 1970"
    yield from _line_faults(whose, entry, "reason")


def learners_faults(entry: LearnersEntry) -> Iterator[str]:
    """What is wrong with the numbers of the live learners."""
    whose = f"learners {entry.kind}"
    yield from kind_faults(whose, entry.kind)
    yield from (f"{whose}: {fault}" for fault in numbers.faults(entry.learners))
    if entry.trial is not None:
        yield from (f"{whose}: {fault}" for fault in _id_faults("trial", entry.trial))


def _id_faults(kind: str, name: str) -> Iterator[str]:
    if not _ID.fullmatch(name):
        yield f"{kind} {name!r}: its name must be 1 to 64 of a-z, 0-9, dot, dash and underscore, and begin with a-z or 0-9"


def _lower_names(field: str, name: str) -> Iterator[str]:
    yield from names(field, name)
    if name != name.lower():
        yield f"{field} must be in lower case, as its name in the registry is"


def _line_faults(whose: str, entry: SilenceEntry | HandlingEntry | TrialEntry, *fields: str) -> Iterator[str]:
    for field in fields:
        text = getattr(entry, field)
        if text is not None and not (1 <= len(text) <= _LINE and text.isprintable() and text.strip()):
            yield f"{whose}: {field} must be a line of 1 to {_LINE} characters, or be left out"
