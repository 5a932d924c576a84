"""What a body amounts to: records for the topic, and a result for each of its items. Pure.

Records are encoded anew from what was decoded, never passed through: repeated names, escapes and white space of a body end
here, so the engine decodes exactly what was checked. It costs 0.1 µs a reading. Names keep their case, since the codec
lowers it; only the key is lower case, because it decides the partition.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from streamproc.core.codec import Item, Packet, Single, record_key, sensor_key, to_ms
from streamproc.gateway.access import Writer
from streamproc.gateway.answers import Fault, Result

#: Kafka's default `message.max.bytes` is 1,048,588, with the batch's and the record's headers and the key.
RECORD_LIMIT_BYTES = 1_000_000
#: Faults that are told for one body: 150 KB of an answer, and 7 ms to explain. Who makes more does not read them all: of
#: packets' readings the rest is counted, of what else has a fault it is said that it is refused.
FAULTS_TOLD = 1_000

_encode = msgspec.json.Encoder().encode


#: Readings by their places in the packet as it was made.
Places = dict[int, Item]
#: By the same places why a reading is not taken; None: it is only counted.
Faults = dict[int, Fault | None]


class Message(msgspec.Struct, frozen=True, gc=False):
    """A record to be: its key as text, its value as JSON."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """What a body may hold: readings in one packet, how far ahead of now (ms) one may be, and packets."""

    readings: int
    skew_ms: int
    packets: int = 1_000


class Terms(msgspec.Struct, frozen=True):
    """On which terms a body is taken: at `now_ms`, which must be its records' timestamp, from `writer`.

    `key` is the request's idempotency key: packets without a `packet_id` get one made of it.
    """

    limits: Limits
    now_ms: int
    writer: Writer
    key: str | None = None


class Batch(msgspec.Struct):
    """Records in the order of the items that they are of, a result for each item, and readings counted.

    `path` tells where an item stands in the body: nowhere if the body is one, else with its index for `{}`.
    """

    terms: Terms
    path: str = ""
    messages: list[Message] = []
    results: list[Result] = []
    accepted: int = 0
    rejected: int = 0
    faults: int = 0
    untold: int = 0

    def add_packet(
        self, packet: Packet, readings: Places | None = None, faults: Faults | None = None
    ) -> None:
        """Add a packet, but for the readings that are not to be taken.

        Where some of its readings were not understood, `readings` are the others with their places, and `faults` tells why,
        or None of one that is not told.
        """
        count = len(packet.readings if readings is None else readings)
        if fault := self._fault_of(packet, count):
            self.refuse(fault, count + len(faults or ()))
            return
        placed = self._is_placed(packet)
        if readings is None and placed and any(item.index is not None for item in packet.readings):
            readings = dict(enumerate(packet.readings))
        faults = self._faults_in(
            enumerate(packet.readings) if readings is None else readings.items(), packet, faults or {}
        )
        if placed and readings is not None:
            self._find_repeated(packet, readings, faults)
        if faults:
            rows = dict(enumerate(packet.readings)) if readings is None else readings
            self._add_part(packet, rows, faults)
        else:
            self._put(packet, count, [])

    def _is_placed(self, packet: Packet) -> bool:
        """Whether the identities of its readings are made of their places."""
        return packet.packet_id is not None or self.terms.key is not None

    def _add_part(self, packet: Packet, readings: Places, faults: Faults) -> None:
        """Add those without a fault; those whose identity is made of their places keep these."""
        kept = {place: item for place, item in readings.items() if place not in faults}
        if self._is_placed(packet):
            for place, item in kept.items():
                item.index = place if item.index is None else item.index
        packet.readings = list(kept.values())
        told = [fault for _, fault in sorted(faults.items()) if fault is not None]
        if not kept and not told:
            self.refuse(too_many_faults(), len(faults))
            return
        untold = len(faults) - len(told)
        self.faults += len(told)
        self.untold += untold
        self.rejected += len(faults)
        if kept:
            self._put(packet, len(kept), told, untold)
        else:
            self.results.append(Result(len(self.results), "rejected", 0, rejected=told, untold=untold))

    def add_single(self, row: Single) -> None:
        """Add a reading by itself."""
        terms = self.terms
        if row.ts is not None and (fault := check_stamp(row.ts, "ts", terms)):
            self.refuse(fault)
            return
        writer, device, by_name = terms.writer, row.device_uuid, row.sensor_uuid is not None
        # The engine knows sensors by their names alone: by its number one would be another, without ranges.
        if not by_name and writer.named and (name := writer.named(str(row.sensor_id))):
            row.sensor_uuid, row.sensor_id = name, None
        if writer.refuses_device and (fault := writer.refuses_device(device)):
            self.refuse(msgspec.structs.replace(fault, field="device_uuid"))
        elif writer.refuses and (fault := writer.refuses(device, sensor_key(row))):
            field = "sensor_uuid" if by_name else "sensor_id"
            self.refuse(msgspec.structs.replace(fault, field=field))
        else:
            self._put(row, 1, [])

    def refuse(self, fault: Fault, readings: int = 1) -> None:
        """Add nothing of an item, and why."""
        self.faults += 1
        self.rejected += readings
        self.results.append(Result(len(self.results), "rejected", 0, rejected=[fault]))

    def _put(self, record: Packet | Single, readings: int, faults: list[Fault], untold: int = 0) -> None:
        if record.packet_id is None and self.terms.key is not None:
            record.packet_id = f"{self.terms.key}/{len(self.results)}" if self.path else self.terms.key
        value = _encode(record)
        if len(value) > RECORD_LIMIT_BYTES:
            self.refuse(_too_large(len(value)), readings)
            return
        self.messages.append(Message(record_key(record), value))
        self.accepted += readings
        status: Literal["partial", "accepted"] = "partial" if faults or untold else "accepted"
        self.results.append(Result(len(self.results), status, readings, rejected=faults, untold=untold))

    def _fault_of(self, packet: Packet, readings: int) -> Fault | None:
        """Why nothing of the packet is taken."""
        terms = self.terms
        if readings > terms.limits.readings:
            return too_many_readings(readings, terms.limits)
        if packet.ts is not None and (fault := check_stamp(packet.ts, "ts", terms)):
            return fault
        refuses = terms.writer.refuses_device
        fault = refuses(packet.device_uuid) if refuses else None
        return fault and msgspec.structs.replace(fault, field="device_uuid")

    def _faults_in(self, readings: Iterable[tuple[int, Item]], packet: Packet, known: Faults) -> Faults:
        """Why some of the readings are not taken, by their places, beside what is `known`."""
        faults = known
        terms, refuses, device = self.terms, self.terms.writer.refuses, packet.device_uuid
        for place, item in readings:
            if item.ts is not None and (fault := check_stamp(item.ts, "ts", terms)):
                name = "ts"
            elif refuses and (fault := refuses(device, item.sensor_uuid)):
                name = "sensor_uuid"
            else:
                continue
            faults[place] = of_reading(fault, place, name) if self.tells(len(faults)) else None
        return faults

    def _find_repeated(self, packet: Packet, readings: Places, faults: Faults) -> None:
        """Add to `faults` the readings that would be dropped later as an earlier one of their packet, sent again."""
        seen: set[object] = set()
        for place, item in readings.items():
            if place in faults:
                continue
            index = place if item.index is None else item.index
            known = item.sensor_uuid.lower(), index, packet.ts if item.ts is None else item.ts
            if known in seen:
                fault = Fault(
                    "invalid", f"another reading of this sensor has the place {index} in the packet"
                )
                faults[place] = of_reading(fault, place, "index") if self.tells(len(faults)) else None
            seen.add(known)

    def tells(self, more: int) -> bool:
        """Whether yet another fault is told, where so many more have been found in this item."""
        return self.faults + more < FAULTS_TOLD


def of_reading(fault: Fault, place: int, name: str | None) -> Fault:
    """Tell of which of a packet's readings a fault is, and of which of its fields."""
    path = f"readings[{place}].{name}" if name else f"readings[{place}]"
    return msgspec.structs.replace(fault, field=path, index=place)


def check_stamp(stamp: float | str, path: str, terms: Terms) -> Fault | None:
    """Refuse what the engine would: no time at all, or one too far ahead of its record."""
    try:
        ahead_ms = to_ms(stamp) - terms.now_ms
    except ValueError as error:
        return Fault("invalid", str(error), path)
    if ahead_ms > (allowed := terms.limits.skew_ms):
        return Fault("ts-ahead", f"ts is {ahead_ms} ms ahead of now; {allowed} ms are allowed", path)
    return None


def too_many_readings(count: int, limits: Limits) -> Fault:
    """Refuse a packet, or a bulk, of more readings than may come at once."""
    reason = f"{count} readings; {limits.readings} may come at once"
    return Fault("too-many-readings", reason, "readings", limit="packet_readings_limit")


def too_many_faults() -> Fault:
    """Refuse what has faults in a body that has had so many that nobody reads them."""
    return Fault(
        "invalid", f"there are faults in it, too, beyond the {FAULTS_TOLD} that are told for one body"
    )


def _too_large(size: int) -> Fault:
    reason = f"the packet comes to {size} bytes; a record holds {RECORD_LIMIT_BYTES}: send it in parts"
    return Fault("too-large", reason)
