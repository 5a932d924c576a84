"""A chunk's readings sorted by sensor, and the identity of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.chunk import Chunk
from streamproc.core.codec import Readings
from streamproc.core.identity import reading_keys
from streamproc.core.sensors import Sensors
from streamproc.core.windows import Bools, Floats, Ints

#: As many sensors as 16 bits can number.
_UINT16 = 2**16


@dataclass(frozen=True, slots=True)
class Sorted:
    """Readings by sensor and, within one, by record; columns of shape (n,). `clock` is the partition's at the record.

    `untimed` are those that cannot come again under the same key: their time is their record's, of which nothing was refused.
    """

    slot: Ints
    ts: Ints
    value: Floats
    offset: Ints
    clock: Ints
    key: Ints
    untimed: Bools

    def take(self, keep: Bools | Ints) -> Sorted:
        """These rows."""
        return Sorted(*(getattr(self, name)[keep] for name in self.__slots__))


def in_order(
    sensors: Sensors, chunk: Chunk, readings: Readings, slot: Ints, clocks: Ints, refused: list[int]
) -> Sorted:
    """The readings (n,) of sensors `slot` (n,) in their order; `clocks` are the partition's at the chunk's records.

    Of the `refused` records a reading went to `dead-letter`.
    """
    # numpy sorts 16-bit numbers in linear time, and a partition's sensors mostly have as few.
    few = len(sensors) <= _UINT16
    order = np.argsort(slot.astype(np.uint16) if few else slot, kind="stable")
    slot, record = slot[order], readings.record[order]
    ts, value = readings.ts[order], readings.value[order]
    key = reading_keys(sensors.seeds[slot], ts, value, readings.source[order])
    # A packet sent again with another `ts` is another reading, unless its `packet_id` has told it.
    untimed = readings.untimed[order]
    if refused and untimed.any():  # such a record may be sent again, under its first place and time
        untimed &= ~np.isin(record, refused)
    return Sorted(slot, ts, value, chunk.offsets[record], clocks[record], key ^ ts, untimed)
