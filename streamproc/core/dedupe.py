"""Remembers what was taken in lately, so that a retry counts once.

A reading whose window has closed changes nothing any more, so its identity is kept only until then; and for no longer than
twice its horizon, because a device whose clock stands still keeps its window open for ever. A reading without `ts` gets
another time when it is sent again, so it is another reading, unless a `packet_id` identifies it, for `HORIZON_MS`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from streamproc.core.chunk import Chunk
from streamproc.core.sorting import Sorted
from streamproc.core.watermarks import Runs
from streamproc.core.windows import Bools, Ints

#: Longer than a device retries: the gateway's clients give up after minutes. Bounds the memory together with LIMIT.
HORIZON_MS = 600_000
#: For each block of sensors: 64 readings a sensor of a full one. About 2.5 MB of memory, 260 KB of a checkpoint.
LIMIT = 16_384
#: Closed readings are swept out when the log has doubled since, but not for less than this.
_SWEEP_AT = 4_096


class RecentReadings:
    """The identities of the readings in open windows, by generation: the partition's clock by `horizon_ms` when they came.

    Those of the present generation and the one before are known. `logs` has also later ones, of blocks that were restored
    from beyond the rest.
    """

    def __init__(self, allowed_lateness_ms: int) -> None:
        #: Windows of a clock that goes on close before: within the lateness and a silence as long (`core.watermarks`).
        self.horizon_ms = HORIZON_MS + 2 * allowed_lateness_ms
        self.logs: dict[int, ReadingLog] = {}

    def __len__(self) -> int:
        return sum(map(len, self.logs.values()))

    def by_generation(self, chunk: Chunk, clock: int) -> Iterator[Chunk]:
        """The chunk, cut where a generation begins; `clock` is the partition's before it."""
        highest = max(clock, int(chunk.timestamps.max()))
        if self.generation(max(clock, int(chunk.timestamps[0]))) == self.generation(highest):
            yield chunk
            return
        clocks = np.maximum.accumulate(np.maximum(chunk.timestamps, clock))
        begins = 1 + np.flatnonzero(np.diff(clocks // self.horizon_ms))
        for begin, end in pairwise([0, *begins.tolist(), len(chunk)]):
            yield chunk.cut(begin, end)

    def generation(self, clock: int) -> int:
        """The generation at a time of the partition's clock."""
        return clock // self.horizon_ms

    def forget(self, clock: int) -> None:
        """Forget the generations that are not known any more by this clock."""
        known = self.generation(clock) - 1
        for generation in [each for each in self.logs if each < known]:
            del self.logs[generation]

    def of(self, generation: int) -> ReadingLog:
        """The readings of a generation."""
        log = self.logs.get(generation)
        if log is None:
            log = self.logs[generation] = ReadingLog()
        return log

    def retried(self, rows: Sorted, runs: Runs, newest: Ints, late: Bools) -> Bools:
        """Which readings (n,) were taken in before, in this chunk or an earlier one; of late ones it tells nothing.

        `newest` (s,) is each sensor's greatest `ts` before the chunk.
        """
        retried = np.zeros(len(rows.ts), dtype=bool)
        # A reading newer than all of its sensor's cannot be a retry: mostly there is nothing to look up.
        newer = np.empty(len(rows.ts), dtype=bool)
        newer[1:] = rows.ts[1:] > rows.ts[:-1]
        newer[runs.begin] = rows.ts[runs.begin] > newest
        if (newer | rows.untimed).all():
            return retried
        highest = runs.shifted(np.maximum(runs.highest(rows.ts), newest[runs.run]), newest)
        doubtful = np.flatnonzero((rows.ts <= highest) & ~late & ~rows.untimed)
        if len(doubtful):
            _, first = np.unique(rows.key, return_index=True)
            retried[:] = True
            retried[first] = False
            for log in self.logs.values():
                retried[doubtful] |= log.has(rows.key[doubtful])
        return retried

    def remember(self, rows: Sorted, clock: int) -> None:
        """Remember readings that have come by this clock, but for those that cannot come again under their key."""
        if rows.untimed.any():
            rows = rows.take(~rows.untimed)
        self.of(self.generation(clock)).add(rows.slot, rows.ts, rows.key)

    def sweep(self, closed: Ints) -> None:
        """Forget readings before `closed` (sensors,) now and then."""
        for log in self.logs.values():
            log.sweep(closed)

    def settle(self, closed: Ints) -> None:
        """Forget readings before `closed` (sensors,), and bring the others in the order of slots, as they came."""
        for log in self.logs.values():
            log.settle(closed)


class ReadingLog:
    """Identities of readings: the first `len(self)` rows of `slot`, `ts` and `key`, in no order."""

    def __init__(self) -> None:
        self.slot = self.ts = self.key = np.empty(0, dtype=np.int64)
        self._length, self._sweep_at = 0, _SWEEP_AT
        #: The keys of the first `_looked_up` rows, in runs that ascend, each half as long as the one before or less: a look
        #: costs their logarithm. Made as they are asked for; mostly none is.
        self._runs: list[Ints] = []
        self._looked_up = 0

    def __len__(self) -> int:
        return self._length

    def add(self, slot: Ints, ts: Ints, key: Ints) -> None:
        """Remember readings, columns of shape (n,)."""
        begin, end = self._length, self._length + len(slot)
        if end > len(self.slot):
            more = np.empty(end // 2, dtype=np.int64)
            self.slot, self.ts, self.key = (
                np.concatenate([column[:begin], slot, more]) for column in (self.slot, self.ts, self.key)
            )
        self.slot[begin:end], self.ts[begin:end], self.key[begin:end] = slot, ts, key
        self._length = end

    def has(self, key: Ints) -> Bools:
        """Which of these readings (n,) are known already."""
        if self._looked_up < self._length:
            run = np.sort(self.key[self._looked_up : self._length])
            while self._runs and len(self._runs[-1]) < 2 * len(run):
                run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
            self._runs.append(run)
            self._looked_up = self._length
        known = np.zeros(len(key), dtype=bool)
        for run in self._runs:
            known |= run[np.minimum(np.searchsorted(run, key), len(run) - 1)] == key
        return known

    def sweep(self, closed: Ints) -> None:
        """Forget readings before `closed` (sensors,) now and then: when the log has doubled."""
        if self._length >= self._sweep_at:
            self.keep(self.ts[: self._length] >= closed[self.slot[: self._length]])
            self._sweep_at = max(2 * self._length, _SWEEP_AT)

    def settle(self, closed: Ints) -> None:
        """Forget readings before `closed` (sensors,), and bring the others in the order of slots, as they came."""
        end = self._length
        self.keep(self.ts[:end] >= closed[self.slot[:end]])
        order = np.argsort(self.slot, kind="stable")
        self.slot, self.ts, self.key = self.slot[order], self.ts[order], self.key[order]

    def keep(self, rows: Bools) -> None:
        """Keep these rows (len,) alone."""
        end = self._length
        self.slot, self.ts, self.key = self.slot[:end][rows], self.ts[:end][rows], self.key[:end][rows]
        self._length, self._looked_up, self._runs = len(self.slot), 0, []


class RecentPackets:
    """The identities of readings that only their `packet_id` tells apart, with the partition's clock when they came.

    They are kept by block of sensors, as checkpoints are: a block has its own past.
    """

    def __init__(self) -> None:
        self._seen: dict[int, dict[int, int]] = {}
        self._order: dict[int, deque[int]] = {}

    def first_time(self, block: int, key: int, clock: int) -> bool:
        """Whether this identity is new in its block; it is remembered."""
        seen, order = self._seen.setdefault(block, {}), self._order.setdefault(block, deque())
        known = seen.get(key)
        if known is not None and clock - known <= HORIZON_MS:
            return False
        while order and clock - seen[order[0]] > HORIZON_MS:
            del seen[order.popleft()]
        if len(seen) == LIMIT:
            del seen[order.popleft()]
        seen[key] = clock
        order.append(key)
        return True

    def dump(self, block: int) -> tuple[Ints, Ints]:
        """The keys and clocks of a block, oldest first."""
        seen = self._seen.get(block, {})
        return np.array(list(seen.keys()), dtype=np.int64), np.array(list(seen.values()), dtype=np.int64)

    def load(self, block: int, keys: Ints, clocks: Ints) -> None:
        """Take over what was dumped."""
        self._seen[block] = dict(zip(keys.tolist(), clocks.tolist(), strict=True))
        self._order[block] = deque(self._seen[block])
