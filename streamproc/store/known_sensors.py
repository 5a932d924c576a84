"""The sensors that a store remembers, and those of a batch that it must ask its database for. Pure: no SQL."""

from __future__ import annotations

from collections.abc import Iterable

from streamproc.core.counted import counted
from streamproc.errors import RowsRefused
from streamproc.store.protocol import Batch

#: Names told in an error.
_TOLD = 5
#: A key of more digits is beyond a 64-bit integer, and no `sensors.id`.
_DIGITS = 18


class KnownSensors:
    """Keys to `sensors.id`. What it remembers is void once a transaction is rolled back: then `forget`."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        #: Sensors that have no device yet.
        self.homeless: set[str] = set()

    def forget(self) -> None:
        """Know none, so that the database is asked again."""
        self.ids.clear()
        self.homeless.clear()

    def missing(self, batch: Batch) -> set[str]:
        """The batch's sensors whose ids are not known."""
        known = self.ids.keys()
        return {sensor for table in batch.tables() for sensor in set(table.sensor) - known}

    def learn(self, rows: Iterable[tuple[str, int, int | None]]) -> set[str]:
        """Remember sensors as (key, id, id of the device); returns their keys."""
        found = set()
        for key, number, device in rows:
            found.add(key)
            self.ids[key] = number
            if device is None:
                self.homeless.add(key)
        return found

    def learn_numbers(self, numbers: dict[int, str], found: Iterable[int]) -> set[str]:
        """Remember those of these `numbers` that were found to be ids; returns their keys."""
        keys = {numbers[number]: number for number in found}
        self.ids.update(keys)
        return set(keys)

    def homes(self, batch: Batch) -> dict[str, str]:
        """The device that the batch names for each sensor that has none."""
        told = devices(batch)
        return {key: told[key] for key in sorted(self.homeless & told.keys())}


def devices(batch: Batch) -> dict[str, str]:
    """The device of each sensor that a reading names one for."""
    pairs = zip(batch.readings.sensor, batch.readings.device, strict=True)
    return {sensor: device for sensor, device in pairs if device}


def numbers(keys: Iterable[str]) -> dict[int, str]:
    """The keys that may be a `sensors.id`, by that: old producers know a sensor by it.

    >>> numbers(["7", "a", "-1", "007"])
    {7: '7'}
    """
    digits = (key for key in keys if key.isascii() and key.isdigit() and len(key) <= _DIGITS)
    return {int(key): key for key in digits if not key.startswith("0")}


def unknown(keys: set[str]) -> RowsRefused:
    """The error that these sensors are not registered."""
    some = ", ".join(sorted(keys)[:_TOLD])
    return RowsRefused(f"{counted(len(keys), 'unknown sensor')}: {some}", frozenset(keys))
