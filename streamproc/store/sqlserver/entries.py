"""The registry in SQL Server, inside a transaction of the caller's."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from streamproc.records import ActionEntry, DeviceEntry, SensorEntry
from streamproc.store.edits import (
    Audited,
    Author,
    Edit,
    Kind,
    Outcome,
    Plan,
    Registered,
    Row,
    Standing,
    Wanted,
    keyed,
    registered,
    told,
    wanted,
)
from streamproc.store.entry_rows import (
    ACTION,
    SENSOR,
    action_values,
    actions_of,
    device_of,
    sensor_of,
    sensor_values,
    state_of,
)
from streamproc.store.planner import planned
from streamproc.store.sqlserver import documents
from streamproc.store.sqlserver.forms import (
    BIGINT,
    CODE,
    FLOAT,
    INT,
    TEXT,
    batched,
    bits_of,
    float_of,
    given,
    text_of,
)
from streamproc.store.sqlserver.sensors import EXACT, key_of
from streamproc.store.sqlserver.times import ms_of, time_of
from streamproc.store.sqlserver.turns import take_turn
from streamproc.store.thresholds import Threshold

#: One edit at a time, whoever makes it. Nobody holds it for longer than an import takes, some seconds.
_TURN = ("streamproc-registry", 20_000, "another edit of the registry is under way")
_RENAMED = {"kind": "sensor_type"}
#: What programs of the reference system do not expect NULL in.
_EMPTY = {"name", "unit", "kind"}
_NAMES = [_RENAMED.get(name, name) for name in SENSOR]
_KINDS = {
    name: FLOAT
    if name.startswith(("warning_", "critical_"))
    else INT
    if name in {"version", "is_active"}
    else TEXT
    if name == "rules"
    else CODE
    for name in SENSOR
}
#: Entries in a statement: half a megabyte of text, where rules are short.
_AT_ONCE = 1_000

_SENSORS = (
    "SELECT s.uuid, d.uuid, s.id, "
    + ", ".join(
        f"NULLIF(s.{column}, N'')" if name in _EMPTY else f"s.{column}"
        for name, column in zip(SENSOR, _NAMES, strict=True)
    )
    + " FROM dbo.sensors s LEFT JOIN dbo.devices d ON d.id = s.device_id"
)
_DEVICES = "SELECT d.uuid, NULLIF(d.name, N''), d.site, d.tenant, d.status, d.version FROM dbo.devices d"
_KEYS = (
    "SELECT d.uuid, k.key_id, k.sha256, k.created_at, k.expires_at, k.revoked_at"
    " FROM dbo.device_keys k JOIN dbo.devices d ON d.id = k.device_id"
)
_DEVICE = f"(SELECT id FROM dbo.devices WHERE uuid = ? {EXACT})"
#: What a sensor's columns are set to, of what is given for them.
_VALUES = [
    f"COALESCE(g.[{name}], N'')"
    if name in _EMPTY
    else float_of(f"g.[{name}]")
    if kind == FLOAT
    else f"g.[{name}]"
    for name, kind in _KINDS.items()
]
_SENSOR = {"guid": CODE, "other": CODE, "device": CODE} | _KINDS
_COLUMNS = f"sensor_uuid, stream_key, device_id, {', '.join(_NAMES)}"
_NEW = "COALESCE(CAST(g.guid AS UNIQUEIDENTIFIER), NEWID()), g.other"
_OF_DEVICE = f"LEFT JOIN dbo.devices d ON d.uuid = g.device {EXACT}"
_ADD_SENSORS = (
    f"INSERT INTO dbo.sensors ({_COLUMNS}) SELECT {_NEW}, d.id, {', '.join(_VALUES)}"
    f" FROM {given(_SENSOR, 'n')} g {_OF_DEVICE} ORDER BY g.n"
)
#: With numbers of their own, which only the table's owner may give (ALTER). That they may be given is of the session, which
#: goes on after an error: left on, it would refuse every sensor without one.
_ADD_NUMBERED = (
    f"BEGIN TRY SET IDENTITY_INSERT dbo.sensors ON; INSERT INTO dbo.sensors (id, {_COLUMNS})"
    f" SELECT g.n, {_NEW}, d.id, {', '.join(_VALUES)} FROM {given({'n': BIGINT} | _SENSOR)} g {_OF_DEVICE};"
    " SET IDENTITY_INSERT dbo.sensors OFF; END TRY"
    " BEGIN CATCH SET IDENTITY_INSERT dbo.sensors OFF; THROW; END CATCH"
)
_NUMBERS = f"SELECT s.uuid, s.id FROM {given({'k': CODE})} g JOIN dbo.sensors s ON s.uuid = g.k {EXACT}"
_CHANGE_SENSORS = (
    "UPDATE s SET device_id = d.id,"
    f" {', '.join(f'{name} = {value}' for name, value in zip(_NAMES, _VALUES, strict=True))},"
    " updated_at = SYSUTCDATETIME()"
    f" FROM dbo.sensors s JOIN {given({'n': BIGINT, 'device': CODE} | _KINDS)} g ON s.id = g.n {_OF_DEVICE}"
)
_DEVICE_KINDS = {"name": CODE, "site": CODE, "tenant": CODE, "version": INT, "state": CODE}
_ADD_DEVICES = (
    "INSERT INTO dbo.devices (device_uuid, stream_key, name, site, tenant, version, status)"
    f" SELECT {_NEW}, COALESCE(g.name, N''), g.site, g.tenant, g.version, COALESCE(NULLIF(g.state, N''), N'online')"
    f" FROM {given({'guid': CODE, 'other': CODE} | _DEVICE_KINDS, 'n')} g ORDER BY g.n"
)
#: A word that others have for a device that may write stays.
_CHANGE_DEVICES = (
    "UPDATE d SET name = COALESCE(g.name, N''), site = g.site, tenant = g.tenant, version = g.version,"
    " status = COALESCE(NULLIF(g.state, N''),"
    " CASE WHEN d.status IN (N'disabled', N'removed') THEN N'online' ELSE d.status END),"
    " updated_at = SYSUTCDATETIME()"
    f" FROM dbo.devices d JOIN {given({'k': CODE} | _DEVICE_KINDS)} g ON d.uuid = g.k {EXACT}"
)
_ACTIONS = f"SELECT {', '.join(f'[{name}]' for name in ACTION)} FROM dbo.recommended_actions"
_DROP_ACTION = "DELETE FROM dbo.recommended_actions WHERE kind = ? AND cause = ?"
_ADD_ACTION = (
    f"INSERT INTO dbo.recommended_actions ({', '.join(f'[{name}]' for name in ACTION)})"
    f" SELECT {', '.join('?' * len(ACTION))}"
)
_ADD_KEY = (
    "INSERT INTO dbo.device_keys (device_id, key_id, sha256, created_at, expires_at, created_by)"
    f" SELECT {_DEVICE}, ?, ?, ?, ?, ?"
)
_REVOKE = "UPDATE dbo.device_keys SET revoked_at = ? WHERE key_id = ? AND revoked_at IS NULL"
_CHANGE = {"action": CODE, "kind": CODE, "name": CODE, "version": INT, "before": TEXT, "after": TEXT}
_NOTE = (
    f"INSERT INTO dbo.registry_audit (at, actor, {', '.join(f'[{name}]' for name in _CHANGE)})"
    f" SELECT ?, ?, {', '.join(f'g.[{name}]' for name in _CHANGE)} FROM {given(_CHANGE, 'n')} g ORDER BY g.n"
)
#: By kind and name, as the index is: the audit grows for ever.
_AUDITED = (
    f"SELECT a.kind, a.name, MAX(a.version) FROM {given({'kind': CODE, 'name': CODE})} g"
    f" JOIN dbo.registry_audit a ON a.kind = g.kind AND a.name = g.name {EXACT} GROUP BY a.kind, a.name"
)
# A database that was there before may have neither word; what nobody says to be graver is a warning.
_THRESHOLDS = (
    "SELECT s.uuid, COALESCE(t.condition_type, N'no condition'), CAST(t.threshold_value_min AS FLOAT(53)),"
    " CAST(t.threshold_value_max AS FLOAT(53)), COALESCE(t.severity, N'warning'), t.is_active"
    " FROM dbo.alert_thresholds t JOIN dbo.sensors s ON s.id = t.sensor_id"
)


async def edit(cursor: Any, edits: Sequence[Edit], by: Author) -> list[Outcome]:
    """Make the tables hold what the edits ask for, and tell what they hold then; raises RegistryError."""
    await take_turn(cursor, *_TURN)
    plan = planned(edits, await _standing(cursor, wanted(edits)), by)
    await _write_devices(cursor, plan)
    await _write_sensors(cursor, plan)
    await _write_actions(cursor, plan)
    await documents.write(cursor, plan)
    await _write_keys(cursor, plan, by)
    notes = [(c.action, c.kind, c.name, c.version, told(c.before), told(c.after)) for c in plan.changes]
    await _write(cursor, _NOTE, _counted(notes), time_of(by.at), by.actor)
    return plan.outcomes


async def entries(cursor: Any, only: Collection[str] | None) -> Registered:
    """All entries by their key on the topic, or those of these keys."""
    if only is not None:
        found, asked = registered(await _standing(cursor, keyed(only))), frozenset(only)
        return {key: entry for key, entry in found.items() if key in asked}  # blanks at the end, see EXACT
    sensors, devices = await _sensors(cursor, _SENSORS), await _devices(cursor, "")
    others = await documents.documents(cursor)
    return registered(Standing(sensors, devices, await _actions(cursor), others))


async def audit(cursor: Any, of: tuple[Kind, str] | None, before: int | None, limit: int) -> list[Audited]:
    """Lines of the audit, newest first, of one entry or all, those before a line."""
    where: list[str] = []
    values: list[object] = []
    if before is not None:
        where.append("id < ?")
        values.append(before)
    if of is not None:
        where.append(f"kind = ? AND name = ? {EXACT}")
        values += of
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    await cursor.execute(
        "SELECT TOP (?) id, at, actor, action, kind, name, version, [before], [after]"
        f" FROM dbo.registry_audit {condition} ORDER BY id DESC",
        limit,
        *values,
    )
    return [
        Audited(
            number,
            ms_of(at),
            actor,
            action,
            kind,
            name,
            version,
            was and json.loads(was),
            now and json.loads(now),
        )
        for number, at, actor, action, kind, name, version, was, now in await cursor.fetchall()
    ]


async def thresholds(cursor: Any, sensor: str | None = None) -> list[Threshold]:
    """All limits in `alert_thresholds`, or those of one sensor, the oldest first."""
    if sensor is None:
        await cursor.execute(f"{_THRESHOLDS} ORDER BY t.id")
    else:
        await cursor.execute(f"{_THRESHOLDS} WHERE s.uuid = ? {EXACT} ORDER BY t.id", sensor)
    return [
        Threshold(sensor, condition.lower(), low, high, severity.lower(), bool(is_active))
        for sensor, condition, low, high, severity, is_active in await cursor.fetchall()
    ]


async def _standing(cursor: Any, asked: Wanted) -> Standing:
    sensors: dict[str, Row[SensorEntry]] = {}
    for values, kind, condition in (
        (asked.sensors, CODE, f"s.uuid = g.k {EXACT}"),
        (asked.numbers, BIGINT, "s.id = g.k"),
        (asked.homes, CODE, f"d.uuid = g.k {EXACT}"),
    ):
        if values:
            joined = f"{_SENSORS} JOIN {given({'k': kind})} g ON {condition}"
            sensors |= await _sensors(cursor, joined, _listed(values))
    devices: dict[str, Row[DeviceEntry]] = {}
    if asked.devices:
        devices = await _devices(
            cursor, f"JOIN {given({'k': CODE})} g ON d.uuid = g.k {EXACT}", _listed(asked.devices)
        )
    audited: dict[tuple[Kind, str], int] = {}
    if asked.audited:
        await cursor.execute(_AUDITED, text_of(sorted(asked.audited)))
        audited = {(kind, name): version for kind, name, version in await cursor.fetchall()}
    actions = await _actions(cursor) if asked.actions else {}
    actions = {name: row for name, row in actions.items() if name in asked.actions}
    found = await documents.documents(cursor, asked.documents) if asked.documents else {}
    return Standing(sensors, devices, actions, found, audited)


def _listed(values: Collection[Any]) -> str:
    return text_of([value] for value in sorted(values, key=str))


async def entry(cursor: Any, sensor: str) -> SensorEntry | None:
    """The entry of one sensor; None where the registry has it no more."""
    found = (await entries(cursor, [sensor])).get(sensor)
    return found if isinstance(found, SensorEntry) else None


async def _sensors(cursor: Any, query: str, *values: str) -> dict[str, Row[SensorEntry]]:
    await cursor.execute(query, *values)
    found = map(sensor_of, map(tuple, await cursor.fetchall()))
    return {row.entry.sensor: row for row in found}


async def _devices(cursor: Any, joined: str, *values: str) -> dict[str, Row[DeviceEntry]]:
    await cursor.execute(f"{_KEYS} {joined}", *values)
    keys: dict[str, list[tuple[Any, ...]]] = {}
    for device, *key in await cursor.fetchall():
        keys.setdefault(device, []).append(tuple(key))
    await cursor.execute(f"{_DEVICES} {joined}", *values)
    rows = [tuple(row) for row in await cursor.fetchall()]
    return {row[0]: device_of(row, keys.get(row[0], ()), ms_of) for row in rows}


async def _actions(cursor: Any) -> dict[str, Row[ActionEntry]]:
    """All recommended actions: there are some tens of them."""
    await cursor.execute(_ACTIONS)
    return actions_of(map(tuple, await cursor.fetchall()))


async def _write(cursor: Any, statement: str, rows: Iterable[Sequence[object]], *more: object) -> None:
    """Run a statement that is `given` rows, so many at a time; `more` are parameters before them."""
    for part in batched(rows, _AT_ONCE):
        await cursor.execute(statement, *more, text_of(part))


def _counted(rows: Iterable[Sequence[object]]) -> Iterator[Sequence[object]]:
    """Rows with their places before them: their numbers in the database are in that order."""
    return ((place, *row) for place, row in enumerate(rows))


async def _write_devices(cursor: Any, plan: Plan) -> None:
    added = ((*key_of(new.device)[1:], *_device_values(Row(new))) for new in plan.new_devices)
    await _write(cursor, _ADD_DEVICES, _counted(added))
    await _write(cursor, _CHANGE_DEVICES, ((row.entry.device, *_device_values(row)) for row in plan.devices))


def _device_values(row: Row[DeviceEntry]) -> tuple[object, ...]:
    return (row.entry.name, row.entry.site, row.entry.tenant, row.entry.version, state_of(row))


async def _write_sensors(cursor: Any, plan: Plan) -> None:
    added = [(new, (*key_of(new.sensor)[1:], new.device, *_bits(Row(new)))) for new in plan.new_sensors]
    await _write(cursor, _ADD_SENSORS, _counted(row for new, row in added if new.sensor_id is None))
    await _write(
        cursor, _ADD_NUMBERED, ((new.sensor_id, *row) for new, row in added if new.sensor_id is not None)
    )
    numbers: dict[str, int] = {}
    for part in batched(plan.new_sensors, _AT_ONCE):
        await cursor.execute(_NUMBERS, _listed([new.sensor for new in part]))
        numbers |= {uuid: int(number) for uuid, number in await cursor.fetchall()}
    plan.number(numbers)
    changed = ((row.entry.sensor_id, row.entry.device, *_bits(row)) for row in plan.sensors)
    await _write(cursor, _CHANGE_SENSORS, changed)


def _bits(row: Row[SensorEntry]) -> Iterator[object]:
    """The values of SENSOR, floats as their bits."""
    for kind, value in zip(_KINDS.values(), sensor_values(row), strict=True):
        if kind == FLOAT and isinstance(value, int | float):
            yield bits_of(np.array([value], dtype=np.float64)).item()
        else:
            yield value


async def _write_actions(cursor: Any, plan: Plan) -> None:
    for row in plan.actions:
        await cursor.execute(_DROP_ACTION, row.entry.kind, row.entry.cause)
        for values in action_values(row):
            await cursor.execute(_ADD_ACTION, *values)


async def _write_keys(cursor: Any, plan: Plan, by: Author) -> None:
    for key_id in plan.revoked_keys:
        await cursor.execute(_REVOKE, time_of(by.at), key_id)
    for device, key in plan.new_keys:
        expires = None if key.expires_at is None else time_of(key.expires_at)
        await cursor.execute(
            _ADD_KEY, device, key.key_id, key.sha256, time_of(key.created_at), expires, by.actor
        )
