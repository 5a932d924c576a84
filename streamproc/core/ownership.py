"""Finds readings of sensors that belong to another device than the one that sends them.

The engine asks sensor by sensor, as it looks them up (`core.sensors`); the sink and a replay ask for all readings of a part
(`foreign`). The rule itself is only here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

import msgspec
import numpy as np

from streamproc.core.chunk import Chunk
from streamproc.core.codec import Packet, Readings, Rejected, Single, parse, sensor_key, take
from streamproc.core.registry import RegistryLog
from streamproc.core.windows import Ints
from streamproc.records import SensorEntry

#: Positions whose owners are kept at once: a sink has as many partitions of `readings` on a large site. Positions between
#: which no sensor has changed hands share what is kept.
_POSITIONS = 16


def owner_of(entry: SensorEntry | None) -> str | None:
    """The device that a sensor belongs to by its entry, in lower case; None where it names none."""
    return entry.device.lower() if entry and entry.device else None


def is_foreign(device: str | None, owner: str | None) -> bool:
    """Whether a reading that names this device, or none, is of a sensor that is another's; names come in lower case.

    >>> is_foreign("a", "b"), is_foreign("a", "a"), is_foreign(None, "b"), is_foreign("a", None)
    (True, False, False, False)
    """
    return bool(device) and owner is not None and owner != device


def is_number(sensor: str) -> bool:
    """Whether it may be the number of a sensor in the registry, by which the database knows it, too."""
    return sensor.isascii() and sensor.isdigit()


def numbered(entries: Mapping[str, SensorEntry]) -> dict[str, str]:
    """The names of sensors by their numbers; of two that claim one, between an edit and the next, the first by name.

    >>> numbered({"b": SensorEntry("b", sensor_id=7), "a": SensorEntry("a", sensor_id=7), "8": SensorEntry("8")})
    {'7': 'a'}
    """
    claims = ((str(entry.sensor_id), name) for name, entry in entries.items() if entry.sensor_id is not None)
    return {number: name for number, name in sorted(claims, reverse=True) if number not in entries}


class Owners:
    """The device of each sensor that has one, as of any position of a registry.

    >>> log = RegistryLog()
    >>> log.append(0, 1_000, "s", SensorEntry("s", device="D"))
    >>> Owners(log).as_of(0), Owners(log).as_of(1)
    ({}, {'s': 'd'})
    """

    def __init__(self, registry: RegistryLog) -> None:
        self.registry = registry
        self._known: OrderedDict[int, dict[str, str]] = OrderedDict()
        #: By the numbers of sensors, as of the position that was asked for last.
        self._numbers: tuple[int, Mapping[str, str]] = (-1, {})

    def of_number(self, position: int, number: str) -> str | None:
        """The device of the sensor that has this number as of a position, and no sensor that name."""
        if self._numbers[0] != position:
            entries = self.registry.as_of(position)
            owners = {number: owner_of(entries[name]) for number, name in numbered(entries).items()}
            self._numbers = position, {number: owner for number, owner in owners.items() if owner}
        return self._numbers[1].get(number)

    def as_of(self, position: int) -> Mapping[str, str]:
        """Each owned sensor's device, in lower case."""
        if position not in self._known:
            self._known[position] = self._made(position)
            if len(self._known) > _POSITIONS:
                self._known.popitem(last=False)
        self._known.move_to_end(position)
        return self._known[position]

    def _made(self, position: int) -> dict[str, str]:
        """From those of the nearest position before it, if there is one: mostly nothing has changed hands since."""
        before = max((known for known in self._known if known < position), default=None)
        if before is None:
            owned = ((sensor, owner_of(entry)) for sensor, entry in self.registry.as_of(position).items())
            return {sensor: owner for sensor, owner in owned if owner is not None}
        owners = self._known[before]
        edits = self.registry.between(before, position)
        changed = {edit.sensor: owner_of(edit.entry) for edit in edits}
        if all(owners.get(sensor) == owner for sensor, owner in changed.items()):
            return owners
        return {sensor: owner for sensor, owner in (owners | changed).items() if owner is not None}


def foreign(chunk: Chunk, readings: Readings, position: int, owners: Owners) -> list[int]:
    """Which of the chunk's readings, decoded for the sink, are foreign: by index, ascending.

    All are judged by the registry as of the position, but for records sent again for the database alone: the engine has
    judged those where they first came, so they are by the registry as of that time.
    """
    now = owners.as_of(position)
    positions = {
        record: min(position, owners.registry.position_at(chunk.origin(record)[2]))
        for record in chunk.headers
        if chunk.is_for_sink(record)
    }
    then = {record: owners.as_of(each) for record, each in positions.items()}
    if not (now or any(then.values())):
        return []
    if not then:
        owner = list(map(now.get, readings.sensor))
    else:
        places = zip(readings.record.tolist(), readings.sensor, strict=True)
        owner = [then.get(record, now).get(sensor) for record, sensor in places]
    if (
        owner == readings.device
    ):  # the rule on a site where all is registered: half the time of looking at each
        return []
    for i, (device, its, sensor) in enumerate(zip(readings.device, owner, readings.sensor, strict=True)):
        if its is None and device and is_number(sensor):
            owner[i] = owners.of_number(positions.get(int(readings.record[i]), position), sensor)
    rows = enumerate(zip(readings.device, owner, strict=True))
    return [i for i, (device, its) in rows if device and device != its and is_foreign(device, its)]


def without(readings: Readings, left_out: list[int]) -> Readings:
    """The readings but for those at these indexes."""
    if not left_out:
        return readings
    keep = np.ones(len(readings), dtype=np.bool_)
    keep[left_out] = False
    return take(readings, keep, readings.rejected)


def foreign_faults(
    chunk: Chunk, readings: Readings, at: Ints, owner: Callable[[str], str | None]
) -> list[Rejected]:
    """What is wrong with these readings (k,), each named by its place in its record; `owner` gives a sensor's device.

    Their records are parsed once more: they are few, and columns do not know a reading's place in its packet.
    """
    sensors: dict[int, set[str]] = {}
    for index in at.tolist():
        sensors.setdefault(int(readings.record[index]), set()).add(readings.sensor[index])
    return [
        msgspec.structs.replace(fault, record=record)
        for record, names in sensors.items()
        for fault in _faults(parse(chunk.values[record]), names, owner)
    ]


def _faults(
    parsed: Packet | Single | Rejected, names: set[str], owner: Callable[[str], str | None]
) -> Iterator[Rejected]:
    if isinstance(parsed, Packet):
        for index, item in enumerate(parsed.readings):
            name = item.sensor_uuid.lower()
            if name in names:
                yield _fault(name, owner(name), parsed.device_uuid, f"readings[{index}].sensor_uuid")
    elif isinstance(parsed, Single):
        field = "sensor_id" if parsed.sensor_uuid is None else "sensor_uuid"
        name = sensor_key(parsed)
        yield _fault(name, owner(name), parsed.device_uuid or "", field)


def _fault(sensor: str, owner: str | None, device: str, field: str) -> Rejected:
    reason = f"sensor {sensor} is registered to device {owner}, not to {device.lower()}"
    return Rejected(reason, field, kind="foreign")
