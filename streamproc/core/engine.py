"""One step of the engine: a chunk of records into windows, predictions, severity changes and what could not be used.

`step` takes a partition's state and a chunk and gives the outputs; the state moves on in place, since copying a
hundred thousand sensors for each chunk would cost more than the work. Nothing else is read or written: the same
state and records give the same outputs, and so they do however the records are cut into chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from streamproc.core import windows
from streamproc.core.chunk import MOVED, Chunk
from streamproc.core.codec import Readings, Rejected, decode, take
from streamproc.core.dedupe import RecentPackets, RecentReadings
from streamproc.core.identity import reading_keys
from streamproc.core.judge import Judge, Observed
from streamproc.core.predict import Forecasts, Predicted
from streamproc.core.sensors import BLOCK, Sensors
from streamproc.core.watermarks import Runs, Watermarks
from streamproc.core.windows import BASE_MS, SIZES_MS, Bools, Floats, Ints, Moments, OpenWindows
from streamproc.records import LateReading, Notification, SensorEntry, SeverityEvent


@dataclass(frozen=True, slots=True)
class Options:
    """What a partition's engine needs to know besides its records."""

    topic: str
    partition: int
    partitions: int
    allowed_lateness_ms: int = 2_000
    allowed_skew_ms: int = 60_000
    language: Literal["en", "es"] = "en"


@dataclass(frozen=True, slots=True)
class ClosedWindows:
    """Closed windows of one size by sensor and start; row i of `rows` is of the sensor in `slot[i]`."""

    size_ms: int
    slot: Ints
    rows: Moments


@dataclass(slots=True)
class Outputs:
    """What a step gives. `moved` holds (index of the record in the chunk, its own partition)."""

    readings: int = 0
    duplicates: int = 0
    windows: list[ClosedWindows] = field(default_factory=list)
    predictions: Predicted | None = None
    events: list[SeverityEvent] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    late: list[LateReading] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    moved: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sorted:
    """Readings by sensor and, within one, by record; columns of shape (n,). `clock` is the partition's at the record."""

    slot: Ints
    ts: Ints
    value: Floats
    offset: Ints
    clock: Ints
    key: Ints

    def take(self, keep: Bools | Ints) -> Sorted:
        """These rows."""
        return Sorted(*(getattr(self, name)[keep] for name in self.__slots__))


class PartitionState:
    """All that the engine knows of one partition; `next_offset` is where its next record lies."""

    def __init__(self, options: Options, depth: int = 1) -> None:
        """`depth` is the least number of cells for a sensor's open base windows; a checkpoint may need more than usual."""
        self.options = options
        self.next_offset = 0
        self.sensors = Sensors(options.partition, options.partitions)
        self.watermarks = Watermarks(options.allowed_lateness_ms)
        # Open base windows reach from the one that the watermark is in to the one that the newest reading is in.
        depth = max(depth, -(-options.allowed_lateness_ms // BASE_MS) + 1)
        self.open = [OpenWindows(size, depth if size == BASE_MS else 1) for size in SIZES_MS]
        self.recent, self.packets = RecentReadings(), RecentPackets()
        self.forecasts = Forecasts()
        self.judge = Judge(options.topic, options.partition, options.language)
        #: Blocks of BLOCK slots that have changed since the last checkpoint.
        self.dirty: Bools = np.empty(0, dtype=bool)
        self._room = 0

    def fit(self) -> None:
        """Make room for the sensors that have come; an eighth more than they are, so that growth is rare."""
        count = len(self.sensors)
        self.judge.grow(self.sensors.names)
        if count <= self._room:
            return
        self._room = -(-(count + count // 8) // BLOCK) * BLOCK
        self.watermarks.grow(self._room)
        self.forecasts.grow(self._room)
        for size in self.open:
            size.grow(self._room)
        self.dirty = np.append(self.dirty, np.ones(self._room // BLOCK - len(self.dirty), dtype=bool))

    def use(self, entries: Mapping[str, SensorEntry]) -> None:
        """Judge by these entries of the registry, which their owner keeps up to date and tells of with `edited`."""
        self.judge.entries = self.sensors.entries = entries
        for slot, name in enumerate(self.sensors.names):
            if name in entries:
                self.judge.limit(slot, entries[name])

    def edited(self, sensor: str) -> None:
        """Take in that a sensor's entry has changed or gone."""
        slot = self.sensors.slot_of(sensor)
        if slot is not None:
            self.judge.limit(slot, self.judge.entries.get(sensor))
        self.sensors.forget_alias(sensor)


def step(state: PartitionState, chunk: Chunk) -> Outputs:
    """Take in the next records of the partition. Records before `state.next_offset` must not come again."""
    out = Outputs()
    clocks = state.watermarks.tick(chunk.timestamps)
    readings = decode(chunk, state.options.allowed_skew_ms)
    out.rejected = readings.rejected
    rows = _take_in(state, chunk, readings, clocks, out)
    before = state.watermarks.observe(Runs.of(rows.slot), rows.ts, rows.clock)
    touched = state.watermarks.close(rows.slot)
    state.dirty[touched // BLOCK] = True
    rows, before = _set_late_aside(state, rows, before, out)
    closed = _close(state, rows, touched)
    out.windows = [windows for windows in closed if len(windows.slot)]
    base, largest = closed[0], closed[-1]
    scores = state.judge.learn(base.slot, base.rows)
    seen = Observed(rows.slot, rows.ts, rows.value, rows.offset, before, base.slot, base.rows)
    for change in state.judge.changes(seen, scores):
        event, notification = state.judge.event(change, state.sensors.names[change.slot] or "")
        out.events.append(event)
        out.notifications.append(notification)
    out.predictions = state.forecasts.make(
        base.slot, base.rows.start, scores, (largest.slot, largest.rows.start)
    )
    state.recent.sweep(state.watermarks.closed)
    state.next_offset = chunk.next_offset
    return out


def _take_in(state: PartitionState, chunk: Chunk, readings: Readings, clocks: Ints, out: Outputs) -> Sorted:
    """The readings that belong here and are no retries."""
    readings, slot = _locate(state, chunk, readings, out)
    state.fit()
    rows = _sort(state, chunk, readings, slot, clocks)
    if len(rows.slot):
        rows = _drop_retries(state, rows, out)
    out.readings = len(rows.slot)
    return rows


def _locate(state: PartitionState, chunk: Chunk, readings: Readings, out: Outputs) -> tuple[Readings, Ints]:
    """The readings with their sensors' slots, less those that belong to another partition or were counted already."""
    sensors = state.sensors
    slot = sensors.find(readings.sensor, readings.device, int(chunk.offsets[0]))
    keep = slot >= 0
    if not keep.all():
        arrived = {
            record for record, headers in chunk.headers.items() if any(name == MOVED for name, _ in headers)
        }
        for i in np.flatnonzero(~keep).tolist():
            record = int(readings.record[i])
            if record in arrived:  # sent on once, it counts where it is
                slot[i], keep[i] = sensors.adopt(readings.sensor[i], int(chunk.offsets[record])), True
            elif not out.moved or out.moved[-1][0] != record:
                out.moved.append((record, int(-1 - slot[i])))
    if sensors.block_next:
        keep &= ~_seen_by_block(state, chunk.offsets[readings.record], slot)
    keep &= _new_packets(state, readings)
    out.duplicates = int(np.count_nonzero(slot >= 0) - np.count_nonzero(keep))
    return (readings, slot) if keep.all() else (take(readings, keep, readings.rejected), slot[keep])


def _seen_by_block(state: PartitionState, offset: Ints, slot: Ints) -> Bools:
    """Which readings were taken in already by the restored block that their sensor is in."""
    blocks = state.sensors.block_next
    if int(offset[-1] if len(offset) else 0) >= max(blocks):
        blocks.clear()
        return np.zeros(len(slot), dtype=bool)
    limit = np.zeros(max(len(blocks), int(slot.max(initial=0)) // BLOCK + 1), dtype=np.int64)
    limit[: len(blocks)] = blocks
    return offset < limit[np.maximum(slot, 0) // BLOCK]


def _new_packets(state: PartitionState, readings: Readings) -> Bools:
    """Which readings are not of a packet that only its `packet_id` tells to be a retry."""
    keep = np.ones(len(readings), dtype=bool)
    for i in np.flatnonzero(readings.dedupe_ms == 0).tolist():
        keep[i] = state.packets.first_time(int(readings.source[i]), state.watermarks.clock)
    return keep


def _sort(state: PartitionState, chunk: Chunk, readings: Readings, slot: Ints, clocks: Ints) -> Sorted:
    # numpy sorts 16-bit numbers in linear time, and a partition's sensors mostly have as few.
    order = np.argsort(slot.astype(np.uint16) if len(state.sensors) <= 65_536 else slot, kind="stable")
    slot, record = slot[order], readings.record[order]
    ts, value = readings.ts[order], readings.value[order]
    key = reading_keys(state.sensors.seeds[slot], ts, value, readings.source[order])
    return Sorted(slot, ts, value, chunk.offsets[record], clocks[record], key)


def _drop_retries(state: PartitionState, rows: Sorted, out: Outputs) -> Sorted:
    """Leave out readings that were taken in before, in this chunk or an earlier one."""
    runs = Runs.of(rows.slot)
    newest = state.watermarks.newest[runs.sensors]
    # A reading newer than all of its sensor's cannot be a retry: mostly there is nothing to look up.
    newer = np.empty(len(rows.ts), dtype=bool)
    newer[1:] = rows.ts[1:] > rows.ts[:-1]
    newer[runs.begin] = rows.ts[runs.begin] > newest
    if not newer.all():
        doubtful = np.flatnonzero(
            rows.ts <= runs.shifted(np.maximum(runs.highest(rows.ts), newest[runs.run]), newest)
        )
        _, first = np.unique(rows.key, return_index=True)
        repeated = np.ones(len(rows.key), dtype=bool)
        repeated[first] = False
        repeated[doubtful] |= state.recent.has(rows.slot[doubtful], rows.key[doubtful])
        if repeated.any():
            out.duplicates += int(np.count_nonzero(repeated))
            rows = rows.take(~repeated)
    state.recent.add(rows.slot, rows.ts, rows.key)
    return rows


def _set_late_aside(state: PartitionState, rows: Sorted, before: Ints, out: Outputs) -> tuple[Sorted, Ints]:
    late = rows.ts < before
    if not late.any():
        return rows, before
    options = state.options
    for i in np.flatnonzero(late).tolist():
        ts = int(rows.ts[i])
        out.late.append(
            LateReading(
                sensor=state.sensors.names[int(rows.slot[i])] or "",
                value=float(rows.value[i]),
                ts=ts,
                late_by_ms=int(before[i]) - ts,
                topic=options.topic,
                partition=options.partition,
                offset=int(rows.offset[i]),
            )
        )
    return rows.take(~late), before[~late]


def _close(state: PartitionState, rows: Sorted, touched: Ints) -> list[ClosedWindows]:
    """Add the readings to their windows; what is closed of each size, smallest first."""
    slot, parts = rows.slot, windows.from_readings(rows.ts, rows.value, rows.offset)
    closed = []
    for size in state.open:
        due_slot, due = size.advance(slot, parts, state.watermarks.closed, touched)
        closed.append(ClosedWindows(size.size_ms, due_slot, due))
        if size.size_ms == BASE_MS:
            slot, parts = due_slot, due
    return closed
