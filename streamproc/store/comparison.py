"""What a replay asks of a database: how recomputed rows compare with it, and which other rows are in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamproc.store.protocol import Ints
from streamproc.store.stamps import LAST_MS

Bools = NDArray[np.bool_]
#: The tables of a batch that are compared, in its order; what trials would have told comes after them, and is not.
TABLES = ("readings", "predictions", "events", "notifications", "windows")


@dataclass(frozen=True, slots=True)
class Compared:
    """How the rows (n,) of one table compare with the database, in their order.

    `number` is the row's own there, 0 where it is missing; `unknown` tells rows of sensors that are not registered.
    `differs` maps the index of each row that is there, but otherwise, to its columns: (the database's, ours).
    """

    number: Ints
    unknown: Bools
    differs: dict[int, dict[str, tuple[object, object]]]

    @property
    def missing(self) -> Bools:
        """Rows (n,) of registered sensors that are not there."""
        missing: Bools = (self.number == 0) & ~self.unknown
        return missing

    @property
    def wrong(self) -> Bools:
        """Rows (n,) that are missing or differ."""
        wrong = self.missing
        wrong[list(self.differs)] = True
        return wrong


@dataclass(frozen=True, slots=True)
class Scope:
    """What a replay has recomputed of a partition: records begin..end-1, and for each sensor the times that closed with them.

    `closed` maps a sensor to (from, to, newest) in ms: what ends after `from` and not after `to` closed with these records;
    no reading has a later `ts` than `newest`. `sizes_ms` are those of the windows that are stored. `clock` is the partition's
    at the end, in ms: a silence that comes later is not of these records, though its sensor's own clock may be ahead of it.
    """

    topic: str
    partition: int
    begin: int
    end: int
    closed: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    model: str = ""
    sizes_ms: frozenset[int] = frozenset()
    clock: int = LAST_MS


@dataclass(frozen=True, slots=True)
class Extra:
    """A row that the replayed records do not produce: its number, its sensor's key, and its columns."""

    number: int
    sensor: str
    row: dict[str, object]


@dataclass(frozen=True, slots=True)
class Extras:
    """Rows that should not be there: how many, and the first of them."""

    count: int = 0
    rows: list[Extra] = field(default_factory=list)


#: Tells which rows of a table, by number (n,), a replay has given.
Given = Callable[[Ints], Bools]
