"""The sensors of one partition: their slots, the names that readings call them by, and where each belongs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from streamproc.core.identity import seed
from streamproc.core.ownership import is_foreign, is_number, numbered, owner_of
from streamproc.core.routing import home
from streamproc.core.windows import NEVER, Bools, Ints
from streamproc.records import SensorEntry

#: Sensors in one block of a checkpoint: 170 KB of state at 2 readings a second (measured), 13 bytes for each open reading.
BLOCK = 256
#: In place of a slot: the reading names a device, but its sensor is another one's by the registry. Below all of -1-p.
FOREIGN = NEVER + 1

#: Devices whose calling a sensor is remembered, of each sensor: it has one or two, or a name as common as "temperature". What
#: comes of others is looked up each time: some send a new name of theirs with every packet.
DEVICES = 1_000
#: Devices whose partitions are remembered: more than a partition has, and 15 MB.
HOMES = 100_000

#: A sensor by itself, or as a device names it.
_Key = str | tuple[str, str]


class Sensors:
    """Slots of sensors, given out in the order that they are first seen in; a slot is kept for ever.

    Names come in lower case, as the codec gives them.
    """

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition, self.partitions = partition, partitions
        self.names: list[str | None] = []
        #: `seed` of each name, of shape (sensors or more,); 0 where a slot has none.
        self.seeds = np.empty(0, dtype=np.uint64)
        #: For each block of a restored checkpoint, the offset up to which it has taken part already.
        self.block_next: list[int] = []
        #: The registry's entries as of the partition's position; the partition's state keeps them.
        self.entries: Mapping[str, SensorEntry] = {}
        #: Slots that were given out since this list was last emptied.
        self.fresh: list[int] = []
        #: The device that first named a sensor which the registry gives to none, by slot.
        self.spoken: dict[int, str] = {}
        #: Of those the slots since this was last emptied, with the offset of the record that did.
        self.named: dict[int, int] = {}
        self._holes: list[int] = []
        self._slots: dict[str, int] = {}
        self._aliases: dict[_Key, int] = {}
        #: The keys of each sensor in `_aliases` beside its own: what a change of its device makes void, with that one.
        self._keys: dict[str, list[_Key]] = {}
        self._homes: dict[str, int] = {}
        #: Names by numbers in the registry, made when a number is first sent after an edit: few send any.
        self._numbered: dict[str, str] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def slot_of(self, name: str) -> int | None:
        """The slot of a sensor's key, where it has one here."""
        return self._slots.get(name)

    def find(
        self, sensor: list[str], device: list[str | None], offset: Ints, moved: Sequence[bool] | None
    ) -> Ints:
        """The slot of each reading, of shape (n,); new sensors get one. `offset` (n,) is that of its record.

        Where the reading belongs to another partition p, there is -1-p in place of a slot, unless its record has `moved`
        (n,) here from another one: then it counts here. FOREIGN where it would count here, but its device is not the
        sensor's.
        """
        keys: Sequence[_Key] = sensor
        if any(device):
            keys = [(by, name) if by else name for by, name in zip(device, sensor, strict=True)]
        aliases = self._aliases
        slots = [aliases.get(key, NEVER) for key in keys]
        if moved is not None:
            for i, here in enumerate(moved):
                slots[i] = self._resolve(sensor[i], device[i], int(offset[i]), here)
        elif NEVER in slots:
            for i, slot in enumerate(slots):
                if slot == NEVER:
                    # A new sensor may have many readings in its first chunk.
                    known = aliases.get(keys[i])
                    slots[i] = (
                        self._resolve(sensor[i], device[i], int(offset[i]), False) if known is None else known
                    )
        return np.array(slots, dtype=np.int64)

    def home(self, sensor: str, device: str | None) -> int:
        """The partition that the sensor's records belong to: its device's, or its own where no device is known."""
        if not device:
            entry = self.entries.get(sensor)
            device = entry.device if entry else None
        if not device:  # asked once, and then an alias: a hundred thousand of these need not be kept twice
            return home(sensor.lower(), self.partitions)
        key = device.lower()
        if key not in self._homes:
            if len(self._homes) >= HOMES:
                self._homes.clear()
            self._homes[key] = home(key, self.partitions)
        return self._homes[key]

    def owner(self, sensor: str) -> str | None:
        """The device that the sensor belongs to by the registry, in lower case; None where that names none."""
        return owner_of(self.entries.get(sensor))

    def key_of(self, sensor: str) -> str:
        """The sensor's key where it is called by it or, as the gateway and the database take it, by its number."""
        if sensor in self.entries or not is_number(sensor):
            return sensor
        if self._numbered is None:
            self._numbered = numbered(self.entries)
        return self._numbered.get(sensor, sensor)

    def holder(self, sensor: str) -> str | None:
        """The device that the sensor belongs to, called by its key or its number."""
        return self.owner(self.key_of(sensor))

    def device_of(self, slot: int) -> str | None:
        """The device that a slot's sensor is a part of: the registry's, or else the first that named it."""
        return self.owner(self.names[slot] or "") or self.spoken.get(slot)

    def ahead(self, offset: int, slots: int) -> Bools | None:
        """Which of so many slots are in a block that was restored from beyond this offset; None where none is."""
        if not self.block_next or max(self.block_next) <= offset:
            return None
        beyond = np.flatnonzero(np.array(self.block_next) > offset)
        return np.isin(np.arange(slots) // BLOCK, beyond)

    def _resolve(self, sensor: str, device: str | None, offset: int, moved: bool) -> int:
        """Look one reading up, and remember what was found.

        Not where only its record's move makes it count, nor what is FOREIGN: nobody's names are kept for that.
        """
        key = (device, sensor) if device else sensor
        slot = self._aliases.get(key)
        if slot is not None and (slot >= 0 or not moved):
            return slot
        name = self.key_of(sensor)
        at = self.home(name, device)
        if at != self.partition and not moved:
            return self._remember(sensor, key, -1 - at)
        if device and is_foreign(device, self.owner(name)):
            return FOREIGN
        slot = self._adopt(name, offset)
        if device and slot not in self.spoken and self.owner(name) is None:
            self.spoken[slot], self.named[slot] = device, offset
        return self._remember(sensor, key, slot) if at == self.partition else slot

    def _remember(self, sensor: str, key: _Key, slot: int) -> int:
        if key is not sensor:
            its = self._keys.setdefault(sensor, [])
            if len(its) >= DEVICES:
                return slot
            its.append(key)
        self._aliases[key] = slot
        return slot

    def _adopt(self, sensor: str, offset: int) -> int:
        """The slot of a sensor wherever it belongs; a new one where it has none."""
        known = self._slots.get(sensor)
        return self._new(sensor, offset) if known is None else known

    def _new(self, name: str, offset: int) -> int:
        """Give the first free slot to a sensor: the one that it had when this record was read before, if it was."""
        if not self._holes and not self.block_next:
            return self.put(name)
        for at, hole in enumerate(self._holes):
            if not self.is_ahead(hole, offset):
                del self._holes[at]
                self._name(hole, name)
                return hole
        # Only if the registry places sensors otherwise than it did: a block from beyond this offset has seen all of its own.
        while self.is_ahead(len(self.names), offset):
            self.put(None)
        return self.put(name)

    def is_ahead(self, slot: int, offset: int) -> bool:
        """Whether the slot is in a block that was restored from beyond this offset."""
        block = slot // BLOCK
        return block < len(self.block_next) and self.block_next[block] > offset

    def put(self, name: str | None) -> int:
        """Give the next slot to a sensor, or leave it free."""
        slot = len(self.names)
        self.names.append(None)
        if slot >= len(self.seeds):
            self.seeds = np.append(self.seeds, np.zeros(max(BLOCK, slot // 8), dtype=np.uint64))
        if name is None:
            self._holes.append(slot)
        else:
            self._name(slot, name)
        return slot

    def _name(self, slot: int, name: str) -> None:
        self.names[slot], self.seeds[slot], self._slots[name] = name, seed(name), slot
        self.fresh.append(slot)

    def edit(self, sensor: str, entry: SensorEntry | None) -> None:
        """Look the sensor up anew from its next entry on, whoever names it: its device may be another one."""
        self._forget(sensor)
        for each in (self.entries.get(sensor), entry):
            if each is not None and each.sensor_id is not None:
                self._forget(str(each.sensor_id))
        self._numbered = None

    def _forget(self, sensor: str) -> None:
        self._aliases.pop(sensor, None)
        for key in self._keys.pop(sensor, []):
            del self._aliases[key]
