"""Maps sensors' keys to their ids in SQL Server: remembered, and registered where they are new."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streamproc.core.counted import counted
from streamproc.errors import RowsRefused
from streamproc.store.known_sensors import KnownSensors, devices, numbers, unknown
from streamproc.store.protocol import Batch
from streamproc.store.sqlserver.forms import BIGINT, CODE, given, text_of

#: Keys are told apart letter by letter, whatever the database's own collation is; all but blanks at their end, which make no
#: difference to any: what is found has to be looked at for these, and its column is the one to select.
EXACT = "COLLATE Latin1_General_100_BIN2"
#: A key that is a GUID is in the column of GUIDs, any other beside it; a computed column `uuid` is whichever there is.
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY = {"k": CODE, "guid": CODE, "other": CODE}

_LOAD = (
    f"SELECT s.uuid, s.id, s.device_id FROM {given({'k': CODE})} g JOIN dbo.sensors s ON s.uuid = g.k {EXACT}"
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
        self._known = KnownSensors()

    def forget(self) -> None:
        """Ask the database again."""
        self._known.forget()

    async def resolve(self, cursor: Any, batch: Batch) -> dict[str, int]:
        """The id of each sensor of the batch (and others); raises RowsRefused that names the unknown ones."""
        missing = self._known.missing(batch)
        if missing:
            missing -= await self._load(cursor, missing)
        if missing and self._auto_register:
            await self._register(cursor, batch, sorted(missing))
        elif missing:
            missing -= await self._by_number(cursor, missing)
            if missing:
                raise unknown(missing)
        if self._known.homeless and self._auto_register:
            await self._settle(cursor, batch)
        return self._known.ids

    async def find(self, cursor: Any, batch: Batch) -> dict[str, int]:
        """The id of each sensor of the batch (and others) that `resolve` would find; none is registered."""
        missing = self._known.missing(batch)
        if missing:
            missing -= await self._load(cursor, missing)
        if missing and not self._auto_register:
            await self._by_number(cursor, missing)
        return self._known.ids

    async def _load(self, cursor: Any, keys: Iterable[str]) -> set[str]:
        await cursor.execute(_LOAD, text_of([key] for key in sorted(keys)))
        return self._known.learn(await cursor.fetchall())

    async def _by_number(self, cursor: Any, keys: set[str]) -> set[str]:
        """Where all must be registered, a number is a sensor's id."""
        asked = numbers(keys)
        if not asked:
            return set()
        await cursor.execute(_BY_NUMBER, text_of([number] for number in asked))
        return self._known.learn_numbers(asked, (number for (number,) in await cursor.fetchall()))

    async def _register(self, cursor: Any, batch: Batch, keys: Sequence[str]) -> None:
        if padded := frozenset(key for key in keys if key.endswith(" ")):
            raise RowsRefused(
                f"{counted(len(padded), 'sensor')} with keys that end in a blank, which SQL Server does not see",
                padded,
            )
        homes = _homes(devices(batch))
        await add_devices(cursor, [device for key in keys if (device := homes.get(key))])
        await cursor.execute(_REGISTER, text_of([*key_of(key), homes.get(key)] for key in keys))
        await self._load(cursor, keys)

    async def _settle(self, cursor: Any, batch: Batch) -> None:
        """Give a device to sensors that were registered without: by a prediction, or a reading by itself."""
        homes = _homes(self._known.homes(batch))
        if homes:
            await add_devices(cursor, homes.values())
            await cursor.execute(_SETTLE, text_of(homes.items()), text_of([key] for key in homes))
            self._known.homeless -= homes.keys()


async def add_devices(cursor: Any, uuids: Iterable[str]) -> None:
    """Make rows in `devices` for those that have none."""
    wanted = [list(key_of(uuid)) for uuid in dict.fromkeys(uuids)]
    if wanted:
        await cursor.execute(_ADD_DEVICES, text_of(wanted))


def _homes(told: Mapping[str, str]) -> dict[str, str]:
    """The device of each sensor, without blanks at the end of its key: two that differ in these are one to the database."""
    return {sensor: key for sensor, device in told.items() if (key := device.rstrip(" "))}


def key_of(key: str) -> tuple[str, str | None, str | None]:
    """The key, the same if it is a GUID, and the same if it is none."""
    return (key, key, None) if _GUID.fullmatch(key) else (key, None, key)
