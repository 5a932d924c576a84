"""A partition's engine as plain as it can be, one reading at a time, and records to try it and the real one with."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import fsum, sqrt
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st

from streamproc.core import windows
from streamproc.core.checkpoint import Snapshot, encode
from streamproc.core.chunk import EDIT, MOVED, TICK, Chunk, Headers
from streamproc.core.engine import Options, Outputs, PartitionState, run
from streamproc.core.identity import content_id
from streamproc.core.registry import RegistryLog
from streamproc.core.routing import home
from streamproc.core.windows import COLUMNS, SIZES_MS, Moments
from streamproc.records import (
    DeltaSpike,
    Expression,
    NoData,
    Notification,
    Range,
    RateOfChange,
    Rule,
    SensorEntry,
    Severity,
    StuckValue,
)

NOW = 1_700_000_000_000
TOPIC = "readings"
OPTIONS = Options(TOPIC, 0, 2, horizon=2)
#: Rules of all kinds that the made records break now and then.
RULES: tuple[tuple[Rule, ...], ...] = (
    (),
    (DeltaSpike(absolute=0.6), DeltaSpike(percent=30.0, severity=Severity.CRITICAL)),
    (NoData(2.0), NoData(7.0, severity=Severity.CRITICAL), StuckValue(3.0, tolerance=1.0)),
    (RateOfChange(0.5, window="5s", clear_windows=2), Expression("last_1s > mean_10s", for_windows=2)),
)
_NAMES = [f"n{i}" for i in range(5_000)]
#: Names whose records belong to the partition of OPTIONS, and names whose do not.
HERE = [name for name in _NAMES if home(name, 2) == 0]
ELSEWHERE = [name for name in _NAMES if home(name, 2) == 1]
LIMITED = {
    name: SensorEntry(name, warning=Range(-4, 60), critical=Range(-5, 5e8), version=3)
    for name in (HERE[0], HERE[300])
}


@dataclass(frozen=True)
class Reading:
    """One reading of a record; `ts` in ms."""

    sensor: str
    value: float
    ts: int | None = None


@dataclass(frozen=True)
class Record:
    """One record: of one reading, or a packet where it has a device; of none where it is a tick, null or broken.

    `sent_from` is the place and time that it was sent on from, `edit` the position of the registry that it names.
    """

    timestamp: int
    readings: tuple[Reading, ...] = ()
    device: str | None = None
    packet_id: str | None = None
    sent_from: tuple[int, int, int] | None = None
    body: bytes | None = None
    tick: bool = False
    edit: bytes | None = None

    def value(self) -> bytes | None:
        """Its bytes."""
        if not self.readings:
            return self.body
        items = [self._item(reading) for reading in self.readings]
        if self.device is None:
            return json.dumps(items[0]).encode()
        packet: dict[str, Any] = {"device_uuid": self.device, "readings": items}
        return json.dumps(packet | ({"packet_id": self.packet_id} if self.packet_id else {})).encode()

    def _item(self, reading: Reading) -> dict[str, Any]:
        item: dict[str, Any] = {"sensor_uuid": reading.sensor, "value": reading.value}
        return item | ({} if reading.ts is None else {"ts": reading.ts / 1000})

    def headers(self) -> Headers:
        """Its headers."""
        if self.edit is not None:
            return ((EDIT, self.edit),)
        if self.tick:
            return ((TICK, b"1"),)
        if self.sent_from is None:
            return ()
        return ((MOVED, ":".join(map(str, self.sent_from)).encode()),)


def chunk(records: Sequence[Record], first_offset: int = 0) -> Chunk:
    """Make the chunk that these records are."""
    headers = {i: record.headers() for i, record in enumerate(records) if record.headers()}
    offsets = np.arange(first_offset, first_offset + len(records), dtype=np.int64)
    timestamps = np.array([record.timestamp for record in records], dtype=np.int64)
    return Chunk(
        TOPIC, OPTIONS.partition, offsets, timestamps, [record.value() for record in records], headers
    )


@dataclass
class Told:
    """All outputs of a run by what they are of; two runs are the same if these are equal."""

    windows: dict[tuple[str, int], list[bytes]] = field(default_factory=lambda: defaultdict(list))
    predictions: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    events: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    #: What was told of devices, by the sensor whose event it goes with.
    devices: dict[str, list[Notification]] = field(default_factory=lambda: defaultdict(list))
    notifications: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    withheld: Counter[str] = field(default_factory=Counter)
    late: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    moved: list[tuple[int, int]] = field(default_factory=list)
    readings: int = 0
    duplicates: int = 0

    def add(self, state: PartitionState, first_offset: int, out: Outputs) -> None:
        """Take in the outputs of one step."""
        names = state.sensors.names
        for closed in out.windows:
            for row, slot in enumerate(closed.slot.tolist()):
                parts = [getattr(closed.rows, name)[row].tobytes() for name in COLUMNS]
                self.windows[names[slot] or "?", closed.size_ms].append(b"".join(parts))
        if made := out.predictions:
            for row, slot in enumerate(made.slot.tolist()):
                parts = [getattr(made, name)[row].tobytes() for name in made.__slots__[1:]]
                self.predictions[names[slot] or "?"].append(b"".join(parts))
        notes = {content_id("notification", event.event_id): event.sensor for event in out.events}
        told = {note.notification_id: note for note in out.notifications}
        for notification_id, event in zip(notes, out.events, strict=True):
            self.events[event.sensor].append(msgspec.json.encode([event, told.get(notification_id)]))
        for note in out.notifications:
            if note.notification_id not in notes:
                self.devices[note.sensor].append(note)
        for notification in out.notifications:
            self.notifications[notification.sensor].append(msgspec.json.encode(notification))
        self.withheld.update(out.withheld)
        for late in out.late:
            self.late[late.sensor].append(msgspec.json.encode(late))
        faults = [(first_offset + fault.record, fault.field or "", fault.reason) for fault in out.rejected]
        self.rejected = sorted(self.rejected + faults)
        self.moved += [(first_offset + record, place) for record, place in out.moved]
        self.readings += out.readings
        self.duplicates += out.duplicates


def new_state(options: Options = OPTIONS) -> PartitionState:
    """Make an empty state."""
    return PartitionState(options)


def registry(*entries: SensorEntry, timestamp: int = 0) -> RegistryLog:
    """A registry that has had these entries since long ago."""
    log = RegistryLog()
    for offset, entry in enumerate(entries):
        log.append(offset, timestamp, entry.sensor, entry)
    return log


def feed(
    state: PartitionState,
    records: Sequence[Record],
    cuts: Iterable[int] = (),
    log: RegistryLog | None = None,
) -> Told:
    """Step through those records that `state.next_offset` has not passed, cut before these offsets.

    They are judged by this registry, by default one that has LIMITED.
    """
    told = Told()
    if log is None:
        log = registry(*LIMITED.values())
    at = state.next_offset
    for end in sorted({cut for cut in cuts if at < cut < len(records)} | {len(records)}):
        if end > at:
            for part, out in run(state, chunk(records[at:end], at), log):
                told.add(state, int(part.offsets[0]), out)
            at = end
    return told


def whole(state: PartitionState) -> Snapshot:
    """Everything that a state is, as bytes."""
    return encode(state, [])


# Records ------------------------------------------------------------------------------------------------------------

_STEPS = (0, 0, 1, 100, 400, 1_000, 2_500, 13_000, 700_000)
_BEHIND = (0, 0, 0, 1, 250, 999, 1_400, 2_000, 3_600, 9_000, 86_400_000, -900, -30_000, -70_000)
_VALUES = (0.0, 1.0, 5.5, 5.5, -3.25, -4.5, 70.0, 1e9)
_SENSORS = (*HERE[:3], HERE[0], ELSEWHERE[0])
_BODIES = (None, b"", b"{", b'{"sensor_id":"a","value":NaN}', b'{"device_uuid":"d","readings":[]}')


@st.composite
def readings(draw: st.DrawFn, timestamp: int) -> Reading:
    """One reading, mostly with its time."""
    ts = draw(st.sampled_from((None, *(timestamp - behind for behind in _BEHIND))))
    return Reading(draw(st.sampled_from(_SENSORS)), draw(st.sampled_from(_VALUES)), ts)


@st.composite
def record(draw: st.DrawFn, timestamp: int) -> Record:
    """A record of any kind."""
    kind = draw(st.sampled_from(("single",) * 5 + ("packet",) * 3 + ("tick", "bad")))
    sent_from = draw(st.sampled_from((None, None, None, (1, 7, NOW + 300), (1, 8, NOW + 4_000))))
    if kind == "single":
        return Record(timestamp, (draw(readings(timestamp)),), sent_from=sent_from)
    if kind == "packet":
        many = draw(st.lists(readings(timestamp), min_size=1, max_size=3))
        device = draw(st.sampled_from((HERE[3], HERE[3], ELSEWHERE[3])))
        packet_id = draw(st.sampled_from((None, "p", "q")))
        return Record(timestamp, tuple(many), device, packet_id, sent_from)
    return Record(timestamp, tick=kind == "tick", body=draw(st.sampled_from(_BODIES)))


@st.composite
def streams(draw: st.DrawFn, longest: int = 30) -> list[Record]:
    """Records in their order, some of which are sent again."""
    clock, out = NOW, list[Record]()
    for _ in range(draw(st.integers(1, longest))):
        clock += draw(st.sampled_from(_STEPS))
        # A broker's clock may step back.
        timestamp = clock - draw(st.sampled_from((0, 0, 0, 300)))
        again = draw(st.integers(0, 6)) == 0 and out
        made = draw(st.sampled_from(out)) if again else draw(record(timestamp))
        out.append(replace(made, timestamp=timestamp))
    return out


cuttings = st.lists(st.integers(0, 60), max_size=12)


def story(seed: int, sensors: int, seconds: int) -> list[Record]:
    """A fleet's records, about 40 sensors in each: out of order, late, sent again, misplaced, silent, with spikes."""
    rng = random.Random(seed)  # noqa: S311  # made-up data
    names, out = HERE[:sensors], list[Record]()
    begins = [rng.choice((0, 0, 0, 2, seconds // 3)) for _ in names]
    for second in range(seconds):
        now = NOW + 1_000 * second
        for first in range(0, sensors, 40):
            if rng.random() < 0.1:
                continue
            at = [i for i in range(first, min(first + 40, sensors)) if begins[i] <= second]
            rng.shuffle(at)
            by_packet = rng.random() < 0.2
            rows = tuple(Reading(names[i], *_made(rng, i, now, by_packet=by_packet)) for i in at)
            packet_id = f"p{second}" if by_packet or rng.random() < 0.5 else None
            if rows:
                out.append(Record(now + rng.randrange(900), rows, HERE[-1 - first // 40], packet_id))
        out += [_again(rng, out, now) for _ in range(2) if out]
        out.append(_odd(rng, now))
    return out


def _made(rng: random.Random, sensor: int, now: int, *, by_packet: bool) -> tuple[float, int | None]:
    alarming = sensor % 7 == 0 and 95_000 <= now - NOW < 99_000
    spike = 50.0 if alarming or (sensor % 300 == 0 and rng.random() < 0.1) else 0.0
    late = rng.choice((0, 0, 0, 0, 500, 1_500, 2_400, 6_000))
    value = round(rng.gauss(20 + sensor % 20, 0.5) + spike, 3)
    return value, None if by_packet else now - late + rng.randrange(900)


def _again(rng: random.Random, out: list[Record], now: int) -> Record:
    return replace(rng.choice(out[-40:]), timestamp=now + rng.randrange(900))


def _odd(rng: random.Random, now: int) -> Record:
    reading = Reading(rng.choice(ELSEWHERE[:2]), 1.5, now)
    kind = rng.randrange(5)
    if kind == 0:
        return Record(now, body=rng.choice(_BODIES))
    if kind == 1:
        return Record(now, (reading,))
    if kind == 2:
        return Record(now, (reading, Reading(HERE[1], 2.5)), ELSEWHERE[5], sent_from=(1, now % 97, now - 900))
    return Record(now, tick=True)


def edited(seed: int, records: list[Record]) -> tuple[list[Record], RegistryLog]:
    """The records with edits between them: of ranges, and of devices, which move sensors from partition to partition.

    Every tenth record names a position: mostly the next edit's, some are stale, not there yet, or no number.
    """
    rng = random.Random(seed)  # noqa: S311  # made-up data
    log, out = RegistryLog(), list[Record]()
    for index, each in enumerate(records):
        if index % 10 == 5:
            for _ in range(rng.randrange(1, 12)):
                sensor = rng.choice((*HERE[:60], *ELSEWHERE[10:40]))
                log.append(log.position, each.timestamp - 5, sensor, _edited(rng, sensor))
            position = log.position + rng.choice((0, 0, 0, 0, -15, 7))
            out.append(Record(each.timestamp, edit=rng.choice((b"?", *[b"%d" % max(position, 0)] * 9))))
        out.append(each)
        # Later only of a few sensors, so that some blocks of a checkpoint rest.
        few = each.timestamp >= NOW + 30_000
        name = rng.choice(HERE[:24] if few else (*HERE[50:60], *ELSEWHERE[10:40]))
        out.append(Record(each.timestamp, (Reading(name, rng.gauss(20, 5), each.timestamp),)))
    return out, log


def _edited(rng: random.Random, sensor: str) -> SensorEntry | None:
    """An entry whose range many readings are out of, with a rule for some and a device of either partition; or none.

    Mostly it is the device whose packets the sensor comes in; else those are foreign.
    """
    middle = 20 + HERE.index(sensor) % 20 if sensor in HERE else 20
    warning = Range(middle - rng.random(), middle + rng.random())
    own = HERE[-1 - HERE.index(sensor) // 40] if sensor in HERE else HERE[700]
    device = rng.choice((None, own, own, own, ELSEWHERE[700]))
    rules = rng.choice(RULES)
    entry = SensorEntry(sensor, device, warning=warning, rules=rules, version=rng.randrange(99))
    return rng.choice((None, *[entry] * 4))


# The oracle ---------------------------------------------------------------------------------------------------------


@dataclass
class Sensor:
    """What the oracle knows of a sensor: times, and the readings that count as (offset, ts, value)."""

    newest: int
    arrival: int
    closed: int
    counted: list[tuple[int, int, float]] = field(default_factory=list)
    #: The generation that each reading came in that counts.
    keys: dict[object, int] = field(default_factory=dict)


class Oracle:
    """The rules of `streamproc.core.watermarks` and `streamproc.core.dedupe`, in the most obvious way."""

    def __init__(self, options: Options = OPTIONS) -> None:
        self.options = options
        self.clock = -1
        self.sensors: dict[str, Sensor] = {}
        self.packets: dict[object, int] = {}
        self.late: list[tuple[str, int, int]] = []
        self.moved: list[tuple[int, int]] = []
        self.accepted = self.duplicates = 0

    def run(self, records: Iterable[Record]) -> None:
        """Take in records, then close what is due."""
        for offset, each in enumerate(records):
            self.clock = max(self.clock, each.timestamp)
            for index, reading in enumerate(each.readings):
                self._take(each, offset, index, reading)
        for sensor in self.sensors.values():
            sensor.closed = max(sensor.closed, self._due(sensor))

    def _take(self, each: Record, offset: int, index: int, reading: Reading) -> None:
        partition, first, stamp = each.sent_from or (self.options.partition, offset, each.timestamp)
        ts = stamp if reading.ts is None else reading.ts
        if ts - stamp > self.options.allowed_skew_ms:
            return
        place = home(each.device or reading.sensor, self.options.partitions)
        if place != self.options.partition and each.sent_from is None:
            if (offset, place) not in self.moved:
                self.moved.append((offset, place))
            return
        self.accepted += 1
        key: object = (reading.value, ts) if reading.ts is not None else (partition, first, index)
        if each.packet_id is not None:
            key = (each.device, each.packet_id, index, ts)
        by_packet = each.packet_id is not None and reading.ts is None
        if by_packet and self._known((reading.sensor, each.device, each.packet_id, index)):
            self.duplicates += 1
        else:
            self._count(reading, ts, offset, key)

    def _known(self, identity: object) -> bool:
        known = self.packets.get(identity)
        if known is not None and self.clock - known <= 600_000:
            return True
        self.packets[identity] = self.clock
        return False

    def _count(self, reading: Reading, ts: int, offset: int, key: object) -> None:
        start = _floor(ts - self.options.allowed_lateness_ms, 1_000)
        sensor = self.sensors.setdefault(reading.sensor, Sensor(ts, self.clock, start))
        sensor.closed = max(sensor.closed, self._due(sensor))
        sensor.arrival, sensor.newest = self.clock, max(sensor.newest, ts)
        if ts < sensor.closed:
            self.late.append((reading.sensor, offset, sensor.closed - ts))
        elif sensor.keys.get(key, -1) >= self._generation() - 1:
            self.duplicates += 1
        else:
            sensor.keys[key] = self._generation()
            sensor.counted.append((offset, ts, reading.value))

    def _generation(self) -> int:
        return self.clock // (600_000 + 2 * self.options.allowed_lateness_ms)

    def _due(self, sensor: Sensor) -> int:
        patience = self.clock - sensor.arrival - self.options.allowed_lateness_ms
        if patience >= 10_000:
            return _floor(sensor.newest, 10_000) + 10_000
        return min(_floor(sensor.newest + patience, 1_000), _floor(sensor.newest, 1_000) + 1_000)

    def windows(self) -> dict[tuple[str, int], dict[int, list[tuple[int, int, float]]]]:
        """The readings of each window that is closed, by sensor and size, then by start."""
        found: dict[tuple[str, int], dict[int, list[tuple[int, int, float]]]] = defaultdict(dict)
        for name, sensor in self.sensors.items():
            for size in SIZES_MS:
                for row in sensor.counted:
                    start = _floor(row[1], size)
                    if start + size <= sensor.closed:
                        found[name, size].setdefault(start, []).append(row)
        return found


def _floor(ts: int, size: int) -> int:
    return ts // size * size


def numbers(rows: list[tuple[int, int, float]]) -> dict[str, float]:
    """A window's numbers from its readings (offset, ts, value), by their definitions."""
    count, values = len(rows), [value for _, _, value in rows]
    mean, middle = fsum(values) / count, fsum(ts for _, ts, _ in rows) / count
    spread = fsum((ts - middle) ** 2 for _, ts, _ in rows)
    product = fsum((ts - middle) * (value - mean) for _, ts, value in rows)
    return {
        "count": count,
        "mean": mean,
        "min": min(values),
        "max": max(values),
        "deviation": sqrt(fsum((value - mean) ** 2 for value in values) / count),
        "first": min(rows, key=lambda row: row[1])[2],
        "last": max(reversed(rows), key=lambda row: row[1])[2],
        "trend": 1_000 * product / spread if spread else 0.0,
        "first_offset": min(offset for offset, _, _ in rows),
        "last_offset": max(offset for offset, _, _ in rows),
    }


def opened(row: bytes) -> Moments:
    """The window that `Told` holds as bytes."""
    return Moments.from_bytes([row[at : at + 8] for at in range(0, len(row), 8)])


def view(one: Moments) -> dict[str, float]:
    """The same numbers of a row of the engine's."""
    derived = {"mean": windows.mean, "deviation": windows.deviation, "trend": windows.trend}
    plain = ("count", "min", "max", "first", "last", "first_offset", "last_offset")
    return {name: float(getattr(one, name)[0]) for name in plain} | {
        name: float(get(one)[0]) for name, get in derived.items()
    }
