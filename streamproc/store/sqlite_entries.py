"""The registry's entries in SQLite, inside a transaction that the caller begins and ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from msgspec.structs import replace

from streamproc.errors import RegistryError
from streamproc.records import SensorEntry
from streamproc.store.entry_rows import entry_of, row_of
from streamproc.store.sqlite_sensors import add_devices

_COLUMNS = "name, unit, kind, warning_low, warning_high, critical_low, critical_high, version"
_SELECT = (
    "SELECT s.uuid, d.uuid, s.id, s.name, s.unit, s.kind, s.warning_low, s.warning_high, s.critical_low,"
    " s.critical_high, s.version FROM sensors s LEFT JOIN devices d ON d.id = s.device_id"
)
_DEVICE = "(SELECT id FROM devices WHERE uuid = ?)"
_INSERT = (
    f"INSERT INTO sensors (uuid, device_id, id, {_COLUMNS})"  # noqa: S608  # only the constants above
    f" VALUES (?, {_DEVICE}, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE = (
    f"UPDATE sensors SET uuid = ?, device_id = {_DEVICE},"  # noqa: S608  # as above
    " id = ?, name = ?, unit = ?, kind = ?, warning_low = ?, warning_high = ?, critical_low = ?,"
    " critical_high = ?, version = ?, updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE id = ?"
)


def entries(connection: sqlite3.Connection) -> list[SensorEntry]:
    """All entries, by sensor."""
    return [entry_of(row) for row in connection.execute(f"{_SELECT} ORDER BY s.uuid")]


def save(connection: sqlite3.Connection, wanted: Sequence[SensorEntry]) -> list[SensorEntry]:
    """Make the table hold these entries; returns them as they stand, raises RegistryError with all faults."""
    faults = [fault for entry in wanted if (fault := _clash(connection, entry))]
    if faults:
        raise RegistryError("\n".join(faults))
    return [_save_one(connection, entry) for entry in wanted]


def _clash(connection: sqlite3.Connection, entry: SensorEntry) -> str | None:
    """Why the entry cannot have the `sensor_id` that it asks for."""
    query = "SELECT uuid, id FROM sensors WHERE uuid = ? OR id = ?"
    for uuid, number in connection.execute(query, (entry.sensor, entry.sensor_id)):
        if uuid != entry.sensor:
            return f"{entry.sensor}: sensor_id {number} is that of {uuid}"
        if entry.sensor_id not in (None, number):
            return f"{entry.sensor}: sensor_id is {number}, and stays so: its readings refer to it"
    return None


def _save_one(connection: sqlite3.Connection, entry: SensorEntry) -> SensorEntry:
    found = connection.execute(f"{_SELECT} WHERE s.uuid = ?", (entry.sensor,)).fetchone()
    if entry.device:
        add_devices(connection, [entry.device])
    if found is None:
        number = connection.execute(_INSERT, row_of(entry)).lastrowid
        return replace(entry, sensor_id=number)
    standing = entry_of(found)
    device = entry.device or standing.device
    changed = replace(entry, device=device, sensor_id=standing.sensor_id, version=standing.version)
    if row_of(changed) == row_of(standing):
        return standing
    changed = replace(changed, version=standing.version + 1)
    connection.execute(_UPDATE, (*row_of(changed), standing.sensor_id))
    return changed
