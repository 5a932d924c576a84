"""The trials of one partition, and the numbers of its live learners: both follow the registry's documents.

A trial's changes are never events or notifications: they go to a topic of their own. Without trials and promoted numbers
this costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from streamproc.core.changes import Change
from streamproc.core.classify import Observed
from streamproc.core.identity import content_id
from streamproc.core.inhibition import Inhibition
from streamproc.core.learners import Scores
from streamproc.core.numbers import Tuning, tuned
from streamproc.core.policies import Policies, policies_of, policy_of
from streamproc.core.registry import Actions
from streamproc.core.router import ReadingRouter
from streamproc.core.rules.lasts import Closed
from streamproc.core.rules.silence import Listened, Turn
from streamproc.core.sensors import BLOCK, Sensors
from streamproc.core.telling import Teller
from streamproc.core.trial import Kept, Trial, tried, wanted
from streamproc.core.watermarks import Watermarks
from streamproc.core.windows import NEVER, Bools
from streamproc.records import SensorEntry, Severity
from streamproc.records.alerting import BEGUN, Document, TrialEntry, TrialEvent

#: What tells one trial from another of its name: its version, and when it was begun.
_Identity = tuple[str, int, int]


class TrialState(msgspec.Struct, array_like=True):
    """What a trial remembers of its sensors in one block; `places` are theirs in the block, as bytes."""

    trial: str
    version: int
    begun_at: int
    places: bytes
    kept: Kept

    @property
    def identity(self) -> _Identity:
        """Which trial it is of."""
        return self.trial, self.version, self.begun_at


@dataclass(frozen=True, slots=True)
class Place:
    """Where the partition stands: its sensors' entries, and the position of the registry that they are as of."""

    entries: Mapping[str, SensorEntry]
    position: int


class Trials:
    """The trials of a partition by their names; true where there are any."""

    def __init__(
        self, live: ReadingRouter, inhibition: Inhibition, sensors: Sensors, marks: Watermarks
    ) -> None:
        self._live, self._inhibition, self._sensors, self._marks = live, inhibition, sensors, marks
        self._running: dict[_Identity, Trial] = {}
        self._entries: dict[_Identity, TrialEntry] = {}
        self._tuning = Tuning()
        self._policies: Policies = {}
        self._changed = False
        #: What a restored block holds of trials that the registry, as of the partition's position, does not have yet.
        self._parked: dict[int, list[TrialState]] = {}
        #: The begins that are to be told with the next chunk's changes.
        self._begins: list[TrialEvent] = []
        #: The position of the registry that each block was restored as of: it has seen the edits before that.
        self.reached: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._running)

    def follow(self, documents: Mapping[str, Document]) -> None:
        """Go on by these documents; `settle` makes it so."""
        found = (entry for entry in documents.values() if isinstance(entry, TrialEntry))
        entries = {identity(entry): entry for entry in found}
        policies = policies_of(documents)
        self._changed |= self._tuning.follow(documents) or (entries, policies) != (
            self._entries,
            self._policies,
        )
        self._entries, self._policies = entries, policies

    def settle(self, place: Place, edited: Iterable[int]) -> list[int]:
        """Let sensors join and leave trials by what the registry says now; gives those that have.

        `edited` are the slots whose entries are others than before.
        """
        if self._changed or self._parked:
            self._changed = False
            moved = self._begin_and_end(place)
            edited = [slot for slot, name in enumerate(self._sensors.names) if name is not None]
            self._tune(edited, place)
            return moved + self._move(edited, place)
        if not (self._running or self._tuning):
            return []
        edited = list(edited)
        self._tune(edited, place)
        return self._move(edited, place)

    def come(self, fresh: Sequence[int], entries: Mapping[str, SensorEntry]) -> None:
        """Let new sensors take part; they have seen nothing."""
        if fresh and (self._running or self._tuning):
            place = Place(entries, -1)
            self._tune(fresh, place)
            for trial in self._running.values():
                joining = wanted(trial.entry, self._sensors.names, entries, fresh)
                if joining:
                    self._join(trial, joining)
                    self._limit(trial, joining, place)

    def _begin_and_end(self, place: Place) -> list[int]:
        """Begin the trials that are new, with what was restored of them, and end those that are gone; gives their sensors."""
        ended: list[int] = []
        for key in self._running.keys() - self._entries.keys():
            ended += self._running.pop(key).members().tolist()
        for key in sorted(self._entries.keys() - self._running.keys()):
            self._running[key] = Trial(self._entries[key], self._live, self._inhibition)
        for number, states in list(self._parked.items()):
            waiting = []
            for state in states:
                if state.identity in self._running:
                    slots = number * BLOCK + np.frombuffer(state.places, dtype=np.uint8).astype(np.int64)
                    self._running[state.identity].join(slots, state.kept)
                else:
                    waiting.append(state)
            self._parked[number] = waiting
            if not waiting or self._is_free(number * BLOCK, place.position):
                del self._parked[number]
        return ended

    def _move(self, slots: Sequence[int], place: Place) -> list[int]:
        """Let those of these sensors join and leave that are not as they should be, and limit the others anew."""
        moved: list[int] = []
        free = [slot for slot in slots if self._is_free(slot, place.position)] if self._running else []
        for trial in self._running.values():
            should = set(wanted(trial.entry, self._sensors.names, place.entries, free))
            for slot in free:
                if trial.has(slot) and slot not in should:
                    trial.leave(slot)
                    moved.append(slot)
            joining = sorted(slot for slot in should if not trial.has(slot))
            if joining:
                self._join(trial, joining)
            moved += joining
            self._limit(trial, [slot for slot in slots if trial.has(slot)], place)
        return moved

    def _join(self, trial: Trial, slots: Sequence[int]) -> None:
        """Let sensors begin a trial, and have that told; of one that has read nothing, as of the trial's own begin."""
        trial.join(np.array(slots, dtype=np.int64))
        closed, levels = self._marks.closed, self._live.severity.level
        for slot in slots:
            at = int(closed[slot]) if slot < len(closed) else NEVER
            at = at if at != NEVER else trial.entry.begun_at
            name = self._sensors.names[slot] or ""
            self._begins.append(_begun(trial.entry, name, int(levels[slot]), at))

    def _limit(self, trial: Trial, slots: Iterable[int], place: Place) -> None:
        for slot in slots:
            name = self._sensors.names[slot] or ""
            entry = place.entries.get(name)
            device = entry.device if entry else None
            here = not device or self._sensors.home(device, device) == self._sensors.partition
            by = self._tuning.of(entry), policy_of(entry, self._policies)
            trial.limit(slot, entry or SensorEntry(name, version=0), by, lives_here=here)

    def _tune(self, slots: Iterable[int], place: Place) -> None:
        """Let the live learners of these sensors go by their numbers."""
        for slot in slots:
            entry = place.entries.get(self._sensors.names[slot] or "")
            self._live.tune(slot, tuned(self._tuning.of(entry)))

    def _is_free(self, slot: int, position: int) -> bool:
        """Whether the sensor's block has not seen the edits up to here already."""
        block = slot // BLOCK
        return block >= len(self.reached) or self.reached[block] < position

    def listen(
        self, heard: Listened, marks: Watermarks, ahead: Bools | None, turns: Sequence[Turn]
    ) -> list[int]:
        """Find the silences of trials' own rules; the slots of which something has changed.

        `turns` are the live ones.
        """
        found: list[int] = []
        for trial in self._running.values():
            found += trial.listen(heard, marks, ahead, turns)
        return found

    def next_at(self, marks: Watermarks) -> int | None:
        """When, by the partition's clock, the next silence by a trial's rule is one if nothing comes."""
        times = [at for trial in self._running.values() if (at := trial.next_at(marks)) is not None]
        return min(times, default=None)

    def events(
        self,
        seen: Observed,
        scores: Scores,
        larger: Sequence[Closed],
        entries: Mapping[str, SensorEntry],
        by: tuple[Teller, Actions],
    ) -> list[TrialEvent]:
        """What the trials would have told of a chunk; `scores` are those of the live learners."""
        found, self._begins = self._begins, []
        for trial in self._running.values():
            for change in trial.judge(seen, scores, larger):
                sensor = self._sensors.names[change.slot] or ""
                found.append(_told(trial.entry, change, sensor, entries.get(sensor), by))
        return found

    def dump(self, number: int, end: int) -> list[TrialState]:
        """What is remembered of the sensors of a block, which ends before slot `end`."""
        first = number * BLOCK
        states = list(self._parked.get(number, ()))
        for (name, version, begun_at), trial in self._running.items():
            slots = trial.members(first, end)
            if len(slots):
                places = (slots - first).astype(np.uint8).tobytes()
                states.append(TrialState(name, version, begun_at, places, trial.kept(slots)))
        return sorted(states, key=lambda state: state.identity)

    def load(self, number: int, sensors: int, states: list[TrialState]) -> None:
        """Take over what was dumped of a block of so many sensors; raises ValueError where it does not fit."""
        for state in states:
            if any(place >= sensors for place in state.places):
                raise ValueError(f"a place of trial {state.trial} is beyond the block's {sensors} sensors")
            state.kept.check(len(state.places))
        if states:
            self._parked[number] = states


def identity(entry: TrialEntry) -> _Identity:
    """What tells a trial from another one of its name."""
    return entry.trial, entry.version, entry.begun_at


def _told(
    trial: TrialEntry, change: Change, sensor: str, entry: SensorEntry | None, by: tuple[Teller, Actions]
) -> TrialEvent:
    teller, actions = by
    event, _ = teller.tell(change, sensor, tried(trial, sensor, entry), actions)
    versions = {**event.lineage.versions, "trial": f"{trial.trial}@{trial.version}"}
    return TrialEvent(
        *identity(trial),
        event_id=content_id(
            "trial", *identity(trial), sensor, change.sequence, change.at, int(change.severity)
        ),
        sensor=sensor,
        severity=change.severity,
        previous=change.previous,
        cause=change.cause,
        at=change.at,
        value=change.value,
        explanation=event.explanation,
        lineage=msgspec.structs.replace(event.lineage, versions=versions),
    )


def _begun(trial: TrialEntry, sensor: str, severity: int, at: int) -> TrialEvent:
    """What is recorded of a sensor that begins a trial."""
    return TrialEvent(
        *identity(trial),
        event_id=content_id("trial", *identity(trial), sensor, BEGUN, at),
        sensor=sensor,
        severity=Severity(severity),
        previous=Severity(severity),
        cause=BEGUN,
        at=at,
    )
