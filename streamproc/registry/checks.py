"""Checks entries before they go into the registry, wherever they come from; each fault is a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import get_args

from msgspec.structs import replace

from streamproc.core.rules.expressions import ExpressionError, parse
from streamproc.records import (
    ActionEntry,
    Cause,
    DeltaSpike,
    DeviceEntry,
    DeviceKey,
    Expression,
    Language,
    Range,
    Rule,
    SensorEntry,
    Severity,
    StuckValue,
)
from streamproc.store.edits import PREFIXES

#: As long as the codec lets a sensor's or device's name be.
NAME_LIMIT = 128
#: What SQL Server's INT holds: the type of `sensors.id` where old producers number sensors by it.
_ID_LIMIT = 2**31 - 1
#: As long as the columns in SQL Server's tables are; in both databases alike, so that one can follow the other.
TEXT_LIMITS = {"name": 255, "unit": 50, "kind": 100, "site": 128, "tenant": 128}
#: Rules of one sensor: each costs the engine a little for every reading, and nobody has had a use for as many.
_RULES = 16
#: Of the rules `no_data` and `stuck_value`: less than a window says nothing, and a year of silence is no news.
_SECONDS = (1, 31_622_400)
#: Windows in a row: more than a quarter of an hour of the smallest is what `seconds` are for.
_WINDOWS = 1_000
#: Times that every database holds: up to the year 9999.
LAST_MS = 253_402_300_799_999
#: What a person reads in a list; alert_notifications.message has room for it behind the explanation.
_ACTION_LIMIT = 500
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY_ID = re.compile(r"[a-z0-9]{1,32}")
_SURROGATE = re.compile("[\\ud800-\\udfff]")


def normal(entry: SensorEntry) -> SensorEntry:
    """The entry as the topics and the database have it: names in lower case, and no empty ranges."""
    return replace(
        entry,
        sensor=entry.sensor.lower(),
        device=entry.device and entry.device.lower(),
        warning=None if entry.warning == Range() else entry.warning,
        critical=None if entry.critical == Range() else entry.critical,
    )


def sensor_faults(entry: SensorEntry) -> Iterator[str]:
    """What is wrong with a sensor's entry."""
    yield from names("sensor", entry.sensor)
    if entry.device is not None:
        yield from names("device", entry.device)
    yield from _taken(entry.sensor)
    if entry.sensor_id is not None and not 1 <= entry.sensor_id <= _ID_LIMIT:
        yield f"{entry.sensor}: sensor_id must be 1 to {_ID_LIMIT}"
    yield from _texts(entry.sensor, entry)
    for name in ("warning", "critical"):
        for fault in range_faults(getattr(entry, name) or Range()):
            yield f"{entry.sensor}: {name} {fault}"
    warning, critical = entry.warning or Range(), entry.critical or Range()
    if _beyond(critical.low, warning.low) or _beyond(warning.high, critical.high):
        yield f"{entry.sensor}: warning reaches beyond critical, so it would never be told"
    for fault in rules_faults(entry.rules):
        yield f"{entry.sensor}: {fault}"


def rules_faults(rules: Sequence[Rule]) -> Iterator[str]:
    """What is wrong with the rules of a sensor."""
    if len(rules) > _RULES:
        yield f"has {len(rules)} rules, {_RULES} are the most"
    for number, rule in enumerate(rules, 1):
        for fault in (*_number_faults(rule), *_rule_faults(rule)):
            yield f"rule {number}: {fault}"
    if len({rule.tolerance for rule in rules if isinstance(rule, StuckValue)}) > 1:
        yield "all of its rules stuck_value must have the same tolerance"


def _taken(sensor: str) -> Iterator[str]:
    for kind, prefix in PREFIXES.items():
        if sensor.startswith(prefix):
            what = "recommended action" if kind == "action" else kind
            yield f"{sensor}: a sensor's name may not begin with {prefix}: on the topic that is a {what}"


def device_faults(entry: DeviceEntry) -> Iterator[str]:
    """What is wrong with a device's entry."""
    yield from names("device", entry.device)
    yield from _texts(f"device {entry.device}", entry)
    seen: set[str] = set()
    for key in entry.keys:
        if key.key_id in seen or key.sha256 in seen:
            yield f"device {entry.device}: key {key.key_id} is there twice"
        seen |= {key.key_id, key.sha256}
        for fault in _key_faults(key):
            yield f"device {entry.device}: key {key.key_id}: {fault}"


def action_faults(entry: ActionEntry) -> Iterator[str]:
    """What is wrong with a recommended action's entry."""
    whose = f"action {entry.name}"
    yield from kind_faults(whose, entry.kind)
    if entry.cause not in get_args(Cause):
        yield f"{whose}: cause must be one of {', '.join(get_args(Cause))}"
    if entry.en is None and entry.es is None:
        yield f"{whose}: has no text: give it in English (en), Spanish (es) or both"
    for language in get_args(Language):
        text = getattr(entry, language)
        if text is not None and not (1 <= len(text) <= _ACTION_LIMIT and text.isprintable() and text.strip()):
            yield f"{whose}: {language} must be a line of 1 to {_ACTION_LIMIT} characters"


def kind_faults(whose: str, kind: str) -> Iterator[str]:
    """What is wrong with the kind of sensors that an entry is for."""
    limit = TEXT_LIMITS["kind"]
    if not 1 <= len(kind) <= limit or kind != kind.strip() or not kind.isprintable():
        yield f"{whose}: kind must have 1 to {limit} characters, or be * for all kinds"
    elif kind != kind.lower():
        yield f"{whose}: kind must be in lower case: kinds of sensors are compared so"


def names(kind: str, name: str) -> Iterator[str]:
    """What is wrong with a name."""
    if not 1 <= len(name) <= NAME_LIMIT:
        yield f"{kind} must have 1 to {NAME_LIMIT} characters"
    elif not name.isprintable() or name != name.strip():
        yield f"{kind} {name!r} has characters that cannot be seen"


def _texts(whose: str, entry: SensorEntry | DeviceEntry) -> Iterator[str]:
    for field, limit in TEXT_LIMITS.items():
        text = getattr(entry, field, None)
        if text is not None and not 1 <= len(text) <= limit:
            yield f"{whose}: {field} must have 1 to {limit} characters, or be left out"
        elif text is not None and _SURROGATE.search(text):  # YAML's \ud800, which no database takes
            yield f"{whose}: {field} has half a character"


def range_faults(bounds: Range) -> Iterator[str]:
    """What is wrong with a range."""
    given = (bounds.low, bounds.high, bounds.clear_low, bounds.clear_high)
    if not all(isfinite(bound) for bound in given if bound is not None):
        yield "must be finite"
        return
    if _beyond(bounds.low, bounds.high):
        yield f"has low {bounds.low} above high {bounds.high}"
    for clear, bound in (("clear_low", bounds.low), ("clear_high", bounds.high)):
        if getattr(bounds, clear) is not None and bound is None:
            yield f"has {clear}, but no {clear.removeprefix('clear_')} that it belongs to"
    for level in (bounds.clear_low, bounds.clear_high):
        if _beyond(bounds.low, level) or _beyond(level, bounds.high):
            yield f"has the clear level {level} outside the range"
    if _beyond(bounds.clear_low, bounds.clear_high):
        yield f"has clear_low {bounds.clear_low} above clear_high {bounds.clear_high}: nothing would be calm"


def _number_faults(rule: Rule) -> Iterator[str]:
    for field in ("absolute", "percent", "within_seconds", "per_second", "seconds"):
        value = getattr(rule, field, None)
        if value is not None and not (isfinite(value) and value > 0):
            yield f"{field} must be above 0"
        elif field == "seconds" and value is not None and not _SECONDS[0] <= value <= _SECONDS[1]:
            yield f"seconds must be {_SECONDS[0]} to {_SECONDS[1]} (a year)"
    tolerance = getattr(rule, "tolerance", 0.0)
    if not (isfinite(tolerance) and tolerance >= 0):
        yield "tolerance must be 0 or more"
    for field in ("for_windows", "clear_windows"):
        if not 1 <= getattr(rule, field, 1) <= _WINDOWS:
            yield f"{field} must be 1 to {_WINDOWS}"


def _rule_faults(rule: Rule) -> Iterator[str]:
    if isinstance(rule, DeltaSpike) and rule.absolute is None and rule.percent is None:
        yield "needs absolute or percent"
    if rule.severity is Severity.NORMAL:
        yield "severity must be 1 (WARN) or 2 (CRITICAL)"
    if isinstance(rule, Expression):
        try:
            parse(rule.expression)
        except ExpressionError as error:
            yield f"expression {error}"


def _key_faults(key: DeviceKey) -> Iterator[str]:
    if not _KEY_ID.fullmatch(key.key_id):
        yield "key_id must be 1 to 32 of a-z and 0-9"
    if not _SHA256.fullmatch(key.sha256):
        yield "sha256 must be 64 hexadecimal digits in lower case"
    if not 0 <= key.created_at <= LAST_MS or not 0 <= (key.expires_at or 0) <= LAST_MS:
        yield "created_at and expires_at are milliseconds since 1970"


def _beyond(inner: float | None, outer: float | None) -> bool:
    return inner is not None and outer is not None and inner > outer
