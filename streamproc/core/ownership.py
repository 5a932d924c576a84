"""Readings of sensors that belong to another device than the one that sends them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from streamproc.core.chunk import Chunk
from streamproc.core.codec import Packet, Readings, Rejected, Single, parse, sensor_key
from streamproc.core.windows import Ints


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
