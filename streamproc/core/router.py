"""The three pipelines of one partition: alerts and warnings by reading, predictions by closed window; gives the changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamproc.core import windows
from streamproc.core.changes import Change, Window
from streamproc.core.classify import Classified, Observed, Pipeline, ReadingClassifier
from streamproc.core.learners import LearnerBank, Scores
from streamproc.core.numbers import Tuned
from streamproc.core.policies import USUAL
from streamproc.core.ranges import Limits
from streamproc.core.rules.lasts import Closed
from streamproc.core.rules.silence import Heard, SilenceRules, Turn
from streamproc.core.rules.windowed import RuledWindow, WindowRules
from streamproc.core.severity import SeverityBank
from streamproc.core.windows import BASE_MS, Ints, Moments
from streamproc.records import DeltaSpike, NoData, SensorEntry
from streamproc.records.alerting import PolicyEntry


@dataclass(frozen=True, slots=True)
class Routed:
    """The changes of severity in a chunk, and how many of its readings each pipeline got."""

    changes: list[Change]
    counts: Mapping[Pipeline, int]


class ReadingRouter:
    """Hands each reading to the pipeline that is for it, and says when a sensor's severity changes.

    Windows are made of all readings, and the learners learn all windows: what is out of range or jumps is cut down there
    (`core/judgement.py`), and left out it would be missing from the aggregates.
    """

    def __init__(self, *, learns: bool = True) -> None:
        """Unless it `learns`, its learners know no sensor: it is given scores."""
        self.learners, self.severity, self._learns = LearnerBank(), SeverityBank(), learns
        self.classifier = ReadingClassifier(self.severity)
        self.window_rules, self.silence_rules = WindowRules(), SilenceRules()

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors; new ones have seen nothing and have no ranges and no rules."""
        more = sensors - len(self.severity)
        if more > 0:
            # At least an eighth more than there are: where sensors come one after the other, growth is rare.
            more = max(more, len(self.severity) // 8)
            if self._learns:
                self.learners.grow(more)
            self.severity.grow(more)
            self.classifier.grow(more)
            self.window_rules.grow(more)
            self.silence_rules.grow(more)

    def limit(
        self, slot: int, entry: SensorEntry | None, policy: PolicyEntry = USUAL, *, lives_here: bool = True
    ) -> None:
        """Judge a sensor by the ranges and rules in its entry and by its policy from now on.

        Not its silence, where it lives elsewhere.
        """
        limited = entry is not None and (entry.warning or entry.critical or entry.rules)
        self.severity.set_limits(slot, _limits(entry) if entry and limited else None)
        self.severity.set_policy(slot, policy)
        self.classifier.limit(slot, entry)
        rules = entry.rules if entry else ()
        self.window_rules.put(slot, [rule for rule in rules if not isinstance(rule, DeltaSpike | NoData)])
        self.silence_rules.put(
            slot, [rule for rule in rules if isinstance(rule, NoData)] if lives_here else ()
        )

    def tune(self, slot: int, by: Tuned) -> None:
        """Let a sensor's learners go by these numbers from now on; what they have learnt stays."""
        self.severity.alarms.put(slot, by.levels)
        if self._learns:
            self.learners.tune(slot, by.numbers)

    def learn(self, slot: Ints, rows: Moments) -> Scores:
        """Score base windows (m,), by slot and start, and learn them."""
        return self.learners.observe(
            slot, windows.mean(rows), windows.deviation(rows), rows.count, rows.start
        )

    def route(
        self, seen: Observed, scores: Scores, larger: Sequence[Closed] = (), turns: Sequence[Turn] = ()
    ) -> Routed:
        """Take in a chunk's readings and windows: each sensor's in the order of its records and windows.

        `larger` are the windows of other sizes that closed, `turns` the begins and ends of silences.
        """
        sorted_ = self.classifier.classify(seen)
        notable = sorted_.notable()
        ruled = self.window_rules.judge(
            [(BASE_MS, seen.window_slot, seen.rows), *larger], self.severity.ruled
        )
        alarm = self.severity.alarms.anomaly(seen.window_slot)
        window_due = (scores.anomaly >= alarm) | self.severity.busy[seen.window_slot]
        slots = np.union1d(seen.slot[notable], seen.window_slot[window_due])
        if turns or ruled:
            slots = np.union1d(slots, [*(turn.slot for turn in turns), *ruled]).astype(np.int64)
        changes: list[Change] = []
        if len(slots):
            rows = np.flatnonzero(np.isin(seen.window_slot, slots))
            due = _Due(seen, rows, ruled)
            changes = self._in_order(_Chunk(seen, scores, sorted_, larger), notable, due, turns)
        counts = np.bincount(sorted_.pipelines(notable), minlength=len(Pipeline)).tolist()
        counts[Pipeline.PREDICTIONS] += len(seen.slot) - len(notable)
        return Routed(changes, dict(zip(Pipeline, counts, strict=True)))

    def _in_order(self, chunk: _Chunk, readings: Ints, due: _Due, turns: Sequence[Turn]) -> list[Change]:
        seen, found = chunk.seen, list[Change | None]()
        pipelines = chunk.sorted_.pipelines(readings)
        # A reading stands between what came before it and what it has ended; see `Turn.place`.
        steps: list[tuple[tuple[int, ...], Turn | int]] = [
            ((i, 1, 0, 0), pipeline)
            for i, pipeline in zip(readings.tolist(), pipelines.tolist(), strict=True)
        ]
        if turns:
            steps = sorted([*steps, *((turn.place, turn) for turn in turns)], key=lambda step: step[0])
        for place, step in steps:
            if isinstance(step, Turn):
                for window in due.until(step.slot, step.closed):
                    found += self._close(step.slot, window, chunk)
                found.append(self._turn(step))
                continue
            i = place[0]
            slot = int(seen.slot[i])
            for window in due.until(slot, int(seen.closed[i])):
                found += self._close(slot, window, chunk)
            judge = self._alert if step == Pipeline.ALERTS else self._warn
            found.append(judge(seen, chunk.sorted_, i))
        for slot, window in due.rest():
            found += self._close(slot, window, chunk)
        return [change for change in found if change is not None]

    def _turn(self, turn: Turn) -> Change | None:
        if isinstance(turn.what, Heard):
            return self.severity.on_heard(turn.slot, turn.what)
        return self.severity.on_silence(turn.slot, turn.what)

    def _close(self, slot: int, window: RuledWindow, chunk: _Chunk) -> list[Change | None]:
        """What rules and learners say of a window; learners of base windows alone."""
        base = window.size_ms == BASE_MS
        found: list[Change | None] = []
        if window.judged or (base and self.severity.ruled[slot]):
            rows = chunk.seen.rows if base else chunk.rows_of(window.size_ms)
            known = self.window_rules.keys(slot) if base else None
            shown = view(rows, window.row, window.size_ms)
            found.append(self.severity.on_rules(slot, shown, window.judged, known))
        if base:
            found.append(self._predict(slot, window.row, chunk.seen.rows, chunk.scores))
        return found

    def _alert(self, seen: Observed, sorted_: Classified, i: int) -> Change | None:
        """The alerts' pipeline: a reading outside the critical range. A jump besides is kept in mind."""
        told = self._out_of_range(seen, sorted_, i)
        self._jumped(seen, sorted_, i)
        return told

    def _warn(self, seen: Observed, sorted_: Classified, i: int) -> Change | None:
        """The warnings' pipeline: a reading outside the warning range, or a jump; the graver of both is told."""
        spike = sorted_.spikes.get(i)
        if spike is not None and spike.severity > sorted_.breach[i]:
            told = self._jumped(seen, sorted_, i)
            self._out_of_range(seen, sorted_, i)
            return told
        told = self._out_of_range(seen, sorted_, i)
        self._jumped(seen, sorted_, i)
        return told

    def _out_of_range(self, seen: Observed, sorted_: Classified, i: int) -> Change | None:
        breach = int(sorted_.breach[i])
        if not breach:
            return None
        return self.severity.on_reading(
            int(seen.slot[i]), int(seen.ts[i]), float(seen.value[i]), int(seen.offset[i]), breach
        )

    def _jumped(self, seen: Observed, sorted_: Classified, i: int) -> Change | None:
        spike = sorted_.spikes.get(i)
        return None if spike is None else self.severity.on_spike(int(seen.slot[i]), spike)

    def _predict(self, slot: int, row: int, rows: Moments, scores: Scores) -> Change | None:
        """The predictions' pipeline: what the learners say of a window, and whether it is calm."""
        anomaly = float(scores.anomaly[row])
        if anomaly < self.severity.alarms.of(slot).anomaly and not self.severity.busy[slot]:
            return None
        return self.severity.on_window(
            slot,
            view(rows, row),
            anomaly,
            int(scores.evidence[row]),
            float(scores.surprise[row]),
            float(scores.expected[row]),
            float(scores.deviation[row]),
        )


def _limits(entry: SensorEntry) -> Limits:
    return Limits(entry.warning, entry.critical, entry.version, entry.rules)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What a chunk showed, and what was made of it."""

    seen: Observed
    scores: Scores
    sorted_: Classified
    larger: Sequence[Closed]

    def rows_of(self, size_ms: int) -> Moments:
        """The windows of a larger size."""
        return next(rows for size, _, rows in self.larger if size == size_ms)


class _Due:
    """The windows that must be looked at, by sensor and in the order of their ends; each is given once."""

    def __init__(self, seen: Observed, rows: Ints, ruled: Mapping[int, Sequence[RuledWindow]]) -> None:
        self._waiting: dict[int, list[RuledWindow]] = defaultdict(list)
        for slot, windows_ in ruled.items():
            self._waiting[slot] += windows_
        known = {
            (slot, window.row) for slot, its in ruled.items() for window in its if window.size_ms == BASE_MS
        }
        slots, ends = seen.window_slot[rows].tolist(), (seen.rows.start[rows] + BASE_MS).tolist()
        for row, slot, end in zip(rows.tolist(), slots, ends, strict=True):
            if not known or (slot, row) not in known:
                self._waiting[slot].append(RuledWindow(end, BASE_MS, row, []))
        for its in self._waiting.values():
            its.sort(key=lambda window: (window.end, window.size_ms), reverse=True)

    def until(self, slot: int, closed: int) -> Iterator[RuledWindow]:
        """A sensor's windows that end by this time."""
        its = self._waiting[slot]
        while its and its[-1].end <= closed:
            yield its.pop()

    def rest(self) -> Iterator[tuple[int, RuledWindow]]:
        """All others."""
        for slot, its in sorted(self._waiting.items()):
            while its:
                yield slot, its.pop()


def view(rows: Moments, row: int, size_ms: int = BASE_MS) -> Window:
    """One window as plain numbers."""
    one = rows.take(slice(row, row + 1))
    return Window(
        start=int(one.start[0]),
        size_ms=size_ms,
        count=int(one.count[0]),
        mean=float(windows.mean(one)[0]),
        min=float(one.min[0]),
        max=float(one.max[0]),
        deviation=float(windows.deviation(one)[0]),
        first=float(one.first[0]),
        last=float(one.last[0]),
        trend=float(windows.trend(one)[0]),
        first_offset=int(one.first_offset[0]),
        last_offset=int(one.last_offset[0]),
    )
