"""Recomputes an event from the records that it came from. Pure: the caller reads the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, get_args

import msgspec
import numpy as np

from streamproc.core.alarms import AlarmLevels
from streamproc.core.checkpoint import Snapshot, resume, snapshot
from streamproc.core.chunk import Chunk
from streamproc.core.codec import decode
from streamproc.core.engine import Options, Outputs, PartitionState, run
from streamproc.core.registry import RegistryLog
from streamproc.core.slot_severity import SlotSeverity
from streamproc.core.weighing import Weighing, weighed
from streamproc.core.windows import BASE_MS, SIZES_MS, Floats
from streamproc.records import Language, SensorEntry, SeverityEvent

#: Records in a step. The one in which the event comes out is done again record by record: tenths of a second for so many.
STEP = 1_000
#: Records kept to be done again: with 1 KB in each they take as much memory as a state of 100,000 sensors.
KEPT = 100_000
#: How much longer than a window stays open the event is waited for, by the partition's clock: a device may be slow to send.
PATIENCE_MS = 120_000
#: Readings kept to be shown: hardly a sensor has more in a window of 10 s.
READINGS = 1_000
#: Other changes of the sensor that are told, where the event does not come out.
OTHERS = 10


@dataclass(frozen=True, slots=True)
class Read:
    """A reading of the event's sensor among its records; `ts` in ms."""

    offset: int
    ts: int
    value: float


@dataclass(slots=True)
class Recomputed:
    """The result of a recomputation.

    `event` is the one that was asked for, or the one in its place; None where there is none. `offset` is that of the record
    with which it came out, `before` and `after` are what each kind of evidence held around it, `entry` is what the sensor was
    judged by, `registry` the registry's position there, `language` the one that it was told in. `weighing` is all that the
    learners weighed of its window, None where it is of none of theirs, and `levels` what they alarm from. `records` and
    `readings` are those of its lineage, `others` the sensor's other changes since.
    """

    event: SeverityEvent | None = None
    offset: int | None = None
    language: Language = "en"
    before: SlotSeverity | None = None
    after: SlotSeverity | None = None
    entry: SensorEntry | None = None
    weighing: Weighing | None = None
    levels: AlarmLevels | None = None
    registry: int = -1
    records: int = 0
    readings: list[Read] = field(default_factory=list)
    others: list[SeverityEvent] = field(default_factory=list)


class _Place(NamedTuple):
    """Where a change came out: with the last of these `steps` from a mark on, as the first that `matches` the event."""

    mark: Snapshot
    steps: list[Chunk]
    matches: Callable[[SeverityEvent, SeverityEvent], bool]


class Recomputation:
    """A partition's engine, run until an event comes out; `state` is the one before any record.

    `warm` takes the records before the event's first one, `take` those from there on, until it says that it is done;
    `outcome` then tells what came out.
    """

    def __init__(self, state: PartitionState, registry: RegistryLog, event: SeverityEvent) -> None:
        self._state, self._registry, self._event = state, registry, event
        self._mark: Snapshot | None = None
        #: What was taken in since the mark.
        self._steps: list[Chunk] = []
        self._deadline: int | None = None
        #: Where the event came out, and where first one that can be in its place, which is so if the event does not come.
        self._found: _Place | None = None
        self._instead: _Place | None = None
        self._told = Recomputed()

    def warm(self, chunk: Chunk) -> None:
        """Take in records from before the event's first one."""
        _changes(self._state, chunk, self._registry, self._event.sensor)

    def take(self, chunk: Chunk) -> bool:
        """Take in the next records; returns whether no more are needed."""
        steps = (chunk.cut(begin, min(begin + STEP, len(chunk))) for begin in range(0, len(chunk), STEP))
        return any(self._step(step) for step in steps)

    def outcome(self) -> Recomputed:
        """The result, looked at record by record; in the event's language if only that differs."""
        place = self._found or self._instead
        if place is None:
            return self._told
        wanted = msgspec.json.encode(self._event)
        languages: list[Language] = sorted(
            get_args(Language), key=lambda each: each != self._state.options.language
        )
        tried = []
        for language in languages:
            tried.append(self._closely(place, language))
            if msgspec.json.encode(tried[-1].event) == wanted:
                return tried[-1]
        return tried[0]

    def _step(self, chunk: Chunk) -> bool:
        if self._mark is None or sum(map(len, self._steps)) >= KEPT:
            self._mark, self._steps = snapshot(self._state), []
        self._steps.append(chunk)
        changes = _changes(self._state, chunk, self._registry, self._event.sensor)
        self._read(chunk)  # by the numbers that the registry has by now
        for change in changes:
            if _is(change, self._event):
                self._found = _Place(self._mark, self._steps, _is)
                return True
            if self._instead is None and _stands_for(change, self._event):
                self._instead = _Place(self._mark, [*self._steps], _stands_for)
            if len(self._told.others) < OTHERS:
                self._told.others.append(change)
        return self._is_late(chunk)

    def _is_late(self, chunk: Chunk) -> bool:
        """Whether the event would have come out by now."""
        if chunk.next_offset <= self._event.lineage.last_offset:
            return False
        clock = self._state.watermarks.clock
        if self._deadline is None:
            lateness = self._state.options.allowed_lateness_ms
            self._deadline = max(clock, self._event.at) + lateness + SIZES_MS[-1] + PATIENCE_MS
        return clock > self._deadline

    def _read(self, chunk: Chunk) -> None:
        """Keep what the event's own records hold of its sensor."""
        lineage, told = self._event.lineage, self._told
        begin, end = np.searchsorted(chunk.offsets, [lineage.first_offset, lineage.last_offset + 1]).tolist()
        part = chunk.cut(begin, end)
        told.records += len(part)
        if not len(part):
            return
        readings = decode(part, self._state.options.allowed_skew_ms)
        for i, sensor in enumerate(readings.sensor):
            if self._state.sensors.key_of(sensor) == self._event.sensor and len(told.readings) < READINGS:
                offset = int(part.offsets[readings.record[i]])
                told.readings.append(Read(offset, int(readings.ts[i]), float(readings.value[i])))

    def _closely(self, place: _Place, language: Language) -> Recomputed:
        """Once more from the mark, and through the last step record by record."""
        told, sensor = self._told, self._event.sensor
        state = resume(replace(self._state.options, language=language), place.mark)
        for chunk in place.steps[:-1]:
            _changes(state, chunk, self._registry, sensor)
        for single in _singly(place.steps[-1]):
            before, learnt = _severity(state, sensor), _learnt(state, sensor)
            for change, out in _told(state, single, self._registry, sensor):
                if place.matches(change, self._event):
                    slot = state.sensors.slot_of(sensor)
                    assert slot is not None  # it has changed
                    return Recomputed(
                        event=change,
                        offset=int(single.offsets[0]),
                        language=language,
                        before=before,
                        after=_severity(state, sensor),
                        weighing=_weighed(state, change, learnt, out),
                        levels=state.router.severity.alarms.of(slot),
                        entry=(state.entries or {}).get(sensor),
                        registry=state.registry_position,
                        records=told.records,
                        readings=told.readings,
                        others=[other for other in told.others if other.event_id != change.event_id],
                    )
        raise AssertionError(
            "results do not depend on how records are cut"
        )  # core promises it, tests show it


def _changes(state: PartitionState, chunk: Chunk, registry: RegistryLog, sensor: str) -> list[SeverityEvent]:
    """Take in records; the changes of one sensor among what comes out."""
    return [event for event, _ in _told(state, chunk, registry, sensor)]


def _told(
    state: PartitionState, chunk: Chunk, registry: RegistryLog, sensor: str
) -> list[tuple[SeverityEvent, Outputs]]:
    """The same, each with all that came out with it."""
    parts = run(state, chunk, registry)
    return [(event, out) for _, out in parts for event in out.events if event.sensor == sensor]


def _learnt(state: PartitionState, sensor: str) -> Floats | None:
    """What the learners know of a sensor that has spoken."""
    slot = state.sensors.slot_of(sensor)
    return None if slot is None else state.router.learners.dump([slot])


def _weighed(
    state: PartitionState, event: SeverityEvent, learnt: Floats | None, out: Outputs
) -> Weighing | None:
    """What the learners weighed of the event's window, by what they knew before the record that it came out with."""
    window, slot = event.lineage.window or {}, state.sensors.slot_of(event.sensor)
    if slot is None or learnt is None or window.get("size_ms") != BASE_MS:
        return None
    for closed in out.windows:
        rows = closed.rows.take(np.flatnonzero(closed.slot == slot))
        if closed.size_ms == BASE_MS and len(rows.start):
            return weighed(learnt, state.router.learners.numbers(slot), rows, int(window["start"]))
    return None


def _is(change: SeverityEvent, event: SeverityEvent) -> bool:
    """Whether it is the event, or what has come out of its time: a sensor has one change at a time."""
    return change.event_id == event.event_id or change.at == event.at


def _stands_for(change: SeverityEvent, event: SeverityEvent) -> bool:
    """Whether it can have come out in the event's place: the same of the same records, as a second silence is."""
    said = [
        (e.cause, e.severity, e.severity == e.previous, e.lineage.first_offset, e.lineage.last_offset)
        for e in (change, event)
    ]
    return said[0] == said[1] and event.lineage.first_offset >= 0


def _singly(chunk: Chunk) -> Iterator[Chunk]:
    for index in range(len(chunk)):
        yield chunk.cut(index, index + 1)


def _severity(state: PartitionState, sensor: str) -> SlotSeverity | None:
    """What is held of a sensor that has ever changed."""
    slot = state.sensors.slot_of(sensor)
    held = [] if slot is None else state.router.severity.dump([slot])
    return held[0] if held else None


def fresh(options: Options, kept: Snapshot | None) -> PartitionState:
    """The state of a snapshot, or an empty one."""
    return PartitionState(options) if kept is None else resume(options, kept)
