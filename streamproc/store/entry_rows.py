"""Entries of the registry as rows, with the columns named here; times are in the database's own form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

import msgspec
import structlog

from streamproc.records import ActionEntry, DeviceEntry, DeviceKey, Language, Range, Rule, SensorEntry
from streamproc.store.edits import Row

#: A sensor's columns beside its uuid, its device and its id, in the order of a row's values.
SENSOR = (
    "name",
    "unit",
    "kind",
    "site",
    "tenant",
    "warning_low",
    "warning_high",
    "warning_clear_low",
    "warning_clear_high",
    "critical_low",
    "critical_high",
    "critical_clear_low",
    "critical_clear_high",
    "rules",
    "version",
    "is_active",
)
#: The columns of a recommended action in one language.
ACTION = ("kind", "cause", "language", "text", "version", "is_active")
#: Its languages: each is a field of the entry.
LANGUAGES = get_args(Language)
#: What programs of other people call a device that nothing is taken from, and one that has left the registry.
DISABLED, REMOVED = "disabled", "removed"
#: Bounds of a range, in a row's order.
_RANGE = 4

_rules = msgspec.json.Decoder(tuple[Rule, ...]).decode
_log = structlog.get_logger(__name__)


def sensor_values(row: Row[SensorEntry]) -> tuple[object, ...]:
    """The values of SENSOR."""
    entry = row.entry
    warning, critical = entry.warning or Range(), entry.critical or Range()
    rules = msgspec.json.encode(entry.rules).decode() if entry.rules else None
    return (
        entry.name,
        entry.unit,
        entry.kind,
        entry.site,
        entry.tenant,
        *(warning.low, warning.high, warning.clear_low, warning.clear_high),
        *(critical.low, critical.high, critical.clear_low, critical.clear_high),
        rules,
        entry.version,
        int(row.registered),
    )


def sensor_of(values: Sequence[Any]) -> Row[SensorEntry]:
    """The sensor with this uuid, device's uuid and id, and the values of SENSOR behind them."""
    sensor, device, number, name, unit, kind, site, tenant, *bounds, rules, version, active = values
    entry = SensorEntry(
        sensor=sensor,
        device=device,
        sensor_id=number,
        name=name,
        unit=unit,
        kind=kind,
        site=site,
        tenant=tenant,
        warning=_range(bounds[:_RANGE]),
        critical=_range(bounds[_RANGE:]),
        rules=_rules_of(sensor, rules),
        version=version,
    )
    return Row(entry, registered=bool(active))


def _range(bounds: Sequence[float | None]) -> Range | None:
    """A range of floats: older tables have decimals."""
    if all(bound is None for bound in bounds):
        return None
    return Range(*(None if bound is None else float(bound) for bound in bounds))


def _rules_of(sensor: str, text: str | None) -> tuple[Rule, ...]:
    """Rules that somebody has written by hand may be none: the sensor's other judgements stay."""
    if not text:
        return ()
    try:
        return _rules(text)
    except msgspec.MsgspecError as error:
        _log.warning("rules in the database not understood", sensor=sensor, reason=str(error))
        return ()


def state_of(row: Row[DeviceEntry]) -> str:
    """What a device's status has to say: `disabled`, `removed`, or nothing of these."""
    if not row.registered:
        return REMOVED
    return "" if row.entry.enabled else DISABLED


def device_of(
    values: Sequence[Any], keys: Iterable[Sequence[Any]], ms: Callable[[Any], int]
) -> Row[DeviceEntry]:
    """The device with this uuid, name, site, tenant, status and version.

    `keys` are key_id, sha256, created_at, expires_at and revoked_at of its own; `ms` reads the database's times.
    """
    device, name, site, tenant, status, version = values
    live, revoked = [], set()
    for key_id, sha256, created_at, expires_at, revoked_at in keys:
        if revoked_at is None:
            expires = None if expires_at is None else ms(expires_at)
            live.append(DeviceKey(key_id, sha256, ms(created_at), expires))
        else:
            revoked.add(key_id)
    entry = DeviceEntry(
        device=device,
        name=name,
        site=site,
        tenant=tenant,
        enabled=status != DISABLED,
        keys=tuple(sorted(live, key=lambda key: (key.created_at, key.key_id))),
        version=version,
    )
    return Row(entry, registered=status != REMOVED, revoked=frozenset(revoked))


def action_values(row: Row[ActionEntry]) -> list[tuple[object, ...]]:
    """The rows of ACTION that an entry is: one for each of its languages."""
    entry = row.entry
    told = [(language, getattr(entry, language)) for language in LANGUAGES]
    return [
        (entry.kind, entry.cause, language, text, entry.version, int(row.registered))
        for language, text in told
        if text is not None
    ]


def actions_of(rows: Iterable[Sequence[Any]]) -> dict[str, Row[ActionEntry]]:
    """The entries of rows of ACTION, by name. One language may be switched off; an entry without any has been removed.

    >>> actions_of([("*", "stuck", "en", "Look.", 2, 1), ("*", "stuck", "es", "Mire.", 1, 0)])["*/stuck"].entry
    ActionEntry(kind='*', cause='stuck', en='Look.', es=None, version=2)
    """
    parts: dict[tuple[str, str], list[Sequence[Any]]] = {}
    for kind, cause, *rest in rows:
        parts.setdefault((kind, cause), []).append(rest)
    found: dict[str, Row[ActionEntry]] = {}
    for (kind, cause), theirs in parts.items():
        active = [part for part in theirs if part[-1]]
        texts = {language: text for language, text, *_ in active or theirs}
        version = max(int(part[2]) for part in theirs)
        entry = ActionEntry(kind, cause, **texts, version=version)
        found[entry.name] = Row(entry, registered=bool(active))
    return found
