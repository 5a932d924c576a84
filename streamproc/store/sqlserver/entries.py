"""The registry's entries in SQL Server, inside a transaction that the caller begins and ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from streamproc.errors import RegistryError
from streamproc.records import SensorEntry
from streamproc.store.entry_rows import entry_of, row_of
from streamproc.store.sqlserver.sensors import EXACT, add_devices, key_of
from streamproc.store.thresholds import Threshold

_SELECT = (
    "SELECT s.uuid, d.uuid, s.id, NULLIF(s.name, N''), NULLIF(s.unit, N''), NULLIF(s.sensor_type, N''),"
    " s.warning_low, s.warning_high, s.critical_low, s.critical_high, s.version"
    " FROM dbo.sensors s LEFT JOIN dbo.devices d ON d.id = s.device_id"
)
_DEVICE = f"(SELECT id FROM dbo.devices WHERE uuid = ? {EXACT})"
_COLUMNS = (
    "sensor_uuid, stream_key, device_id, name, unit, sensor_type, warning_low, warning_high, critical_low,"
    " critical_high, version"
)
_VALUES = (
    f"COALESCE(CAST(? AS UNIQUEIDENTIFIER), NEWID()), ?, {_DEVICE}, COALESCE(?, N''), COALESCE(?, N''),"
    " COALESCE(?, N''), ?, ?, ?, ?, ?"
)
_INSERT = f"INSERT INTO dbo.sensors ({_COLUMNS}) SELECT {_VALUES}"
#: With a number of its own, which only the table's owner may give (ALTER).
_INSERT_NUMBERED = (
    f"SET IDENTITY_INSERT dbo.sensors ON; INSERT INTO dbo.sensors (id, {_COLUMNS}) SELECT ?, {_VALUES};"
    " SET IDENTITY_INSERT dbo.sensors OFF"
)
_UPDATE = (
    f"UPDATE dbo.sensors SET device_id = {_DEVICE}, name = COALESCE(?, N''), unit = COALESCE(?, N''),"
    " sensor_type = COALESCE(?, N''), warning_low = ?, warning_high = ?, critical_low = ?, critical_high = ?,"
    " version = ?, updated_at = SYSUTCDATETIME() WHERE id = ?"
)
_THRESHOLDS = (
    "SELECT s.uuid, t.condition_type, CAST(t.threshold_value_min AS FLOAT(53)),"
    " CAST(t.threshold_value_max AS FLOAT(53)), t.severity, t.is_active"
    " FROM dbo.alert_thresholds t JOIN dbo.sensors s ON s.id = t.sensor_id ORDER BY t.id"
)


async def thresholds(cursor: Any) -> list[Threshold]:
    """All limits in `alert_thresholds`, the oldest first."""
    await cursor.execute(_THRESHOLDS)
    return [
        Threshold(sensor, condition.lower(), low, high, severity.lower(), bool(is_active))
        for sensor, condition, low, high, severity, is_active in await cursor.fetchall()
    ]


async def entries(cursor: Any) -> list[SensorEntry]:
    """All entries, by sensor."""
    await cursor.execute(f"{_SELECT} ORDER BY s.uuid")
    return [entry_of(tuple(row)) for row in await cursor.fetchall()]


async def save(cursor: Any, wanted: Sequence[SensorEntry]) -> list[SensorEntry]:
    """Make the table hold these entries; returns them as they stand, raises RegistryError with all faults."""
    faults = [fault for entry in wanted if (fault := await _clash(cursor, entry))]
    if faults:
        raise RegistryError("\n".join(faults))
    return [await _save_one(cursor, entry) for entry in wanted]


async def _clash(cursor: Any, entry: SensorEntry) -> str | None:
    """Why the entry cannot have the `sensor_id` that it asks for."""
    query = f"SELECT uuid, id FROM dbo.sensors WITH (UPDLOCK) WHERE uuid = ? {EXACT} OR id = ?"
    await cursor.execute(query, entry.sensor, entry.sensor_id)
    for uuid, number in await cursor.fetchall():
        if uuid != entry.sensor:
            return f"{entry.sensor}: sensor_id {number} is that of {uuid}"
        if entry.sensor_id not in (None, number):
            return f"{entry.sensor}: sensor_id is {number}, and stays so: its readings refer to it"
    return None


async def _save_one(cursor: Any, entry: SensorEntry) -> SensorEntry:
    found = await _standing(cursor, entry.sensor)
    if entry.device:
        await add_devices(cursor, [entry.device])
    if found is None:
        return await _add(cursor, entry)
    kept = {"device": entry.device or found.device, "sensor_id": found.sensor_id}
    changed = replace(entry, **kept, version=found.version)
    if row_of(changed) == row_of(found):
        return found
    changed = replace(changed, version=found.version + 1)
    _, device, number, *others = row_of(changed)
    await cursor.execute(_UPDATE, device, *others, number)
    return changed


async def _standing(cursor: Any, sensor: str) -> SensorEntry | None:
    await cursor.execute(f"{_SELECT} WHERE s.uuid = ? {EXACT}", sensor)
    row = await cursor.fetchone()
    return None if row is None else entry_of(tuple(row))


async def _add(cursor: Any, entry: SensorEntry) -> SensorEntry:
    _, device, number, *others = row_of(entry)
    uuid, guid, other = key_of(entry.sensor)
    if number is None:
        await cursor.execute(_INSERT, guid, other, device, *others)
    else:
        await cursor.execute(_INSERT_NUMBERED, number, guid, other, device, *others)
    await cursor.execute(f"SELECT id FROM dbo.sensors WHERE uuid = ? {EXACT}", uuid)
    (given,) = await cursor.fetchone()
    return replace(entry, sensor_id=given)
