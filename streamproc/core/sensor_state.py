"""What each sensor last read, and which readings follow on each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.watermarks import Runs
from streamproc.core.windows import NEVER, Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Steps:
    """Readings and those before them, columns of shape (m,): `at` is the reading's row in the chunk."""

    at: Ints
    previous: Floats
    lapse_ms: Ints
    first_offset: Ints


class SensorState:
    """Each sensor's last reading in event order: its value, its time in ms and its record; of shape (sensors,).

    Its severity is `SeverityBank.level`. A reading follows on the one before if it is not older: one that comes out of order
    is taken for a gap filled later, follows on none, and leaves the last one as it is. So a jump is told at once,
    and never backwards. Of equal times the later record is the later reading.
    """

    COLUMNS = ("value", "ts", "offset")

    def __init__(self) -> None:
        self.value = np.empty(0)
        self.ts = self.offset = np.empty(0, dtype=np.int64)

    def grow(self, n: int) -> None:
        """Append `n` sensors that have read nothing."""
        self.value = np.append(self.value, np.zeros(n))
        self.ts = np.append(self.ts, np.full(n, NEVER, dtype=np.int64))
        self.offset = np.append(self.offset, np.full(n, -1, dtype=np.int64))

    def advance(
        self, runs: Runs, ts: Ints, value: Floats, offset: Ints, watched: Bools | None
    ) -> Steps | None:
        """Take in readings (n,) by sensor and record, each once; gives the steps of the `watched` sensors, if any."""
        follows = self._follows(runs, ts)
        steps = None
        if watched is not None:
            seen = watched[runs.slot]
            at = np.flatnonzero(seen if follows is None else seen & follows)
            steps = self._steps(at, runs.slot[at], ts, value, offset) if len(at) else None
        sensors, last = runs.sensors, runs.ends
        if follows is not None:
            last = np.maximum.reduceat(np.where(follows, np.arange(len(ts)), -1), runs.begin)
            sensors, last = sensors[last >= 0], last[last >= 0]
        self.value[sensors], self.ts[sensors], self.offset[sensors] = value[last], ts[last], offset[last]
        return steps

    def _follows(self, runs: Runs, ts: Ints) -> Bools | None:
        """Which readings (n,) are not older than all before them; None where all are, as they mostly are."""
        known = self.ts[runs.sensors]
        older = ts[1:] < ts[:-1]
        older[runs.begin[1:] - 1] = False  # that is another sensor's
        if not older.any() and (ts[runs.begin] >= known).all():
            return None
        highest = np.maximum(runs.highest(ts), known[runs.run])
        newest: Bools = ts >= runs.shifted(highest, known)
        return newest

    def _steps(self, at: Ints, slot: Ints, ts: Ints, value: Floats, offset: Ints) -> Steps:
        """The steps to the readings `at` these rows, which are all of their sensors that follow on one."""
        previous, since, record = self.value[slot], self.ts[slot], self.offset[slot]
        inside = np.flatnonzero(slot[1:] == slot[:-1]) + 1
        before = at[inside - 1]
        previous[inside], since[inside], record[inside] = value[before], ts[before], offset[before]
        known = since != NEVER
        return Steps(at[known], previous[known], (ts[at] - since)[known], record[known])
