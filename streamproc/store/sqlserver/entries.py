"""The registry in SQL Server, inside a transaction that the caller begins and ends."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from streamproc.errors import StoreUnavailable
from streamproc.records import DeviceEntry, SensorEntry
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
from streamproc.store.entry_rows import SENSOR, device_of, sensor_of, sensor_values, state_of
from streamproc.store.planner import planned
from streamproc.store.sqlserver.forms import BIGINT, CODE, given, text_of
from streamproc.store.sqlserver.sensors import EXACT, key_of
from streamproc.store.thresholds import Threshold

#: One edit at a time, whoever makes it: what two of them read and write is not locked row by row. Ends with the transaction.
#: Nobody holds it for longer than an import takes, some seconds.
_TURN = (
    "SET NOCOUNT ON; DECLARE @turn INT;"
    " EXEC @turn = sp_getapplock @Resource = N'streamproc-registry', @LockMode = N'Exclusive',"
    " @LockOwner = N'Transaction', @LockTimeout = 20000; SELECT @turn"
)
_RENAMED = {"kind": "sensor_type"}
#: What programs of the reference system do not expect NULL in.
_EMPTY = {"name", "unit", "kind"}
_NAMES = [_RENAMED.get(name, name) for name in SENSOR]
_VALUES = ["COALESCE(?, N'')" if name in _EMPTY else "?" for name in SENSOR]

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
_COLUMNS = f"sensor_uuid, stream_key, device_id, {', '.join(_NAMES)}"
_GIVEN = f"COALESCE(CAST(? AS UNIQUEIDENTIFIER), NEWID()), ?, {_DEVICE}, {', '.join(_VALUES)}"
_ADD_SENSOR = f"INSERT INTO dbo.sensors ({_COLUMNS}) SELECT {_GIVEN}"
#: With a number of its own, which only the table's owner may give (ALTER).
_ADD_NUMBERED = (
    f"SET IDENTITY_INSERT dbo.sensors ON; INSERT INTO dbo.sensors (id, {_COLUMNS}) SELECT ?, {_GIVEN};"
    " SET IDENTITY_INSERT dbo.sensors OFF"
)
_CHANGE_SENSOR = (
    f"UPDATE dbo.sensors SET device_id = {_DEVICE},"
    f" {', '.join(f'{name} = {value}' for name, value in zip(_NAMES, _VALUES, strict=True))},"
    " updated_at = SYSUTCDATETIME() WHERE id = ?"
)
_ADD_DEVICE = (
    "INSERT INTO dbo.devices (device_uuid, stream_key, name, site, tenant, version, status)"
    " SELECT COALESCE(CAST(? AS UNIQUEIDENTIFIER), NEWID()), ?, COALESCE(?, N''), ?, ?, ?,"
    " COALESCE(NULLIF(?, N''), N'online')"
)
#: A word that others have for a device that may write stays.
_CHANGE_DEVICE = (
    "UPDATE dbo.devices SET name = COALESCE(?, N''), site = ?, tenant = ?, version = ?,"
    " status = COALESCE(NULLIF(?, N''),"
    " CASE WHEN status IN (N'disabled', N'removed') THEN N'online' ELSE status END),"
    f" updated_at = SYSUTCDATETIME() WHERE uuid = ? {EXACT}"
)
_ADD_KEY = (
    "INSERT INTO dbo.device_keys (device_id, key_id, sha256, created_at, expires_at, created_by)"
    f" SELECT {_DEVICE}, ?, ?, ?, ?, ?"
)
_REVOKE = "UPDATE dbo.device_keys SET revoked_at = ? WHERE key_id = ? AND revoked_at IS NULL"
_NOTE = (
    "INSERT INTO dbo.registry_audit (at, actor, action, kind, name, version, [before], [after])"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_AUDITED = (
    f"SELECT a.kind, a.name, MAX(a.version) FROM {given({'k': CODE})} g"
    f" JOIN dbo.registry_audit a ON a.name = g.k {EXACT} GROUP BY a.kind, a.name"
)
_THRESHOLDS = (
    "SELECT s.uuid, t.condition_type, CAST(t.threshold_value_min AS FLOAT(53)),"
    " CAST(t.threshold_value_max AS FLOAT(53)), t.severity, t.is_active"
    " FROM dbo.alert_thresholds t JOIN dbo.sensors s ON s.id = t.sensor_id ORDER BY t.id"
)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # the database's own times are UTC without a zone


async def edit(cursor: Any, edits: Sequence[Edit], by: Author) -> list[Outcome]:
    """Make the tables hold what the edits ask for, and tell what they hold then; raises RegistryError."""
    await cursor.execute(_TURN)
    if (await cursor.fetchone())[0] < 0:
        raise StoreUnavailable("another edit of the registry is under way", "locked")
    plan = planned(edits, await _standing(cursor, wanted(edits)), by)
    await _write_devices(cursor, plan)
    await _write_sensors(cursor, plan)
    await _write_keys(cursor, plan, by)
    for change in plan.changes:
        named = (change.action, change.kind, change.name, change.version)
        await cursor.execute(_NOTE, _time(by.at), by.actor, *named, told(change.before), told(change.after))
    return plan.outcomes


async def entries(cursor: Any, only: Collection[str] | None) -> Registered:
    """All entries by their key on the topic, or those of these keys."""
    if only is not None:
        standing = await _standing(cursor, keyed(only))
        return registered(standing.sensors, standing.devices)
    return registered(await _sensors(cursor, _SENSORS), await _devices(cursor, ""))


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
            _ms(at),
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


async def thresholds(cursor: Any) -> list[Threshold]:
    """All limits in `alert_thresholds`, the oldest first."""
    await cursor.execute(_THRESHOLDS)
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
        await cursor.execute(_AUDITED, _listed({name for _, name in asked.audited}))
        audited = {(kind, name): version for kind, name, version in await cursor.fetchall()}
    return Standing(sensors, devices, audited)


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
    return {row[0]: device_of(row, keys.get(row[0], ()), _ms) for row in rows}


async def _write_devices(cursor: Any, plan: Plan) -> None:
    for new in plan.new_devices:
        _, guid, other = key_of(new.device)
        await cursor.execute(
            _ADD_DEVICE, guid, other, new.name, new.site, new.tenant, new.version, state_of(Row(new))
        )
    for row in plan.devices:
        entry = row.entry
        values = (entry.name, entry.site, entry.tenant, entry.version, state_of(row))
        await cursor.execute(_CHANGE_DEVICE, *values, entry.device)


async def _write_sensors(cursor: Any, plan: Plan) -> None:
    numbers: dict[str, int] = {}
    for new in plan.new_sensors:
        uuid, guid, other = key_of(new.sensor)
        values = (guid, other, new.device, *sensor_values(Row(new)))
        if new.sensor_id is None:
            await cursor.execute(_ADD_SENSOR, *values)
        else:
            await cursor.execute(_ADD_NUMBERED, new.sensor_id, *values)
        await cursor.execute(f"SELECT id FROM dbo.sensors WHERE uuid = ? {EXACT}", uuid)
        (numbers[new.sensor],) = await cursor.fetchone()
    plan.number(numbers)
    for row in plan.sensors:
        entry = row.entry
        await cursor.execute(_CHANGE_SENSOR, entry.device, *sensor_values(row), entry.sensor_id)


async def _write_keys(cursor: Any, plan: Plan, by: Author) -> None:
    for key_id in plan.revoked_keys:
        await cursor.execute(_REVOKE, _time(by.at), key_id)
    for device, key in plan.new_keys:
        expires = None if key.expires_at is None else _time(key.expires_at)
        await cursor.execute(
            _ADD_KEY, device, key.key_id, key.sha256, _time(key.created_at), expires, by.actor
        )


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _ms(time: datetime) -> int:
    return int(time.replace(tzinfo=UTC).timestamp() * 1000 + 0.5)
