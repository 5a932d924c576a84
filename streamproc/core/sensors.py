"""The sensors of one partition: their slots, the names that readings call them by, and where each belongs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from streamproc.core.identity import seed
from streamproc.core.routing import home
from streamproc.core.windows import NEVER, Ints
from streamproc.records import SensorEntry

#: Sensors in one block of a checkpoint; about 300 KB of state.
BLOCK = 256


class Sensors:
    """Slots of sensors, given out in the order that they are first seen in; a slot is kept for ever.

    Names are taken as they come and looked up again by the same spelling, so lower-casing costs nothing per reading.
    """

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition, self.partitions = partition, partitions
        self.names: list[str | None] = []
        self.seeds = np.empty(0, dtype=np.uint64)
        #: For each block of a restored checkpoint, the offset up to which it has taken part already.
        self.block_next: list[int] = []
        #: The registry's entries, shared with whoever keeps them up to date.
        self.entries: Mapping[str, SensorEntry] = {}
        self._slots: dict[str, int] = {}
        self._aliases: dict[str | tuple[str, str], int] = {}
        self._homes: dict[str, int] = {}
        self._seeds: list[int] = []

    def __len__(self) -> int:
        return len(self.names)

    def slot_of(self, name: str) -> int | None:
        """The slot of a sensor's key, where it has one here."""
        return self._slots.get(name)

    def find(self, sensor: list[str], device: list[str | None], offset: int) -> Ints:
        """The slot of each reading, of shape (n,); new sensors get one. `offset` is the chunk's first.

        Where the reading belongs to another partition p, there is -1-p in place of a slot.
        """
        keys: Iterable[str | tuple[str, str]] = sensor
        if any(device):
            keys = [(by, name) if by else name for by, name in zip(device, sensor, strict=True)]
        aliases = self._aliases
        slots = [aliases.get(key, NEVER) for key in keys]
        if NEVER in slots:
            for i, slot in enumerate(slots):
                if slot == NEVER:
                    slots[i] = self._alias(sensor[i], device[i], offset)
        self.seeds = (
            np.array(self._seeds, dtype=np.uint64) if len(self.seeds) != len(self._seeds) else self.seeds
        )
        return np.array(slots, dtype=np.int64)

    def home(self, sensor: str, device: str | None) -> int:
        """The partition that the sensor's records belong to: its device's, or its own where no device is known."""
        if not device:
            entry = self.entries.get(sensor.lower())
            device = entry.device if entry else None
        key = (device or sensor).lower()
        if key not in self._homes:
            self._homes[key] = home(key, self.partitions)
        return self._homes[key]

    def _alias(self, sensor: str, device: str | None, offset: int) -> int:
        at = self.home(sensor, device)
        slot = self.adopt(sensor, offset) if at == self.partition else -1 - at
        self._aliases[(device, sensor) if device else sensor] = slot
        return slot

    def adopt(self, sensor: str, offset: int) -> int:
        """The slot of a sensor wherever it belongs; a new one where it has none."""
        name = sensor.lower()
        known = self._slots.get(name)
        return self._new(name, offset) if known is None else known

    def _new(self, name: str, offset: int) -> int:
        # A block that was restored from beyond this offset has seen all of its sensors: a new one goes into a later block.
        while (
            len(self.names) // BLOCK < len(self.block_next)
            and self.block_next[len(self.names) // BLOCK] > offset
        ):
            self.put(None)
        return self.put(name)

    def put(self, name: str | None) -> int:
        """Give the next slot to a sensor, or leave it empty."""
        slot = len(self.names)
        self.names.append(name)
        self._seeds.append(seed(name) if name else 0)
        if name:
            self._slots[name] = slot
        return slot

    def forget_alias(self, sensor: str) -> None:
        """Look the sensor up anew: its device in the registry may be another one."""
        self._aliases = {
            key: slot
            for key, slot in self._aliases.items()
            if isinstance(key, tuple) or key.lower() != sensor
        }
