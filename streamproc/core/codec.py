"""Bytes to readings and back: the one place that knows what a packet looks like.

Gateway, engine and sink decode with it, so they agree on what is accepted, its time, and its identity. A wrong record costs
only itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from streamproc.core.identity import mix, seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from streamproc.core.chunk import Chunk

#: Wide enough for any unit; the square of it, summed, stays finite.
VALUE_LIMIT = 1e100
#: 2100-01-01; a `ts` in milliseconds is far beyond it and is told so.
TS_LIMIT = 4_102_444_800.0
#: A double holds a stamp of before 2038 to 0.12 µs, and a thousand of it as well: half a microsecond, given
#: back before the cut, mends both, and lifts no stamp of whole microseconds into the next millisecond.
_EPSILON_MS = 5e-4

#: Records that are decoded before their columns are taken: their objects, 200 KB, then stay in a processor's own cache (a
#: fifth less time than all of a chunk at once, measured).
_AT_ONCE = 1_024

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Value = Annotated[float, Meta(ge=-VALUE_LIMIT, le=VALUE_LIMIT)]
Seconds = Annotated[float, Meta(ge=0, le=TS_LIMIT)]
Stamp = Seconds | Annotated[str, Meta(max_length=64)]
Index = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Item(msgspec.Struct, forbid_unknown_fields=True, gc=False, omit_defaults=True):
    """One reading in a packet; `index` is its place in the packet as it was made, where others were left out of that."""

    sensor_uuid: Name
    value: Value
    ts: Stamp | None = None
    index: Index | None = None


class Packet(msgspec.Struct, forbid_unknown_fields=True, gc=False, omit_defaults=True):
    """What a device sends at once; its `ts` is that of each reading that has none of its own."""

    device_uuid: Name
    readings: Annotated[list[Item], Meta(min_length=1)]
    ts: Stamp | None = None
    packet_id: Name | None = None


class Single(msgspec.Struct, forbid_unknown_fields=True, gc=False, omit_defaults=True):
    """One reading by itself."""

    value: Value
    sensor_uuid: Name | None = None
    sensor_id: Name | Number | None = None
    ts: Stamp | None = None
    device_uuid: Name | None = None
    packet_id: Name | None = None


class Rejected(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a record, or one reading of it, is not accepted.

    `field` is a JSON path, `record` the record's index in the chunk. `kind` tells what is not JSON at all
    ("malformed") from JSON that is not a reading ("invalid"), no value ("empty"), a `ts` too far ahead ("early") and a sensor
    that is another device's ("foreign").
    """

    reason: str
    field: str | None = None
    record: int = 0
    kind: Literal["malformed", "invalid", "empty", "early", "foreign"] = "invalid"


@dataclass(frozen=True, slots=True)
class Readings:
    """The accepted readings of a chunk as columns of shape (n,), in record order, and what was rejected.

    `record` is the index of the record in the chunk, `ts` in ms; `sensor` and `device` are in lower case.
    `source` and `dedupe_ms` make the reading's identity (`streamproc.core.identity`): two readings are the
    same if `dedupe_ms` and `reading_keys(…, source)` are. `untimed` are those whose time is their own record's.
    """

    record: NDArray[np.int64]
    sensor: list[str]
    device: list[str | None]
    value: NDArray[np.float64]
    ts: NDArray[np.int64]
    source: NDArray[np.uint64]
    dedupe_ms: NDArray[np.int64]
    untimed: NDArray[np.bool_]
    rejected: list[Rejected]

    def __len__(self) -> int:
        return len(self.sensor)


_packet = msgspec.json.Decoder(Packet).decode
_single = msgspec.json.Decoder(Single).decode
_where = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_unknown = re.compile(r"(?:unknown|required) field `([^`]*)`")
_has_readings = re.compile(rb'"readings"\s*:')
_at_byte = re.compile(r"\(byte (\d+)\)$")
_not_finite = re.compile(rb"[+-]?(?:nan|inf(?:inity)?)\b", re.IGNORECASE)
#: What a decoder raises at bytes that are not what it expects.
FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def parse(body: bytes | None) -> Packet | Single | Rejected:
    """Decode one record's value: a packet, a reading by itself, or why it is neither.

    >>> parse(b'{"sensor_id": "a", "value": "warm"}')
    Rejected(reason='Expected `float`, got `str`', field='value', record=0, kind='invalid')
    """
    if body is None:
        return Rejected("the record has no value", kind="empty")
    return parse_packet(body) if _is_packet(body) else parse_single(body)


def _is_packet(body: bytes) -> bool:
    """Tell by the field's name; as a value, `"readings"` may be a sensor's. Most records need no regex."""
    return b'"readings"' in body and _has_readings.search(body) is not None


def parse_packet(body: bytes) -> Packet | Rejected:
    """Decode a packet, or say why it is none.

    >>> parse_packet(b'{"device_uuid": "d", "readings": [{"sensor_uuid": "a", "value": NaN}]}').field
    'readings[0].value'
    """
    try:
        return _packet(body)
    except FAULTS as error:
        return explain(error, body, _packet)


def parse_single(body: bytes) -> Single | Rejected:
    """Decode a reading by itself, or say why it is none."""
    try:
        reading = _single(body)
    except FAULTS as error:
        return explain(error, body, _single)
    return nameless(reading) or reading


def nameless(reading: Single) -> Rejected | None:
    """Reject a reading that names no sensor."""
    if reading.sensor_uuid is None and reading.sensor_id is None:
        return Rejected("Object missing required field `sensor_uuid` (or `sensor_id`)", "sensor_uuid")
    return None


def explain(error: Exception, body: bytes, decode: Callable[[bytes], Any]) -> Rejected:
    """Say what `decode` found wrong with the body, and in which field where there is one."""
    if isinstance(error, UnicodeDecodeError):
        return Rejected("the text is not valid UTF-8", kind="malformed")
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        return _invalid(text)
    at = _at_byte.search(text)
    return (at and _explain_not_finite(body, int(at.group(1)), decode)) or Rejected(text, kind="malformed")


def _invalid(text: str) -> Rejected:
    reason, path = match.groups() if (match := _where.match(text)) else (text, None)
    if reason.endswith(f"<= {TS_LIMIT}"):
        reason += ": seconds since 1970, not milliseconds"
    name = _unknown.search(reason)
    parts = [part for part in (path, name.group(1) if name else None) if part]
    return Rejected(reason, ".".join(parts) or None)


def _explain_not_finite(body: bytes, at: int, decode: Callable[[bytes], Any]) -> Rejected | None:
    """NaN and infinities are no JSON: with `true` in their place, the decoder tells which field it was."""
    for match in _not_finite.finditer(body, max(0, at - 10), at + 10):  # "-Infinity" is 9 long
        try:
            decode(body[: match.start()] + b"true" + body[match.end() :])
        except msgspec.ValidationError as error:
            return Rejected(f"{match.group().decode()} is not a number", _invalid(str(error)).field)
        except FAULTS:  # it was in a name, say, and what is wrong is elsewhere
            continue
    return None


def to_ms(stamp: float | str) -> int:
    """Epoch milliseconds of epoch seconds or ISO 8601 (UTC where it names no zone); raises ValueError.

    >>> to_ms(1700000000.001), to_ms("2023-11-14T22:13:20.001Z")
    (1700000000001, 1700000000001)
    """
    if isinstance(stamp, str):
        moment = datetime.fromisoformat(stamp)
        stamp = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if not 0 <= stamp <= TS_LIMIT:
            raise ValueError("Expected a time between 1970 and 2100")
    return floor(stamp * 1000 + _EPSILON_MS)


def sensor_key(reading: Single) -> str:
    """Return the name that the engine knows the sensor by."""
    return (reading.sensor_uuid or str(reading.sensor_id)).lower()


def record_key(parsed: Packet | Single) -> str:
    """Return the record's key on the topic: its device where it names one, else its sensor."""
    return parsed.device_uuid.lower() if parsed.device_uuid else sensor_key(parsed)  # type: ignore[arg-type]


def decode(chunk: Chunk, allowed_skew_ms: int, *, for_sink: bool = False) -> Readings:
    """Decode the readings of a chunk. What is wrong is in `rejected`, and costs nothing else.

    Control records carry no reading, nor do, but `for_sink`, records sent again for the database alone. A `ts` more than
    `allowed_skew_ms` ahead of its record's timestamp is rejected (of one sent again, the later timestamp counts);
    an absent one is that timestamp. A record sent on or again has the place and timestamp that it first had.
    """
    readings = _decode_singles(chunk)
    if readings is None:
        readings = _decode_any(chunk, for_sink=for_sink)
    ahead = readings.ts - chunk.skew_timestamps()[readings.record]
    if len(ahead) and ahead.max() > allowed_skew_ms:
        return _reject_early(readings, ahead, allowed_skew_ms)
    return readings


def _decode_singles(chunk: Chunk) -> Readings | None:
    """Decode the common case in columns: each record one reading with a sensor's name and a numeric `ts`."""
    every = chunk.values
    if chunk.headers or not every or every[0] is None or _is_packet(every[0]):
        return None
    stamps, names, devices, values = list[Any](), list[Any](), list[str | None](), list[float]()
    for first in range(0, len(every), _AT_ONCE):
        try:
            rows = [_single(value) for value in every[first : first + _AT_ONCE]]  # type: ignore[arg-type]
        except (*FAULTS, TypeError):  # a None raises TypeError, as meant
            return None
        # One with a `packet_id` is as unusual as one without a `ts`, and is told with it.
        stamps += [row.ts if row.packet_id is None else None for row in rows]
        names += [row.sensor_id if row.sensor_uuid is None else row.sensor_uuid for row in rows]
        devices += [row.device_uuid and row.device_uuid.lower() for row in rows]
        values += [row.value for row in rows]
    # numpy would take the text "20231101" for a number of seconds.
    if set(map(type, stamps)) != {float} or set(map(type, names)) != {str}:
        return None
    ts_ms = np.floor(np.array(stamps) * 1000 + _EPSILON_MS).astype(np.int64)
    return Readings(
        record=np.arange(len(names), dtype=np.int64),
        sensor=_lower(names),
        device=devices,
        value=np.array(values) + 0.0,  # -0.0 becomes 0.0: equal values have equal bytes
        ts=ts_ms,
        source=np.zeros(len(names), dtype=np.uint64),
        dedupe_ms=ts_ms,
        untimed=np.zeros(len(names), dtype=np.bool_),
        rejected=[],
    )


def _lower(names: list[str]) -> list[str]:
    """Lower the case of the names; 10 ns a name where it is, a quarter of `str.lower` on each."""
    text = "".join(names)
    if text.isascii():
        letters = np.frombuffer(text.encode(), dtype=np.uint8)
        if not (letters - np.uint8(ord("A")) < 26).any():  # noqa: PLR2004  # A to Z; what is below wraps around
            return names
    return [name.lower() for name in names]


class _Columns:
    """Rows gathered one by one, for chunks that hold packets or anything unusual."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        #: The columns; last, whether `source` is to be spread.
        self.rows: list[tuple[int, str, str | None, float, int, int, int, bool, bool]] = []
        self.rejected: list[Rejected] = []

    def reject(self, record: int, fault: Rejected) -> None:
        self.rejected.append(msgspec.structs.replace(fault, record=record))

    def stamp(self, record: int, stamp: float | str | None, field: str) -> int | None:
        """Return the reading's time, or None where it was rejected."""
        if stamp is None:
            return self.chunk.origin(record)[2]
        try:
            return to_ms(stamp)
        except ValueError as error:
            self.reject(record, Rejected(str(error), field))
            return None

    def add_single(self, record: int, row: Single) -> None:
        ts = self.stamp(record, row.ts, "ts")
        if ts is None:
            return
        device = row.device_uuid.lower() if row.device_uuid else None
        sensor, told = sensor_key(row), (0, ts, False, False)
        untimed = row.ts is None and self.chunk.is_first(record)
        if row.packet_id is not None:
            source = seed("packet", device or sensor, row.packet_id)
            told = (source, 0 if row.ts is None else ts, untimed, True)
        elif row.ts is None:
            told = (self.place(record), ts, untimed, False)
        self.rows.append((record, sensor, device, row.value, ts, *told))

    def add_packet(self, record: int, packet: Packet) -> None:
        device, by_id = packet.device_uuid.lower(), packet.packet_id is not None
        first = self.chunk.is_first(record)
        source = seed("packet", device, packet.packet_id) if by_id else self.place(record)
        for index, item in enumerate(packet.readings):
            stamp = packet.ts if item.ts is None else item.ts
            ts = self.stamp(record, stamp, "ts" if item.ts is None else f"readings[{index}].ts")
            if ts is None:
                continue
            told = (0, ts, False, False)
            if by_id or stamp is None:
                place = item.index if by_id and item.index is not None else index
                told = (source + place, 0 if by_id and stamp is None else ts, first and stamp is None, True)
            self.rows.append((record, item.sensor_uuid.lower(), device, item.value, ts, *told))

    def place(self, record: int) -> int:
        """Make a number of the record's place on the topic."""
        partition, offset, _ = self.chunk.origin(record)
        return seed("record", self.chunk.topic, partition, offset) or 1

    def readings(self) -> Readings:
        record, sensor, device, value, ts, sources, dedupe_ms, untimed, spread = (
            zip(*self.rows, strict=True) if self.rows else ((),) * 9
        )
        source = np.array([number % 2**64 for number in sources], dtype=np.uint64)
        return Readings(
            record=np.array(record, dtype=np.int64),
            sensor=list(sensor),
            device=list(device),
            value=np.array(value, dtype=np.float64) + 0.0,
            ts=np.array(ts, dtype=np.int64),
            source=np.where(spread, np.maximum(mix(source), np.uint64(1)), source),
            dedupe_ms=np.array(dedupe_ms, dtype=np.int64),
            untimed=np.array(untimed, dtype=np.bool_),
            rejected=self.rejected,
        )


def _decode_any(chunk: Chunk, *, for_sink: bool = False) -> Readings:
    columns = _Columns(chunk)
    for record, value in enumerate(chunk.values):
        if chunk.is_control(record) or (not for_sink and chunk.is_for_sink(record)):
            continue
        parsed = parse(value)
        if isinstance(parsed, Packet):
            columns.add_packet(record, parsed)
        elif isinstance(parsed, Single):
            columns.add_single(record, parsed)
        else:
            columns.reject(record, parsed)
    return columns.readings()


def _reject_early(readings: Readings, ahead: NDArray[np.int64], allowed_skew_ms: int) -> Readings:
    early = ahead > allowed_skew_ms
    rejected = [
        Rejected(
            f"ts is {ahead[i]} ms ahead of its record; {allowed_skew_ms} ms are allowed",
            "ts",
            int(readings.record[i]),
            "early",
        )
        for i in np.flatnonzero(early)
    ]
    return take(readings, ~early, [*readings.rejected, *rejected])


def take(readings: Readings, keep: NDArray[np.bool_], rejected: Sequence[Rejected]) -> Readings:
    """Pick the readings where `keep`, of shape (n,), is true, with another list of what was rejected."""
    at = np.flatnonzero(keep).tolist()
    return Readings(
        record=readings.record[keep],
        sensor=[readings.sensor[i] for i in at],
        device=[readings.device[i] for i in at],
        value=readings.value[keep],
        ts=readings.ts[keep],
        source=readings.source[keep],
        dedupe_ms=readings.dedupe_ms[keep],
        untimed=readings.untimed[keep],
        rejected=list(rejected),
    )
