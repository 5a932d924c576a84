"""The registry in SQLite, inside a transaction of the caller's."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

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
from streamproc.store.sqlite import documents
from streamproc.store.sqlite.sensors import PARAMETERS
from streamproc.store.stamps import ms_of, stamp_of

_SENSORS = (
    f"SELECT s.uuid, d.uuid, s.id, {', '.join(f's.{name}' for name in SENSOR)}"  # noqa: S608  # constants
    " FROM sensors s LEFT JOIN devices d ON d.id = s.device_id"
)
_DEVICES = "SELECT d.uuid, d.name, d.site, d.tenant, d.status, d.version FROM devices d"
_KEYS = (
    "SELECT d.uuid, k.key_id, k.sha256, k.created_at, k.expires_at, k.revoked_at"
    " FROM device_keys k JOIN devices d ON d.id = k.device_id"
)
_ACTIONS = f"SELECT {', '.join(ACTION)} FROM recommended_actions"  # noqa: S608  # constants
_DROP_ACTION = "DELETE FROM recommended_actions WHERE kind = ? AND cause = ?"
_DEVICE = "(SELECT id FROM devices WHERE uuid = ?)"
_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
_ADD_ACTION = (
    f"INSERT INTO recommended_actions ({', '.join(ACTION)}, updated_at)"  # noqa: S608  # constants
    f" VALUES ({', '.join('?' * len(ACTION))}, {_NOW})"
)
_ADD_SENSOR = (
    f"INSERT INTO sensors (uuid, device_id, id, {', '.join(SENSOR)})"  # noqa: S608  # only the constants above
    f" VALUES (?, {_DEVICE}, ?, {', '.join('?' * len(SENSOR))})"
)
_CHANGE_SENSOR = (
    f"UPDATE sensors SET device_id = {_DEVICE}, {', '.join(f'{name} = ?' for name in SENSOR)},"  # noqa: S608  # as above
    f" updated_at = {_NOW} WHERE uuid = ?"
)
_ADD_DEVICE = (
    "INSERT INTO devices (uuid, name, site, tenant, version, status)"
    " VALUES (?, ?, ?, ?, ?, COALESCE(NULLIF(?, ''), 'online'))"
)
#: A word that others have for a device that may write stays.
_CHANGE_DEVICE = (
    "UPDATE devices SET name = ?, site = ?, tenant = ?, version = ?, status = CASE WHEN ?5 <> '' THEN ?5"  # noqa: S608  # as above
    f" WHEN status IN ('disabled', 'removed') THEN 'online' ELSE status END, updated_at = {_NOW} WHERE uuid = ?6"
)
_ADD_KEY = (
    "INSERT INTO device_keys (device_id, key_id, sha256, created_at, expires_at, created_by)"  # noqa: S608  # as above
    f" VALUES ({_DEVICE}, ?, ?, ?, ?, ?)"
)
_REVOKE = "UPDATE device_keys SET revoked_at = ? WHERE key_id = ? AND revoked_at IS NULL"
_NOTE = "INSERT INTO registry_audit (at, actor, action, kind, name, version, before, after) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
#: By kind and name, as the index is: the audit grows for ever.
_AUDITED = "SELECT name, MAX(version) FROM registry_audit WHERE kind = ? AND name IN ({}) GROUP BY name"


def edit(connection: sqlite3.Connection, edits: Sequence[Edit], by: Author) -> list[Outcome]:
    """Make the tables hold what the edits ask for, and tell what they hold then; raises RegistryError."""
    plan = planned(edits, _standing(connection, wanted(edits)), by)
    _write(connection, plan, by)
    return plan.outcomes


def entries(connection: sqlite3.Connection, only: Collection[str] | None) -> Registered:
    """All entries by their key on the topic, or those of these keys."""
    if only is not None:
        return registered(_standing(connection, keyed(only)))
    sensors = _sensors(connection, [_SENSORS], [()])
    devices = _devices(connection, [(_DEVICES, _KEYS)], [()])
    found = documents.documents(connection)
    return registered(Standing(sensors, devices, _actions(connection), found))


def entry(connection: sqlite3.Connection, sensor: str) -> SensorEntry | None:
    """The entry of one sensor; None where the registry has it no more."""
    found = entries(connection, [sensor]).get(sensor)
    return found if isinstance(found, SensorEntry) else None


def audit(
    connection: sqlite3.Connection, of: tuple[Kind, str] | None, before: int | None, limit: int
) -> list[Audited]:
    """Lines of the audit, newest first, of one entry or all, those before a line."""
    query = (
        "SELECT id, at, actor, action, kind, name, version, before, after FROM registry_audit"
        " WHERE (?1 IS NULL OR id < ?1) AND (?2 IS NULL OR kind = ?2 AND name = ?3) ORDER BY id DESC LIMIT ?4"
    )
    asked = (before, *(of or (None, None)), limit)
    return [_audited(*row) for row in connection.execute(query, asked)]


def _audited(number: int, at: str, *values: Any) -> Audited:
    actor, action, kind, name, version, was, now = values
    before, after = (text and json.loads(text) for text in (was, now))
    return Audited(number, ms_of(at), actor, action, kind, name, version, before, after)


def _standing(connection: sqlite3.Connection, asked: Wanted) -> Standing:
    """The rows that are asked for, and those of the sensors' and devices' own relations."""
    sensors: dict[str, Row[SensorEntry]] = {}
    for column, values in (
        ("s.uuid", asked.sensors),
        ("s.id", asked.numbers),
        ("d.uuid", asked.homes),
    ):
        for query, part in _among(f"{_SENSORS} WHERE {column} IN ({{}})", values):
            sensors |= _sensors(connection, [query], [part])
    devices: dict[str, Row[DeviceEntry]] = {}
    for query, part in _among("WHERE d.uuid IN ({})", asked.devices):
        devices |= _devices(connection, [(f"{_DEVICES} {query}", f"{_KEYS} {query}")], [part])
    audited: dict[tuple[Kind, str], int] = {}
    for kind in {kind for kind, _ in asked.audited}:
        names = {name for its, name in asked.audited if its == kind}
        for query, part in _among(_AUDITED, names):
            audited |= {(kind, name): version for name, version in connection.execute(query, (kind, *part))}
    actions = _actions(connection) if asked.actions else {}
    actions = {name: row for name, row in actions.items() if name in asked.actions}
    found = documents.documents(connection, asked.documents) if asked.documents else {}
    return Standing(sensors, devices, actions, found, audited)


def _sensors(
    connection: sqlite3.Connection, queries: Sequence[str], values: Sequence[Sequence[object]]
) -> dict[str, Row[SensorEntry]]:
    found = (
        row for query, part in zip(queries, values, strict=True) for row in connection.execute(query, part)
    )
    return {row.entry.sensor: row for row in map(sensor_of, found)}


def _devices(
    connection: sqlite3.Connection,
    queries: Sequence[tuple[str, str]],
    values: Sequence[Sequence[object]],
) -> dict[str, Row[DeviceEntry]]:
    found: dict[str, Row[DeviceEntry]] = {}
    for (rows, keys), part in zip(queries, values, strict=True):
        theirs: dict[str, list[tuple[object, ...]]] = {}
        for device, *key in connection.execute(keys, part):
            theirs.setdefault(device, []).append(tuple(key))
        for row in connection.execute(rows, part):
            found[row[0]] = device_of(row, theirs.get(row[0], ()), ms_of)
    return found


def _actions(connection: sqlite3.Connection) -> dict[str, Row[ActionEntry]]:
    """All recommended actions: there are some tens of them."""
    return actions_of(connection.execute(_ACTIONS))


def _among(query: str, values: Collection[object]) -> Iterator[tuple[str, list[object]]]:
    """The query for so many values at a time."""
    listed = sorted(values, key=str)
    for begin in range(0, len(listed), PARAMETERS):
        part = listed[begin : begin + PARAMETERS]
        yield query.format(", ".join("?" * len(part))), part


def _write(connection: sqlite3.Connection, plan: Plan, by: Author) -> None:
    for new in plan.new_devices:
        named = (new.device, new.name, new.site, new.tenant, new.version)
        connection.execute(_ADD_DEVICE, (*named, state_of(Row(new))))
    for device in plan.devices:
        entry = device.entry
        values = (entry.name, entry.site, entry.tenant, entry.version, state_of(device), entry.device)
        connection.execute(_CHANGE_DEVICE, values)
    numbers: dict[str, int] = {}
    for sensor in plan.new_sensors:
        placed = (sensor.sensor, sensor.device, sensor.sensor_id)
        added = connection.execute(_ADD_SENSOR, (*placed, *sensor_values(Row(sensor))))
        numbers[sensor.sensor] = added.lastrowid or 0
    plan.number(numbers)
    for changed in plan.sensors:
        connection.execute(
            _CHANGE_SENSOR, (changed.entry.device, *sensor_values(changed), changed.entry.sensor)
        )
    for action in plan.actions:
        connection.execute(_DROP_ACTION, (action.entry.kind, action.entry.cause))
        connection.executemany(_ADD_ACTION, action_values(action))
    documents.write(connection, plan)
    at = stamp_of(by.at)
    for key_id in plan.revoked_keys:
        connection.execute(_REVOKE, (at, key_id))
    for device_name, key in plan.new_keys:
        expires = None if key.expires_at is None else stamp_of(key.expires_at)
        connection.execute(
            _ADD_KEY, (device_name, key.key_id, key.sha256, stamp_of(key.created_at), expires, by.actor)
        )
    connection.executemany(_NOTE, _notes(plan, at, by))


def _notes(plan: Plan, at: str, by: Author) -> Iterable[tuple[object, ...]]:
    for change in plan.changes:
        named = (change.action, change.kind, change.name, change.version)
        yield (at, by.actor, *named, told(change.before), told(change.after))
