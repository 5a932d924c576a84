"""Silence: sensors that have sent nothing for as long as their rules `no_data` allow, by the partition's clock.

Every reading that the partition got from the sensor counts as heard, late ones and retries included. A silence begins when
the clock has moved that far since the last one; it is found by the first record that shows this: a reading, or a tick where
nothing else comes. So the result is the same whoever looks, and whenever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from streamproc.core.sensor_state import SensorState
from streamproc.core.watermarks import Passage, Runs, Watermarks
from streamproc.core.windows import NEVER, Bools, Floats, Ints
from streamproc.records import NoData

#: The time of a sensor that has no rule: longer than any.
NO_RULE_MS = 2**61
#: For sensors whose silence is not to be told: as if it had been.
AHEAD = 2**62


@dataclass(frozen=True, slots=True)
class LastRead:
    """The newest reading of a sensor that counted; `offset` is None where there was none."""

    value: float
    offset: int | None


@dataclass(frozen=True, slots=True)
class Silence:
    """A sensor was silent for as long as a rule allows at this time; the last that was heard of it came at `since` (ms).

    `device` is there where nothing was heard of its whole device either, which is told in its place; or where that is heard
    again (`is_device_back`) and the sensor is not.
    """

    at: int
    since: int
    last: LastRead
    rule: NoData
    device: str | None = None
    is_device_back: bool = False

    @property
    def inhibited(self) -> bool:
        """Whether its device's silence is told in its place."""
        return self.device is not None and not self.is_device_back

    def numbers(self) -> dict[str, float]:
        """What the rule was judged by, for an event's lineage."""
        return {"seconds": self.rule.seconds, "since": float(self.since)}


@dataclass(frozen=True, slots=True)
class Heard:
    """The first that came of a sensor that was silent: the clock and the reading."""

    at: int
    value: float
    offset: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A silence's begin or end, and its place among its sensor's readings and windows.

    It comes before reading `place[0]` of those that count, or after it where `place[1]` is above 0, and after the windows
    that end by `closed`.
    """

    slot: int
    place: tuple[int, int, int, int]
    closed: int
    what: Silence | Heard


@dataclass(frozen=True, slots=True)
class Listened:
    """The readings of a chunk as they came, by sensor (n,), and which of them count (`keep`).

    `named` are the sensors that a device has named for the first time in it, and the clock then: they are its from there on.
    """

    runs: Runs
    ts: Ints
    value: Floats
    offset: Ints
    clock: Ints
    keep: Bools
    passage: Passage
    named: Mapping[int, int]


class SilenceRules:
    """The rules `no_data` of a partition's sensors; sensors without any cost nothing."""

    def __init__(self) -> None:
        self._rules: dict[int, tuple[NoData, ...]] = {}
        #: Their times in ms, of shape (sensors, most rules of one sensor).
        self._times = np.empty((0, 1), dtype=np.int64)
        #: No rule has a shorter time: mostly a chunk has no gap as long, and there is nothing to look up.
        self._shortest = NO_RULE_MS
        self._slots: Ints | None = None

    def __bool__(self) -> bool:
        return bool(self._rules)

    def grow(self, n: int) -> None:
        """Append `n` sensors without rules."""
        self._times = np.append(self._times, np.full((n, self._times.shape[1]), NO_RULE_MS), axis=0)

    def put(self, slot: int, rules: Iterable[NoData]) -> None:
        """Judge a sensor's silence by these rules from now on."""
        # The shortest first, of equal ones the gravest: what has been told up to a time has been told for both.
        its = tuple(sorted(rules, key=lambda rule: (rule.seconds, -rule.severity)))
        if not its and slot not in self._rules:
            return
        self._rules.pop(slot, None)
        if its:
            self._rules[slot] = its
        times = [ms_of(rule) for rule in its]
        more = len(times) - self._times.shape[1]
        if more > 0:
            self._times = np.pad(self._times, ((0, 0), (0, more)), constant_values=NO_RULE_MS)
        self._times[slot] = NO_RULE_MS
        self._times[slot, : len(times)] = times
        self._shortest = min([self._shortest, *times]) if self._rules else NO_RULE_MS
        self._slots = None

    def of(self, slot: int) -> tuple[NoData, ...]:
        """A sensor's rules, the shortest first."""
        return self._rules.get(slot, ())

    def shortest(self, slots: Ints) -> Ints:
        """The shortest time of each of these sensors' rules (k,), in ms; longer than any where there is none."""
        times: Ints = self._times[slots, 0]
        return times

    def turns(
        self, heard: Listened, marks: Watermarks, states: SensorState, silent: Bools, told: Ints
    ) -> list[Turn]:
        """The begins and ends of silences up to the partition's clock, in each sensor's order.

        `states` are the sensors' last readings before these, `silent` (sensors,) tells which were silent already, `told`
        (sensors,) up to when their silence was told.
        """
        found: list[Turn] = []
        if self or silent.any():
            places = Places(heard, states)
            self._amid(heard, marks, places, silent, found)
            found += self._lasting(marks, places, told)
            found.sort(key=lambda turn: (turn.slot, turn.place))
        return found

    def next_at(self, marks: Watermarks, told: Ints) -> int | None:
        """When, by the partition's clock, the next silence is one if nothing comes; None where none would be."""
        if not self:
            return None
        _, at, coming = self._times_of_silence(marks, told)
        return int(at[coming].min()) if coming.any() else None

    def _times_of_silence(self, marks: Watermarks, told: Ints) -> tuple[Ints, Ints, Bools]:
        """The sensors with rules (s,), when each rule is broken if nothing comes (s, rules), and which are not told."""
        if self._slots is None:
            self._slots = np.array(sorted(self._rules), dtype=np.int64)
        since = marks.arrival[self._slots][:, None]
        times = self._times[self._slots]
        at = since + times
        return self._slots, at, (since != NEVER) & (times < NO_RULE_MS) & (at > told[self._slots][:, None])

    def _amid(
        self, heard: Listened, marks: Watermarks, places: Places, silent: Bools, found: list[Turn]
    ) -> None:
        """Silences that a reading has ended, and those ends."""
        slot, gap = heard.runs.slot, heard.clock - heard.passage.arrived
        long = np.flatnonzero(gap >= self._shortest)
        long = long[gap[long] >= self._times[slot[long], 0]]
        for row in long.tolist():
            since = int(heard.passage.arrived[row])
            over = self._over(int(slot[row]), int(gap[row]))
            found += [places.ended(row, since + ms_of(rule), marks, rule) for rule in over]
        first = heard.runs.begin
        ended = np.union1d(long, first[silent[slot[first]]])
        for row in ended.tolist():
            end = Heard(int(heard.clock[row]), float(heard.value[row]), int(heard.offset[row]))
            found.append(Turn(int(slot[row]), places.after(row), int(heard.passage.closed[row]), end))

    def _lasting(self, marks: Watermarks, places: Places, told: Ints) -> Iterator[Turn]:
        """Silences that go on."""
        slots, at, coming = self._times_of_silence(marks, told)
        due = coming & (at <= marks.clock)
        for place, number in np.argwhere(due).tolist():
            slot = int(slots[place])
            yield places.lasting(slot, int(at[place, number]), marks, self._rules[slot][number])

    def _over(self, slot: int, silence_ms: int) -> list[NoData]:
        return [rule for rule in self._rules.get(slot, ()) if ms_of(rule) <= silence_ms]


class Places:
    """Where a row stands among the readings that count, and what its sensor's last one before it was."""

    def __init__(self, heard: Listened, states: SensorState) -> None:
        self._heard, self._states = heard, states
        self._rank: Ints = np.cumsum(heard.keep) - heard.keep

    def ended(self, row: int, at: int, marks: Watermarks, rule: NoData, device: str | None = None) -> Turn:
        """The silence at this time that this row has ended; `device` is its own where that is back."""
        since = int(self._heard.passage.arrived[row])
        closed = marks.due(self._heard.passage.newest[row : row + 1], np.array([at - since]))
        place = (int(self._rank[row]), 0, row, at - since)
        what = Silence(at, since, self.last(row), rule, device, is_device_back=device is not None)
        return Turn(int(self._heard.runs.slot[row]), place, int(closed[0]), what)

    def lasting(self, slot: int, at: int, marks: Watermarks, rule: NoData, device: str | None = None) -> Turn:
        """The silence at this time that goes on; `device` is its own where that is back."""
        since, end = int(marks.arrival[slot]), len(self._rank)
        closed = marks.due(marks.newest[slot : slot + 1], np.array([at - since]))
        what = Silence(at, since, self.last_of(slot), rule, device, is_device_back=device is not None)
        return Turn(slot, (end, 0, end, at - since), int(closed[0]), what)

    def after(self, row: int) -> tuple[int, int, int, int]:
        """The place of what this row has ended; after its own judgement, where it counts."""
        return int(self._rank[row]), int(self._heard.keep[row]), row, NO_RULE_MS

    def last(self, row: int) -> LastRead:
        """The sensor's last reading before this row."""
        runs = self._heard.runs
        return self._newest(int(runs.slot[row]), int(runs.begin[runs.run[row]]), row)

    def last_of(self, slot: int) -> LastRead:
        """The sensor's last reading."""
        begin, end = np.searchsorted(self._heard.runs.slot, [slot, slot + 1]).tolist()
        return self._newest(slot, begin, end)

    def _newest(self, slot: int, begin: int, end: int) -> LastRead:
        rows = begin + np.flatnonzero(self._heard.keep[begin:end])
        ts = self._heard.ts[rows]
        if len(rows) and ts.max() >= self._states.ts[slot]:
            newest = rows[len(ts) - 1 - int(np.argmax(ts[::-1]))]
            return LastRead(float(self._heard.value[newest]), int(self._heard.offset[newest]))
        known = self._states.ts[slot] != NEVER
        return LastRead(float(self._states.value[slot]), int(self._states.offset[slot]) if known else None)


def ms_of(rule: NoData) -> int:
    """The rule's time."""
    return round(1_000 * rule.seconds)
