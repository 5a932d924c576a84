"""Sensors' keys to their ids in SQL Server, remembered, and registered where they are new."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from streamproc.errors import RowsRefused
from streamproc.store.protocol import Batch
from streamproc.store.sqlserver.forms import BIGINT, CODE, given, text_of

#: Names told in an error.
_TOLD = 5
#: A key of more digits is beyond a 64-bit integer, and no `sensors.id`.
_DIGITS = 18

#: Keys are told apart letter by letter, whatever the database's own collation is.
EXACT = "COLLATE Latin1_General_100_BIN2"
#: A key that is a GUID is in the column of GUIDs, any other beside it; a computed column `uuid` is whichever there is.
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY = {"k": CODE, "guid": CODE, "other": CODE}

_LOAD = (
    f"SELECT g.k, s.id, s.device_id FROM {given({'k': CODE})} g JOIN dbo.sensors s ON s.uuid = g.k {EXACT}"
)
_BY_NUMBER = f"SELECT s.id FROM {given({'k': BIGINT})} g JOIN dbo.sensors s ON s.id = g.k"
_ADD_DEVICES = (
    "INSERT INTO dbo.devices (device_uuid, stream_key)"
    f" SELECT COALESCE(CAST(g.guid AS UNIQUEIDENTIFIER), NEWID()), g.other FROM {given(_KEY)} g"
    f" WHERE NOT EXISTS (SELECT 1 FROM dbo.devices d WITH (UPDLOCK, HOLDLOCK) WHERE d.uuid = g.k {EXACT})"
)
_REGISTER = (
    "INSERT INTO dbo.sensors (sensor_uuid, stream_key, device_id)"
    f" SELECT COALESCE(CAST(g.guid AS UNIQUEIDENTIFIER), NEWID()), g.other, d.id FROM {given(_KEY | {'d': CODE})} g"
    f" LEFT JOIN dbo.devices d ON d.uuid = g.d {EXACT}"
    f" WHERE NOT EXISTS (SELECT 1 FROM dbo.sensors s WITH (UPDLOCK, HOLDLOCK) WHERE s.uuid = g.k {EXACT})"
)
_SETTLE = (
    "UPDATE dbo.sensors SET device_id ="
    f" (SELECT MIN(d.id) FROM {given({'k': CODE, 'd': CODE})} g JOIN dbo.devices d ON d.uuid = g.d {EXACT}"
    f" WHERE g.k {EXACT} = dbo.sensors.uuid)"
    f" WHERE device_id IS NULL AND uuid IN (SELECT g.k {EXACT} FROM {given({'k': CODE})} g)"
)


class Sensors:
    """Keys to `sensors.id`. What it remembers is void once a transaction is rolled back: then `forget`."""

    def __init__(self, *, auto_register: bool) -> None:
        self._auto_register = auto_register
        self._ids: dict[str, int] = {}
        self._homeless: set[str] = set()

    def forget(self) -> None:
        """Ask the database again."""
        self._ids.clear()
        self._homeless.clear()

    async def resolve(self, cursor: Any, batch: Batch) -> dict[str, int]:
        """The id of each sensor of the batch (and others); raises RowsRefused that names the unknown ones."""
        missing = self._missing(batch)
        if missing:
            missing -= await self._load(cursor, missing)
        if missing and self._auto_register:
            await self._register(cursor, batch, missing)
        elif missing:
            missing -= await self._by_number(cursor, missing)
            if missing:
                some = ", ".join(sorted(missing)[:_TOLD])
                raise RowsRefused(f"{len(missing)} unknown sensors: {some}", frozenset(missing))
        if self._homeless and self._auto_register:
            await self._settle(cursor, batch)
        return self._ids

    async def find(self, cursor: Any, batch: Batch) -> dict[str, int]:
        """The id of each sensor of the batch (and others) that `resolve` would find; none is registered."""
        missing = self._missing(batch)
        if missing:
            missing -= await self._load(cursor, missing)
        if missing and not self._auto_register:
            await self._by_number(cursor, missing)
        return self._ids

    def _missing(self, batch: Batch) -> set[str]:
        known = self._ids.keys()
        return {sensor for table in batch.tables() for sensor in set(table.sensor) - known}

    async def _load(self, cursor: Any, keys: Iterable[str]) -> set[str]:
        await cursor.execute(_LOAD, text_of([key] for key in sorted(keys)))
        found = set()
        for key, number, device in await cursor.fetchall():
            found.add(key)
            self._ids[key] = number
            if device is None:
                self._homeless.add(key)
        return found

    async def _by_number(self, cursor: Any, keys: set[str]) -> set[str]:
        """Old producers know a sensor by its `sensors.id`: where all must be registered, a number is that."""
        numbers = {int(key): key for key in keys if key.isascii() and key.isdigit() and len(key) <= _DIGITS}
        if not numbers:
            return set()
        await cursor.execute(_BY_NUMBER, text_of([number] for number in numbers))
        found = set()
        for (number,) in await cursor.fetchall():
            self._ids[numbers[number]] = number
            found.add(numbers[number])
        return found

    async def _register(self, cursor: Any, batch: Batch, keys: set[str]) -> None:
        devices = _devices(batch)
        await add_devices(cursor, [device for key in sorted(keys) if (device := devices.get(key))])
        await cursor.execute(_REGISTER, text_of([*key_of(key), devices.get(key)] for key in sorted(keys)))
        await self._load(cursor, keys)

    async def _settle(self, cursor: Any, batch: Batch) -> None:
        """Give a device to sensors that were registered without: by a prediction, or a reading by itself."""
        devices = _devices(batch)
        homes = [[key, devices[key]] for key in sorted(self._homeless & devices.keys())]
        if homes:
            await add_devices(cursor, [device for _, device in homes])
            await cursor.execute(_SETTLE, text_of(homes), text_of([key] for key, _ in homes))
            self._homeless -= devices.keys()


def _devices(batch: Batch) -> dict[str, str]:
    """The device of each sensor that a reading names one for."""
    pairs = zip(batch.readings.sensor, batch.readings.device, strict=True)
    return {sensor: device for sensor, device in pairs if device}


async def add_devices(cursor: Any, uuids: Iterable[str]) -> None:
    """Make rows in `devices` for those that have none."""
    wanted = [list(key_of(uuid)) for uuid in dict.fromkeys(uuids)]
    if wanted:
        await cursor.execute(_ADD_DEVICES, text_of(wanted))


def key_of(key: str) -> tuple[str, str | None, str | None]:
    """The key, the same if it is a GUID, and the same if it is none."""
    return (key, key, None) if _GUID.fullmatch(key) else (key, None, key)
