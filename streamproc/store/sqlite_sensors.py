"""Sensors' keys to their ids in SQLite, remembered, and registered where they are new."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from streamproc.errors import RowsRefused
from streamproc.store.protocol import Batch

#: Parameters of one query: below the least limit of all databases (SQLite before 3.32: 999; SQL Server:
#: 2,100).
PARAMETERS = 500
#: Names told in an error.
_TOLD = 5
#: A key of more digits is beyond a 64-bit integer, and no `sensors.id`.
_DIGITS = 18


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

    def resolve(self, connection: sqlite3.Connection, batch: Batch) -> dict[str, int]:
        """The id of each sensor of the batch (and others); raises RowsRefused that names the unknown ones."""
        missing = self._missing(batch)
        if missing:
            missing -= self._load(connection, sorted(missing))
        if missing and self._auto_register:
            self._register(connection, batch, sorted(missing))
        elif missing:
            missing -= self._by_number(connection, missing)
            if missing:
                some = ", ".join(sorted(missing)[:_TOLD])
                raise RowsRefused(f"{len(missing)} unknown sensors: {some}", frozenset(missing))
        if self._homeless and self._auto_register:
            self._settle(connection, batch)
        return self._ids

    def find(self, connection: sqlite3.Connection, batch: Batch) -> dict[str, int]:
        """The id of each sensor of the batch (and others) that `resolve` would find; none is registered."""
        missing = self._missing(batch)
        if missing:
            missing -= self._load(connection, sorted(missing))
        if missing and not self._auto_register:
            self._by_number(connection, missing)
        return self._ids

    def _missing(self, batch: Batch) -> set[str]:
        known = self._ids.keys()
        return {sensor for table in batch.tables() for sensor in set(table.sensor) - known}

    def _load(self, connection: sqlite3.Connection, keys: Sequence[str]) -> set[str]:
        found = set()
        for query, part in _in("SELECT uuid, id, device_id FROM sensors WHERE uuid IN ({})", keys):
            for key, number, device in connection.execute(query, part):
                found.add(key)
                self._ids[key] = number
                if device is None:
                    self._homeless.add(key)
        return found

    def _by_number(self, connection: sqlite3.Connection, keys: set[str]) -> set[str]:
        """Old producers know a sensor by its `sensors.id`: where all must be registered, a number is that."""
        numbers = {int(key): key for key in keys if key.isascii() and key.isdigit() and len(key) <= _DIGITS}
        found = set()
        for query, part in _in("SELECT id FROM sensors WHERE id IN ({})", list(numbers)):
            for (number,) in connection.execute(query, part):
                self._ids[numbers[number]] = number
                found.add(numbers[number])
        return found

    def _register(self, connection: sqlite3.Connection, batch: Batch, keys: Sequence[str]) -> None:
        devices = _devices(batch)
        add_devices(connection, [device for key in keys if (device := devices.get(key))])
        connection.executemany(
            "INSERT INTO sensors (uuid, device_id) VALUES (?, (SELECT id FROM devices WHERE uuid = ?))"
            " ON CONFLICT (uuid) DO NOTHING",
            ((key, devices.get(key)) for key in keys),
        )
        self._load(connection, keys)

    def _settle(self, connection: sqlite3.Connection, batch: Batch) -> None:
        """Give a device to sensors that were registered without: by a prediction, or a reading by itself."""
        devices = _devices(batch)
        homes = [(devices[key], key) for key in self._homeless & devices.keys()]
        if homes:
            add_devices(connection, [device for device, _ in homes])
            connection.executemany(
                "UPDATE sensors SET device_id = (SELECT id FROM devices WHERE uuid = ?)"
                " WHERE uuid = ? AND device_id IS NULL",
                homes,
            )
            self._homeless -= devices.keys()


def _devices(batch: Batch) -> dict[str, str]:
    """The device of each sensor that a reading names one for."""
    pairs = zip(batch.readings.sensor, batch.readings.device, strict=True)
    return {sensor: device for sensor, device in pairs if device}


def add_devices(connection: sqlite3.Connection, uuids: Sequence[str]) -> None:
    """Make rows in `devices` for those that have none."""
    connection.executemany(
        "INSERT INTO devices (uuid) VALUES (?) ON CONFLICT (uuid) DO NOTHING", ((uuid,) for uuid in uuids)
    )


def _in(query: str, values: Sequence[object]) -> Iterator[tuple[str, Sequence[object]]]:
    """The query for so many values at a time, with as many placeholders for `{}`."""
    for begin in range(0, len(values), PARAMETERS):
        part = values[begin : begin + PARAMETERS]
        yield query.format(", ".join("?" * len(part))), part
