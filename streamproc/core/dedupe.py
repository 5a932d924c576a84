"""What was taken in lately, so that a retry counts once.

A reading whose window has closed changes nothing any more, so its identity need be kept only until then. A packet that
has a `packet_id` and no `ts` gets another time when it is sent again: its readings are kept for `HORIZON_MS`.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from streamproc.core.windows import Bools, Ints

#: Longer than a device retries: the gateway's clients give up after minutes. Bounds the memory together with LIMIT.
HORIZON_MS = 600_000
#: For each block of sensors: 64 readings a sensor of a full one. About 2.5 MB of memory, 260 KB of a checkpoint.
LIMIT = 16_384
#: Closed readings are swept out when the log has doubled since, but not for less than this.
_SWEEP_AT = 4_096


class RecentReadings:
    """The identities of the readings in open windows: the first `len(self)` rows of `slot`, `ts` and `key`, in no order."""

    def __init__(self) -> None:
        self.slot = self.ts = self.key = np.empty(0, dtype=np.int64)
        self._length, self._sweep_at = 0, _SWEEP_AT

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

    def has(self, slot: Ints, key: Ints) -> Bools:
        """Which of these readings (n,) are known already."""
        wanted = np.zeros(int(max(slot.max(), self.slot[: self._length].max(initial=0))) + 1, dtype=bool)
        wanted[slot] = True
        return np.isin(key, self.key[: self._length][wanted[self.slot[: self._length]]])

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
        self._length = len(self.slot)


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
