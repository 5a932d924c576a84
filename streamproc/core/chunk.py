"""The core's input: the records of one partition that were fetched together, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: A record with this header carries no reading: it only moves its partition's clock.
TICK = "streamproc-tick"
#: A record with this header was sent on from a partition that was not its own; its value names that place.
MOVED = "streamproc-moved"

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition in offset order; `offsets` and `timestamps` (ms) have shape (n,).

    `headers` and `keys` hold only the records that have any: index in the chunk to headers, key.
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

    def is_tick(self, index: int) -> bool:
        """Whether the record only moves the clock."""
        return any(name == TICK for name, _ in self.headers.get(index, ()))
