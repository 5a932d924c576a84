"""Event time: how far each sensor has come, and up to where its windows are closed.

A sensor's watermark is its greatest `ts` less the allowed lateness. While a sensor is silent, its time goes on at the pace of
its partition's clock (the greatest record timestamp so far) from its last reading, a retry included, but only to the end of
its newest window: silence closes windows that hold something, and makes nothing late that came in none. At first that is its
newest base window; after a silence of the largest window and the lateness, its newest window of each size. So a sensor that
is gone leaves no window open, and one that sends in batches or stumbles loses no more than it must.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.windows import BASE_MS, NEVER, SIZES_MS, Ints

#: Windows of all sizes end where one of this size does.
_LARGEST_MS = SIZES_MS[-1]


@dataclass(frozen=True, slots=True)
class Runs:
    """Readings of a chunk by sensor: `slot` (n,) ascends, `begin` (s,) is each sensor's first row, `run` (n,) its number."""

    slot: Ints
    begin: Ints
    run: Ints

    @classmethod
    def of(cls, slot: Ints) -> Runs:
        """The runs of an ascending column."""
        new = np.empty(len(slot), dtype=bool)
        new[:1] = True
        np.not_equal(slot[1:], slot[:-1], out=new[1:])
        return cls(slot, np.flatnonzero(new), np.cumsum(new) - 1)

    @property
    def sensors(self) -> Ints:
        """The slots that occur, each once."""
        return self.slot[self.begin]

    def highest(self, column: Ints) -> Ints:
        """The running maximum of a column (n,) within each run."""
        if not len(column):
            return column
        low = column.min()
        lift = self.run * (column.max() - low + 1)
        highest: Ints = np.maximum.accumulate(column - low + lift) - lift + low
        return highest

    def shifted(self, column: Ints, before: Ints) -> Ints:
        """The column one row later within each run; `before` (s,) goes to each run's first row."""
        out = np.empty_like(column)
        out[1:] = column[:-1]
        out[self.begin] = before
        return out

    @property
    def ends(self) -> Ints:
        """Each sensor's last row, of shape (s,)."""
        return np.append(self.begin[1:], len(self.slot))[: len(self.begin)] - 1

    def last(self, column: Ints) -> Ints:
        """The last row of each run."""
        last: Ints = column[self.ends]
        return last


@dataclass(frozen=True, slots=True)
class Passage:
    """Of each reading (n,): up to where its sensor's windows were closed when it came, and what was before it.

    That is the greatest `ts`, and the clock when the last reading came; for a sensor's first reading its own.
    """

    closed: Ints
    newest: Ints
    arrived: Ints


def _floor(ts: Ints, size_ms: int = BASE_MS) -> Ints:
    return ts // size_ms * size_ms


class Watermarks:
    """The times of a partition's sensors, each of shape (sensors,), in ms.

    `newest` is the greatest `ts`, `arrival` the partition's clock when the last reading came, `closed` up to where windows
    are closed. `clock` is the partition's.
    """

    def __init__(self, allowed_lateness_ms: int) -> None:
        self.allowed_lateness_ms = allowed_lateness_ms
        self.newest = self.arrival = self.closed = np.empty(0, dtype=np.int64)
        self.clock = NEVER

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors; new ones have no time yet."""
        fresh = np.full(sensors - len(self.newest), NEVER, dtype=np.int64)
        self.newest = np.append(self.newest, fresh)
        self.arrival = np.append(self.arrival, fresh)
        self.closed = np.append(self.closed, fresh)

    def tick(self, timestamps: Ints) -> Ints:
        """Move the partition's clock by records' timestamps (n,); its reading at each of them."""
        clocks = np.maximum.accumulate(np.maximum(timestamps, self.clock))
        if len(clocks):
            self.clock = int(clocks[-1])
        return clocks

    def observe(self, runs: Runs, ts: Ints, clock: Ints) -> Passage:
        """Take in readings, by sensor and record, with the partition's clock at each; all of shape (n,).

        A reading is late if its `ts` is before what was `closed` when it came.
        """
        sensors = runs.sensors
        # A sensor's first reading has nothing before it; its own time stands in, and closes nothing.
        known = self.newest[sensors] != NEVER
        start = np.where(known, self.newest[sensors], ts[runs.begin])
        newest = np.maximum(runs.highest(ts), start[runs.run])
        before = runs.shifted(newest, start)
        arrived = runs.shifted(clock, np.where(known, self.arrival[sensors], clock[runs.begin]))
        due = self.due(before, clock - arrived)
        closed = np.maximum(runs.highest(due), self.closed[sensors][runs.run])
        self.newest[sensors] = runs.last(newest)
        self.arrival[sensors] = runs.last(clock)
        self.closed[sensors] = runs.last(closed)
        return Passage(closed, before, arrived)

    def due(self, newest: Ints, silence: Ints) -> Ints:
        """Up to where windows are due of sensors whose greatest `ts` is `newest` (n,), after so long a silence (n,)."""
        patience = silence - self.allowed_lateness_ms
        due = np.minimum(_floor(newest + patience), _floor(newest) + BASE_MS)
        gone = patience >= _LARGEST_MS
        return np.where(gone, _floor(newest, _LARGEST_MS) + _LARGEST_MS, due) if gone.any() else due

    def close(self, seen: Ints) -> Ints:
        """Close what is due by now, silent sensors' windows too.

        Gives the slots whose windows may be due: those that were `seen` in this chunk and those that time has closed.
        """
        known = self.newest != NEVER
        due = np.where(known, self.due(self.newest, self.clock - self.arrival), NEVER)
        moved = due > self.closed
        self.closed = np.where(moved, due, self.closed)
        moved[seen] = True
        return np.flatnonzero(moved)
