"""One step of the engine: a chunk of records into windows, predictions, changes of severity and rejected readings.

`step` takes a partition's state and a chunk and gives the outputs; the state is changed in place, since copying a hundred
thousand sensors for each chunk would cost more than the work. Nothing else is read or written: the same state and records
give the same outputs, however the records are cut into chunks. `run` does the same, and judges each record by the registry as
of the position that the records before it name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from streamproc.core import windows
from streamproc.core.attention.bank import AttentionBank
from streamproc.core.attention.moments import Moments as Noticed
from streamproc.core.attention.step import tell
from streamproc.core.chunk import Chunk
from streamproc.core.classify import Observed, Pipeline
from streamproc.core.codec import Readings, Rejected, decode, take
from streamproc.core.dedupe import RecentPackets, RecentReadings
from streamproc.core.identity import reading_keys
from streamproc.core.inhibition import Inhibition
from streamproc.core.ownership import foreign_faults
from streamproc.core.policies import Policies, policies_of, policy_of
from streamproc.core.predict import Forecasts, Predicted
from streamproc.core.registry import Actions, RegistryLog, actions_of, parts
from streamproc.core.router import ReadingRouter
from streamproc.core.rules.silence import AHEAD, Listened, Turn
from streamproc.core.sensors import BLOCK, FOREIGN, Sensors
from streamproc.core.sorting import Sorted, in_order
from streamproc.core.telling import Teller
from streamproc.core.trials import Place, Trials
from streamproc.core.watermarks import Runs, Watermarks
from streamproc.core.windows import BASE_MS, SIZES_MS, Bools, Ints, Moments, OpenWindows
from streamproc.records import Language, LateReading, Notification, SensorEntry, SeverityEvent
from streamproc.records.alerting import Document, TrialEvent


@dataclass(frozen=True, slots=True)
class Options:
    """What a partition's engine needs to know besides its records."""

    topic: str
    partition: int
    partitions: int
    allowed_lateness_ms: int = 2_000
    allowed_skew_ms: int = 60_000
    language: Language = "en"
    #: How many windows of the largest size predictions are made for.
    horizon: int = 1


@dataclass(frozen=True, slots=True)
class ClosedWindows:
    """Closed windows of one size by sensor and start; row i of `rows` is of the sensor in `slot[i]`."""

    size_ms: int
    slot: Ints
    rows: Moments


@dataclass(slots=True)
class Outputs:
    """What a step gives.

    Of the `readings` all but the `late` are in windows, and `routed` to a pipeline each; `duplicates` are none of them.
    `withheld` counts the changes that people are not told of, by why: see `core.attention.course`.
    `moved` holds (index of the record in the chunk, its own partition).
    """

    readings: int = 0
    duplicates: int = 0
    routed: Mapping[Pipeline, int] = field(default_factory=dict)
    windows: list[ClosedWindows] = field(default_factory=list)
    predictions: Predicted | None = None
    events: list[SeverityEvent] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    trial_events: list[TrialEvent] = field(default_factory=list)
    withheld: Mapping[str, int] = field(default_factory=dict)
    late: list[LateReading] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    moved: list[tuple[int, int]] = field(default_factory=list)


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
        self.recent, self.packets = RecentReadings(options.allowed_lateness_ms), RecentPackets()
        self.forecasts = Forecasts(options.horizon)
        self.router = ReadingRouter()
        self.inhibition = Inhibition()
        self.trials = Trials(self.router, self.inhibition, self.sensors, self.watermarks)
        self.attention = AttentionBank()
        self.teller = Teller(options.topic, options.partition, options.language)
        #: The position of the registry that the next record is judged by; -1 until there was a record.
        self.registry_position = -1
        #: Each sensor's entry as of there; a state that was restored gets these when it goes on.
        self.entries: dict[str, SensorEntry] | None = None
        #: The recommended actions as of there.
        self.actions: Actions = {}
        #: The policies as of there.
        self.policies: Policies = {}
        #: Blocks of BLOCK slots that have changed since the last checkpoint.
        self.dirty: Bools = np.empty(0, dtype=bool)
        self._room = 0

    def fit(self) -> None:
        """Make room for the sensors that have come; an eighth more than they are, so that growth is rare."""
        count = len(self.sensors)
        self.router.grow(count)
        self.inhibition.grow(self.sensors)
        fresh, self.sensors.fresh = self.sensors.fresh, []
        entries = self.entries or {}
        for slot in fresh:
            if (entry := entries.get(self.sensors.names[slot] or "")) or self.policies:
                self._limit(slot, entry)
        self.trials.come(fresh, entries)
        if count <= self._room:
            return
        self._room = -(-(count + count // 8) // BLOCK) * BLOCK
        self.watermarks.grow(self._room)
        self.forecasts.grow(self._room)
        self.attention.grow(self._room)
        for size in self.open:
            size.grow(self._room)
        self.dirty = np.append(self.dirty, np.ones(self._room // BLOCK - len(self.dirty), dtype=bool))

    def judge_by(self, registry: RegistryLog, position: int) -> None:
        """Judge by the registry as of this position from the next record on; it is not before the one so far."""
        # What an edit ends has ended at its place: nothing where a restored state goes on, nor in a block from beyond it.
        ends = self.entries is not None or position != self.registry_position
        self.teller.follow(registry, 0 if self.entries is None else self.registry_position, position)
        if self.entries is None:
            changed: dict[str, SensorEntry | None] = {**registry.as_of(position)}
            self.entries = self.sensors.entries = {}
            self._document(registry.documents_as_of(position))
            if position < self.registry_position:  # made anew: what blocks have seen of it says nothing
                self.trials.reached.clear()
        else:
            changed = {edit.sensor: edit.entry for edit in registry.between(self.registry_position, position)}
            if registry.documents_between(self.registry_position, position):
                self._document(registry.documents_as_of(position))
        self.registry_position = position
        edited = []
        for sensor, entry in changed.items():
            self.sensors.edit(sensor, entry)
            if entry is None:
                self.entries.pop(sensor, None)
            else:
                self.entries[sensor] = entry
            if (slot := self.sensors.slot_of(sensor)) is not None:
                self._limit(slot, entry, ends=ends and not self.sensors.is_ahead(slot, self.next_offset))
                edited.append(slot)
        moved = self.trials.settle(Place(self.entries, position), edited)
        self.dirty[np.array(moved, dtype=np.int64) // BLOCK] = True

    def _document(self, documents: Mapping[str, Document]) -> None:
        """Go on by these documents of the registry, by their keys."""
        self.actions = actions_of(documents)
        policies, entries = policies_of(documents), self.entries or {}
        if policies != self.policies:
            self.policies = policies
            for slot, name in enumerate(self.sensors.names):
                self.router.severity.set_policy(slot, policy_of(entries.get(name or ""), policies))
        self.trials.follow(documents)
        self.attention.order(documents, self.watermarks.clock)

    def _limit(self, slot: int, entry: SensorEntry | None, *, ends: bool = True) -> None:
        # A sensor that has gone to a device of another partition is silent here for ever.
        device = entry.device if entry else None
        here = not device or self.sensors.home(device, device) == self.options.partition
        if self.inhibition.put(slot, self.sensors.device_of(slot) if here else None) and ends:
            self.attention.release(slot, self.watermarks.clock)
            self.dirty[slot // BLOCK] = True
        self.router.limit(slot, entry, policy_of(entry, self.policies), lives_here=here)
        if here and entry:
            self.attention.wake(slot, self.watermarks.clock)
        elif ends and self.attention.forget(slot):
            self.dirty[slot // BLOCK] = True

    def who(self, slot: int) -> tuple[str, SensorEntry | None]:
        """A sensor's key, and its entry in the registry."""
        sensor = self.sensors.names[slot] or ""
        return sensor, (self.entries or {}).get(sensor)


def run(
    state: PartitionState, chunk: Chunk, registry: RegistryLog, readings: Readings | None = None
) -> Iterator[tuple[Chunk, Outputs]]:
    """Take in the next records of the partition, each judged by the registry as of its place; gives the parts in between.

    The chunk is cut as `core.registry.parts` says, and where a generation of `core.dedupe` begins. `registry` must have been
    read as far as the state's position and those that the chunk names, if it reaches that far; for a state without a
    position, as far as the time of its first record. Each part's outputs are to be made into messages before the next is
    asked for. `readings` are the chunk's, where the caller has decoded them already.
    """
    if not len(chunk):
        return
    if state.entries is None:
        state.judge_by(registry, registry.begin(state.registry_position, int(chunk.timestamps[0])))
    for part, position in parts(chunk, state.registry_position, registry):
        if position > state.registry_position:
            state.judge_by(registry, position)
        for piece in state.recent.by_generation(part, state.watermarks.clock):
            yield piece, step(state, piece, readings if piece is chunk else None)


def step(state: PartitionState, chunk: Chunk, readings: Readings | None = None) -> Outputs:
    """Take in the next records of the partition, judged by the registry as the state has it, and of one generation.

    Records before `state.next_offset` must not come again. `readings` are the chunk's, where they are decoded already.
    """
    out = Outputs()
    clocks = state.watermarks.tick(chunk.timestamps)
    state.recent.forget(state.watermarks.clock)
    if readings is None:
        readings = decode(chunk, state.options.allowed_skew_ms)
    rows, runs, before, touched, turns, heard = _take_in(state, chunk, readings, clocks, out)
    closed = _close(state, rows, touched)
    out.windows = [windows for windows in closed if len(windows.slot)]
    base, largest = closed[0], closed[-1]
    scores = state.router.learn(base.slot, base.rows)
    seen = Observed(runs, rows.ts, rows.value, rows.offset, before, base.slot, base.rows)
    larger = [(size.size_ms, size.slot, size.rows) for size in closed[1:]]
    routed = state.router.route(seen, scores, larger, turns)
    out.routed = routed.counts
    tell(state, routed.changes, Noticed(clocks, chunk.offsets, heard, state.watermarks), out)
    if state.trials:
        by = (state.teller, state.actions)
        out.trial_events = state.trials.events(seen, scores, larger, state.entries or {}, by)
    over = (largest.slot, largest.rows.start, windows.mean(largest.rows))
    alarm = state.router.severity.alarms.anomaly(largest.slot)
    out.predictions = state.forecasts.make(base.slot, base.rows.start, scores, over, alarm)
    state.recent.sweep(state.watermarks.closed)
    state.next_offset = chunk.next_offset
    return out


def _take_in(
    state: PartitionState, chunk: Chunk, readings: Readings, clocks: Ints, out: Outputs
) -> tuple[Sorted, Runs, Ints, Ints, list[Turn], Listened]:
    """The readings that count, by sensor, up to where windows were closed before each, the slots that may be due, silences.

    Last are all readings as they were heard. Late comes before retried: what is late is so whether or not its first copy is
    still remembered.
    """
    readings, slot = _locate(state, chunk, readings, clocks, out)
    refused = [fault.record for fault in out.rejected]
    rows = in_order(state.sensors, chunk, readings, slot, clocks, refused)
    runs = Runs.of(rows.slot)
    newest = state.watermarks.newest[runs.sensors]
    passage = state.watermarks.observe(runs, rows.ts, rows.clock)
    before = passage.closed
    touched = state.watermarks.close(rows.slot)
    state.dirty[touched // BLOCK] = True
    late = rows.ts < before
    keep = ~late & ~state.recent.retried(rows, runs, newest, late)
    out.late = _late(state, rows, before, np.flatnonzero(late))
    out.duplicates += len(rows.slot) - int(np.count_nonzero(keep)) - len(out.late)
    named = state.inhibition.named_at(chunk.offsets, clocks)
    listened = Listened(runs, rows.ts, rows.value, rows.offset, rows.clock, keep, passage, named)
    turns = _silences(state, chunk, listened)
    if not keep.all():
        rows, before = rows.take(keep), before[keep]
        runs = Runs.of(rows.slot)
    out.readings = len(rows.slot) + len(out.late)
    state.recent.remember(rows, state.watermarks.clock)
    return rows, runs, before, touched, turns, listened


def _silences(state: PartitionState, chunk: Chunk, listened: Listened) -> list[Turn]:
    """The begins and ends of silences."""
    severity, rules = state.router.severity, state.router.silence_rules
    told = severity.silence_at
    # A block that was restored from beyond here has told its own.
    ahead = state.sensors.ahead(chunk.next_offset, len(told))
    if ahead is not None:
        told = np.where(ahead, AHEAD, told)
    states = state.router.classifier.states
    turns = state.inhibition.turns(rules, listened, state.watermarks, states, severity.silent, told)
    if state.trials:
        tried = state.trials.listen(listened, state.watermarks, ahead, turns)
        state.dirty[np.array(tried, dtype=np.int64) // BLOCK] = True
    return turns


def _locate(
    state: PartitionState, chunk: Chunk, readings: Readings, clocks: Ints, out: Outputs
) -> tuple[Readings, Ints]:
    """The readings with their sensors' slots, less those that belong to another partition or were counted already."""
    record = readings.record
    here = {at for at in chunk.headers if chunk.is_moved(at)}
    moved = [at in here for at in record.tolist()] if here else None
    slot = state.sensors.find(readings.sensor, readings.device, chunk.offsets[record], moved)
    state.fit()
    keep = slot >= 0
    foreign = np.empty(0, dtype=np.int64)
    if not keep.all():
        foreign = np.flatnonzero(slot == FOREIGN)
        elsewhere = ~keep & (slot != FOREIGN)
        # Readings of one record have one device, so the record has one home.
        homes = dict(zip(record[elsewhere].tolist(), (-1 - slot[elsewhere]).tolist(), strict=True))
        out.moved = list(homes.items())
        # What is wrong in them is told once, where they belong.
        out.rejected = [fault for fault in readings.rejected if fault.record not in homes]
    else:
        out.rejected = readings.rejected
    if len(foreign):
        out.rejected = [*out.rejected, *foreign_faults(chunk, readings, foreign, state.sensors.holder)]
    if state.sensors.block_next:
        keep &= ~_seen_by_block(state, chunk.offsets[record], slot)
    repeated = _repeated_packets(state, readings, slot, clocks, keep)
    out.duplicates = int(np.count_nonzero(repeated))
    keep &= ~repeated
    return (readings, slot) if keep.all() else (take(readings, keep, ()), slot[keep])


def _seen_by_block(state: PartitionState, offset: Ints, slot: Ints) -> Bools:
    """Which readings were taken in already by the restored block that their sensor is in."""
    blocks = state.sensors.block_next
    if len(offset) and offset[0] >= max(blocks):
        blocks.clear()
        return np.zeros(len(slot), dtype=bool)
    limit = np.zeros(max(len(blocks), int(slot.max(initial=0)) // BLOCK + 1), dtype=np.int64)
    limit[: len(blocks)] = blocks
    seen: Bools = offset < limit[np.maximum(slot, 0) // BLOCK]
    return seen


def _repeated_packets(
    state: PartitionState, readings: Readings, slot: Ints, clocks: Ints, keep: Bools
) -> Bools:
    """Which of the readings to `keep` only their `packet_id` tells to be retries."""
    repeated = np.zeros(len(readings), dtype=bool)
    at = np.flatnonzero((readings.dedupe_ms == 0) & (readings.source != 0) & keep)
    if len(at):
        seeds = state.sensors.seeds[slot[at]]
        key = reading_keys(seeds, readings.ts[at], readings.value[at], readings.source[at])
        block, clock = slot[at] // BLOCK, clocks[readings.record[at]]
        for i, *identity in zip(at.tolist(), block.tolist(), key.tolist(), clock.tolist(), strict=True):
            repeated[i] = not state.packets.first_time(*identity)
    return repeated


def _late(state: PartitionState, rows: Sorted, before: Ints, at: Ints) -> list[LateReading]:
    options = state.options
    return [
        LateReading(
            sensor=state.sensors.names[int(rows.slot[i])] or "",
            value=float(rows.value[i]),
            ts=int(rows.ts[i]),
            late_by_ms=int(before[i] - rows.ts[i]),
            topic=options.topic,
            partition=options.partition,
            offset=int(rows.offset[i]),
        )
        for i in at.tolist()
    ]


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
