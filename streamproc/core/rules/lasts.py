"""The last closed windows of the larger sizes for each sensor, for expressions that name several sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamproc.core.rules.expressions import STATS, Name
from streamproc.core.rules.rests import places
from streamproc.core.windows import BASE_MS, SIZES_MS, Bools, Floats, Ints, Moments

LARGER_MS = SIZES_MS[1:]
_PLACE = {name: index for index, name in enumerate(STATS)}
WIDTH = len(STATS)

#: Windows of one size that closed together, by slot and start.
Closed = tuple[int, Ints, Moments]


class LastWindows:
    """The last closed window of each larger size, of the sensors whose expressions ask for it; NaN where there was none.

    `table` has shape (sensors, sizes, numbers). It is empty until the first sensor asks: most partitions have none.
    """

    def __init__(self) -> None:
        self.table = np.empty((0, len(LARGER_MS), WIDTH))

    def fit(self, sensors: int) -> None:
        """Make room for so many sensors."""
        more = sensors - len(self.table)
        if more > 0:
            fresh = np.full((max(more, len(self.table) // 8), *self.table.shape[1:]), np.nan)
            self.table = np.concatenate([self.table, fresh])

    def dump(self, first: int, end: int) -> list[bytes]:
        """What is remembered of the sensors from `first` to `end`: their places, and their rows."""
        known = self.table[first:end]
        at = np.flatnonzero(~np.isnan(known).all(axis=(1, 2)))
        return [at.tobytes(), known[at].tobytes()] if len(at) else []

    def load(self, first: int, end: int, parts: Sequence[bytes]) -> None:
        """Take over what was dumped; raises ValueError where it does not fit."""
        if not parts:
            return
        slot = places(parts[0], first, end)
        self.fit(end)
        self.table[slot] = np.frombuffer(parts[1]).reshape(len(slot), *self.table.shape[1:])

    def put(self, closed: Sequence[Closed], asked: Bools) -> None:
        """Keep the newest of these windows, of the sensors that have `asked` (sensors,); of others nothing is kept."""
        for size_ms, slot, rows in closed:
            if size_ms not in LARGER_MS or not len(slot):
                continue
            newest = np.append(slot[1:] != slot[:-1], True) & asked[slot]
            at = np.flatnonzero(newest)
            self.table[slot[at], LARGER_MS.index(size_ms)] = numbers_of(rows.take(at))

    def columns(self, slot: Ints, end: Ints, closed: Sequence[Closed], size_ms: int) -> NDArray[np.float64]:
        """The numbers (n, WIDTH) of the last window of a size, that had closed when those sensors' windows of these ends did.

        That is one of those that have `closed` since the last `put`, or the one that is kept.
        """
        out: Floats = self.table[slot, LARGER_MS.index(size_ms)]
        found = [(its, rows) for size, its, rows in closed if size == size_ms and len(its)]
        if not found or not len(slot):
            return out
        ((its, rows),) = found
        least = min(int(end.min()), int((rows.start + size_ms).min()))
        span = (max(int(end.max()), int((rows.start + size_ms).max())) - least) // BASE_MS + 1
        asked = slot * span + (end - least) // BASE_MS
        given = its * span + (rows.start + size_ms - least) // BASE_MS
        place = np.searchsorted(given, asked, side="right") - 1
        fresh = np.flatnonzero((place >= 0) & (its[place] == slot))
        out[fresh] = numbers_of(rows.take(place[fresh]))
        return out


def numbers_of(rows: Moments) -> NDArray[np.float64]:
    """The numbers (n, WIDTH) of windows, as expressions name them."""
    return np.stack([stat(rows) for stat in STATS.values()], axis=1)


def place_of(name: Name) -> int:
    """The column of a name in `numbers_of`."""
    return _PLACE[name.stat]
