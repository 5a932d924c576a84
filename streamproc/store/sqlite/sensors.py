"""Maps sensors' keys to their ids in SQLite: remembered, and registered where they are new."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from streamproc.store.known_sensors import KnownSensors, devices, numbers, unknown
from streamproc.store.protocol import Batch

#: Parameters of one query: below the least limit of all databases (SQLite before 3.32: 999; SQL Server:
#: 2,100).
PARAMETERS = 500


class Sensors:
    """Keys to `sensors.id`. What it remembers is void once a transaction is rolled back: then `forget`."""

    def __init__(self, *, auto_register: bool) -> None:
        self._auto_register = auto_register
        self._known = KnownSensors()

    def forget(self) -> None:
        """Ask the database again."""
        self._known.forget()

    def resolve(self, connection: sqlite3.Connection, batch: Batch) -> dict[str, int]:
        """The id of each sensor of the batch (and others); raises RowsRefused that names the unknown ones."""
        missing = self._known.missing(batch)
        if missing:
            missing -= self._load(connection, sorted(missing))
        if missing and self._auto_register:
            self._register(connection, batch, sorted(missing))
        elif missing:
            missing -= self._by_number(connection, missing)
            if missing:
                raise unknown(missing)
        if self._known.homeless and self._auto_register:
            self._settle(connection, batch)
        return self._known.ids

    def find(self, connection: sqlite3.Connection, batch: Batch) -> dict[str, int]:
        """The id of each sensor of the batch (and others) that `resolve` would find; none is registered."""
        missing = self._known.missing(batch)
        if missing:
            missing -= self._load(connection, sorted(missing))
        if missing and not self._auto_register:
            self._by_number(connection, missing)
        return self._known.ids

    def _load(self, connection: sqlite3.Connection, keys: Sequence[str]) -> set[str]:
        parts = _in("SELECT uuid, id, device_id FROM sensors WHERE uuid IN ({})", keys)
        return self._known.learn(row for query, part in parts for row in connection.execute(query, part))

    def _by_number(self, connection: sqlite3.Connection, keys: set[str]) -> set[str]:
        """Where all must be registered, a number is a sensor's id."""
        asked = numbers(keys)
        parts = _in("SELECT id FROM sensors WHERE id IN ({})", list(asked))
        found = (number for query, part in parts for (number,) in connection.execute(query, part))
        return self._known.learn_numbers(asked, found)

    def _register(self, connection: sqlite3.Connection, batch: Batch, keys: Sequence[str]) -> None:
        homes = devices(batch)
        add_devices(connection, [device for key in keys if (device := homes.get(key))])
        connection.executemany(
            "INSERT INTO sensors (uuid, device_id) VALUES (?, (SELECT id FROM devices WHERE uuid = ?))"
            " ON CONFLICT (uuid) DO NOTHING",
            ((key, homes.get(key)) for key in keys),
        )
        self._load(connection, keys)

    def _settle(self, connection: sqlite3.Connection, batch: Batch) -> None:
        """Give a device to sensors that were registered without: by a prediction, or a reading by itself."""
        homes = self._known.homes(batch)
        if homes:
            add_devices(connection, list(homes.values()))
            connection.executemany(
                "UPDATE sensors SET device_id = (SELECT id FROM devices WHERE uuid = ?)"
                " WHERE uuid = ? AND device_id IS NULL",
                ((device, key) for key, device in homes.items()),
            )
            self._known.homeless -= homes.keys()


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
