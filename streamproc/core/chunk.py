"""The core's input: the records of one partition that were fetched together, as columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: A record with this header carries no reading: it only moves its partition's clock.
TICK = "streamproc-tick"
#: A record with this header carries no reading either: from it on, its partition is judged by the registry as of the position
#: that its value is, the decimal next offset of the topic `registry`. It moves the clock like a tick.
EDIT = "streamproc-registry"
#: A record with this header was sent on from a partition that was not its own; its value names that place.
MOVED = "streamproc-moved"
#: A record with this header was sent again from `dead-letter`; its value names the place where it first arrived.
REDRIVEN = "streamproc-redriven"
#: Beside REDRIVEN: the stage that had refused the record, how often it was sent again, and the place of its first letter.
LETTER = "streamproc-letter"

_CONTROLS = frozenset((TICK, EDIT))

#: A header may have no value, as a record may.
Headers = tuple[tuple[str, bytes | None], ...]

#: An offset, as the engine writes it into the header EDIT.
_position = re.compile(rb"\d{1,18}")
#: Partition, offset and timestamp, as the engine writes them into the header MOVED.
_place = re.compile(rb"(\d{1,9}):(\d{1,18}):(-1|\d{1,15})")
#: How far ahead of its record such a timestamp may be, as brokers' clocks differ: as far as any `ts` may.
_AHEAD_MS = 86_400_000
_letter = re.compile(rb"(engine|sink):(\d{1,6}):(\d{1,9}:\d{1,18})")


@dataclass(frozen=True, slots=True)
class Redriven:
    """What a record sent again from `dead-letter` says of itself; `letter` is the first letter's partition:offset."""

    stage: str
    attempt: int
    letter: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition in offset order; `offsets` and `timestamps` (ms) have shape (n,).

    `headers` holds only the records that have any: index in the chunk to headers.
    """

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    values: Sequence[bytes | None]
    headers: Mapping[int, Headers] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def next_offset(self) -> int:
        """The offset after the chunk's last record."""
        return int(self.offsets[-1]) + 1

    @property
    def size_bytes(self) -> int:
        """Bytes of the records' values.

        >>> Chunk("t", 0, np.arange(2), np.arange(2), [b"one", None]).size_bytes
        3
        """
        return sum(len(value) for value in self.values if value)

    def cut(self, begin: int, end: int) -> Chunk:
        """Records begin..end-1."""
        return Chunk(
            self.topic,
            self.partition,
            self.offsets[begin:end],
            self.timestamps[begin:end],
            self.values[begin:end],
            {index - begin: headers for index, headers in self.headers.items() if begin <= index < end},
        )

    def since(self, offset: int | None) -> Chunk:
        """The records from this offset on, perhaps none; all of them for None."""
        if offset is None or not len(self) or self.offsets[0] >= offset:
            return self
        return self.cut(int(np.searchsorted(self.offsets, offset)), len(self))

    def is_control(self, index: int) -> bool:
        """Whether the record carries no reading: it moves the clock, or the registry's position too."""
        return any(name in _CONTROLS for name, _ in self.headers.get(index, ()))

    def edits(self) -> list[tuple[int, int]]:
        """The records that name a position of the registry, as (index, position); -1 for a position that is no number."""
        found = []
        for index in sorted(self.headers):
            for name, value in self.headers[index]:
                if name == EDIT:
                    position = _position.fullmatch(value or b"")
                    found.append((index, int(position[0]) if position else -1))
                    break
        return found

    def is_moved(self, index: int) -> bool:
        """Whether the record was sent on from another partition: it counts where it is."""
        return any(name == MOVED for name, _ in self.headers.get(index, ()))

    def is_redriven(self, index: int) -> bool:
        """Whether the record was sent again from `dead-letter`."""
        return any(name == REDRIVEN for name, _ in self.headers.get(index, ()))

    def is_first(self, index: int) -> bool:
        """Whether the record came here by itself: its place and time are its own."""
        return not (self.is_moved(index) or self.is_redriven(index))

    def redriven(self, index: int) -> Redriven | None:
        """Which letter the record was sent again from; None where it was not, or does not say."""
        for name, value in self.headers.get(index, ()):
            told = _letter.fullmatch(value or b"") if name == LETTER else None
            if told and self.is_redriven(index):
                return Redriven(told[1].decode(), int(told[2]), told[3].decode())
        return None

    def is_for_sink(self, index: int) -> bool:
        """Whether the record was sent again for the database alone: the engine has counted it."""
        again = self.redriven(index)
        return again is not None and again.stage == "sink"

    def origin(self, index: int) -> tuple[int, int, int]:
        """Partition, offset and timestamp (ms) of the record as it first came, before it was sent on or again."""
        for name, value in self.headers.get(index, ()):
            place = _place.fullmatch(value or b"") if name in {MOVED, REDRIVEN} else None
            if place and int(place[3]) <= self.timestamps[index] + _AHEAD_MS:
                return int(place[1]), int(place[2]), int(place[3])
        return self.partition, int(self.offsets[index]), int(self.timestamps[index])

    def first_timestamps(self) -> NDArray[np.int64]:
        """The records' timestamps (n,) as they first came."""
        moved = [index for index in self.headers if not self.is_first(index)]
        if not moved:
            return self.timestamps
        timestamps = self.timestamps.copy()
        timestamps[moved] = [self.origin(index)[2] for index in moved]
        return timestamps

    def skew_timestamps(self) -> NDArray[np.int64]:
        """What a `ts` may not be far ahead of (n,): the first timestamps, but for records sent again their own, if later.

        A reading that came before its time is due once that time has come.
        """
        timestamps = self.first_timestamps()
        again = [index for index in self.headers if self.is_redriven(index)]
        if again:
            timestamps[again] = np.maximum(timestamps[again], self.timestamps[again])
        return timestamps
