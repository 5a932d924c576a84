"""How long each sensor has stayed at one value, for the rules `stuck_value`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.windows import NEVER, Floats, Ints, Moments

#: Fewer readings are no rest: two that are alike with an hour between them say nothing of that hour.
LEAST_READINGS = 3


@dataclass(frozen=True, slots=True)
class Rested:
    """For each window (n,): how long its sensor's values were within the tolerance by its last reading, and which.

    `rested_ms` is 0 while there are fewer than LEAST_READINGS of them.
    """

    rested_ms: Ints
    low: Floats
    high: Floats


def places(data: bytes, first: int, end: int) -> Ints:
    """The sensors of dumped places; raises ValueError where one is beyond `end`."""
    slot = np.frombuffer(data, dtype=np.int64) + first
    if len(slot) and not first <= slot.min() <= slot.max() < end:
        raise ValueError(f"a place is beyond the block's {end - first} sensors")
    return slot


class Rests:
    """Each sensor's rest, of shape (sensors,): since when (ms), between which values, of how many readings.

    It is kept for sensors that have a rule, and is NEVER for others.
    """

    COLUMNS = ("since", "low", "high", "count")

    def __init__(self) -> None:
        self.since = self.count = np.empty(0, dtype=np.int64)
        self.low = self.high = np.empty(0)

    def grow(self, n: int) -> None:
        """Append `n` sensors that have not rested."""
        self.since = np.append(self.since, np.full(n, NEVER, dtype=np.int64))
        self.count = np.append(self.count, np.zeros(n, dtype=np.int64))
        self.low, self.high = np.append(self.low, np.zeros(n)), np.append(self.high, np.zeros(n))

    def forget(self, slot: Ints) -> None:
        """Let these sensors begin anew."""
        self.since[slot], self.count[slot], self.low[slot], self.high[slot] = NEVER, 0, 0.0, 0.0

    def dump(self, first: int, end: int) -> list[bytes]:
        """What is remembered of the sensors from `first` to `end`: their places, and a column each."""
        at = np.flatnonzero(self.since[first:end] != NEVER)
        columns = [getattr(self, name)[first + at].tobytes() for name in self.COLUMNS] if len(at) else []
        return [at.tobytes(), *columns] if columns else []

    def load(self, first: int, end: int, columns: list[bytes]) -> None:
        """Take over what was dumped; raises ValueError where it does not fit."""
        if not columns:
            return
        slot = places(columns[0], first, end)
        for name, data in zip(self.COLUMNS, columns[1:], strict=True):
            held = getattr(self, name)
            held[slot] = np.frombuffer(data, dtype=held.dtype)

    def advance(self, slot: Ints, rows: Moments, tolerance: Floats) -> Rested:
        """Take in closed base windows (n,), by slot and start, with their sensors' tolerances (n,)."""
        n = len(slot)
        out = Rested(np.zeros(n, dtype=np.int64), np.empty(n), np.empty(n))
        begin = (
            np.flatnonzero(np.concatenate([[True], slot[1:] != slot[:-1]])) if n else np.empty(0, np.int64)
        )
        turn = np.arange(n) - np.repeat(begin, np.diff(np.append(begin, n)))
        order = np.argsort(turn, kind="stable")
        ends = np.cumsum(np.bincount(turn)) if n else np.empty(0, np.int64)
        for first, end in zip([0, *ends.tolist()], ends.tolist(), strict=False):
            self._round(slot, rows, tolerance, order[first:end], out)
        return out

    def _round(self, slot: Ints, rows: Moments, tolerance: Floats, at: Ints, out: Rested) -> None:
        """Take in one window of each of many sensors."""
        here, allowed = slot[at], tolerance[at]
        known = self.since[here] != NEVER
        least, most = rows.min[at], rows.max[at]
        low = np.where(known, np.minimum(self.low[here], least), least)
        high = np.where(known, np.maximum(self.high[here], most), most)
        goes_on = known & (high - low <= allowed)
        # A window that is at rest by itself begins a new rest; another one with its last reading.
        whole = most - least <= allowed
        last = rows.last[at]
        self.low[here] = np.where(goes_on, low, np.where(whole, least, last))
        self.high[here] = np.where(goes_on, high, np.where(whole, most, last))
        begun = np.where(whole, rows.first_ts[at], rows.last_ts[at])
        self.since[here] = np.where(goes_on, self.since[here], begun)
        fresh = np.where(whole, rows.count[at], 1)
        self.count[here] = np.where(goes_on, self.count[here] + rows.count[at], fresh)
        rested = np.where(self.count[here] >= LEAST_READINGS, rows.last_ts[at] - self.since[here], 0)
        out.rested_ms[at], out.low[at], out.high[at] = rested, self.low[here], self.high[here]
