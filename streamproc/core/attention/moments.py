"""When a change is noticed: the partition's clock at the record that shows it, however the records are cut.

A reading shows at once what it changes. A window is closed by a later reading of its sensor or, while the sensor is silent,
by the clock: then the first record whose clock is far enough shows it, whichever sensor it is from. The same holds for the
beginning of a silence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.attention.times import FAR
from streamproc.core.changes import Change
from streamproc.core.rules.silence import Listened
from streamproc.core.watermarks import Watermarks
from streamproc.core.windows import BASE_MS, SIZES_MS, Ints

_LARGEST_MS = SIZES_MS[-1]


@dataclass(frozen=True, slots=True)
class Moments:
    """The records of a step: `clocks` (n,) of the partition at each, `offsets` (n,), and the readings as they were heard."""

    clocks: Ints
    offsets: Ints
    heard: Listened
    marks: Watermarks

    @property
    def next_offset(self) -> int:
        """The offset after the last record."""
        return int(self.offsets[-1]) + 1

    @property
    def last(self) -> int:
        """The clock at the last record."""
        return int(self.clocks[-1])

    def noticed(self, due: int) -> int:
        """The clock at the first record that has come to this time; it is not after the last one's."""
        return int(self.clocks[min(int(np.searchsorted(self.clocks, due)), len(self.clocks) - 1)])

    def of(self, change: Change) -> int:
        """The clock at the record that showed a change."""
        if change.silence is not None:
            return self.noticed(change.silence.at)
        if change.window is not None:
            return self.noticed(self._closed(change.slot, change.window.end))
        offset = self.offsets[0] if change.offset is None else change.offset
        return int(self.clocks[np.searchsorted(self.offsets, offset)])

    def _closed(self, slot: int, end: int) -> int:
        """When the sensor's windows were closed up to `end`: the first clock at which `Watermarks.due` says so.

        Between two of its readings time goes on from the first of them, until the second one comes.
        """
        heard, marks = self.heard, self.marks
        rows = slice(*np.searchsorted(heard.runs.slot, [slot, slot + 1]).tolist())
        newest = np.append(heard.passage.newest[rows], marks.newest[slot])
        since = np.append(heard.passage.arrived[rows], marks.arrival[slot])
        until = np.append(heard.clock[rows], FAR)
        base = newest // BASE_MS * BASE_MS + BASE_MS
        whole = newest // _LARGEST_MS * _LARGEST_MS + _LARGEST_MS
        lateness = marks.allowed_lateness_ms
        after = np.where(
            end <= base,
            np.maximum(end - newest + lateness, 0),
            np.where(end <= whole, lateness + _LARGEST_MS, FAR),
        )
        closed = since + after
        return int(closed[closed <= until][0])
