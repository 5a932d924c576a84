"""The three pipelines of one partition: alerts and warnings by reading, predictions by closed window; changes come out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamproc.core import windows
from streamproc.core.classify import Classified, Observed, Pipeline, ReadingClassifier
from streamproc.core.learners import LearnerBank, Scores
from streamproc.core.ranges import Limits
from streamproc.core.severity import ALARM, Change, SeverityBank, Window
from streamproc.core.windows import BASE_MS, Ints, Moments
from streamproc.records import SensorEntry


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

    def __init__(self) -> None:
        self.learners, self.severity = LearnerBank(), SeverityBank()
        self.classifier = ReadingClassifier(self.severity)

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors; new ones have seen nothing and have no ranges and no rules."""
        more = sensors - len(self.severity)
        if more > 0:
            self.learners.grow(more)
            self.severity.grow(more)
            self.classifier.grow(more)

    def limit(self, slot: int, entry: SensorEntry | None) -> None:
        """Judge a sensor by the ranges and rules in its entry from now on."""
        limited = entry is not None and (entry.warning or entry.critical or entry.rules)
        self.severity.set_limits(slot, _limits(entry) if entry and limited else None)
        self.classifier.limit(slot, entry)

    def learn(self, slot: Ints, rows: Moments) -> Scores:
        """Score base windows (m,), by slot and start, and learn them."""
        return self.learners.observe(slot, windows.mean(rows), windows.deviation(rows), rows.count)

    def route(self, seen: Observed, scores: Scores) -> Routed:
        """Take in a chunk's readings and windows: each sensor's in the order of its records and windows."""
        sorted_ = self.classifier.classify(seen)
        notable = sorted_.notable()
        window_due = (scores.anomaly >= ALARM) | self.severity.busy[seen.window_slot]
        slots = np.union1d(seen.slot[notable], seen.window_slot[window_due])
        changes: list[Change] = []
        if len(slots):
            rows = np.flatnonzero(np.isin(seen.window_slot, slots))
            changes = self._in_order(seen, scores, sorted_, notable, rows)
        counts = np.bincount(sorted_.pipelines(notable), minlength=len(Pipeline)).tolist()
        counts[Pipeline.PREDICTIONS] += len(seen.slot) - len(notable)
        return Routed(changes, dict(zip(Pipeline, counts, strict=True)))

    def _in_order(
        self, seen: Observed, scores: Scores, sorted_: Classified, readings: Ints, rows: Ints
    ) -> list[Change]:
        waiting: dict[int, list[int]] = defaultdict(list)
        for row in rows[::-1].tolist():
            waiting[int(seen.window_slot[row])].append(row)
        found: list[Change | None] = []
        end = (seen.rows.start + BASE_MS).tolist()
        pipelines = sorted_.pipelines(readings)
        for i, pipeline in zip(readings.tolist(), pipelines.tolist(), strict=True):
            slot = int(seen.slot[i])
            due = waiting[slot]
            while due and end[due[-1]] <= seen.closed[i]:
                found.append(self._predict(slot, due.pop(), seen.rows, scores))
            judge = self._alert if pipeline == Pipeline.ALERTS else self._warn
            found.append(judge(seen, sorted_, i))
        for slot, due in sorted(waiting.items()):
            while due:
                found.append(self._predict(slot, due.pop(), seen.rows, scores))
        return [change for change in found if change is not None]

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
        if anomaly < ALARM and not self.severity.busy[slot]:
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


def view(rows: Moments, row: int) -> Window:
    """One base window as plain numbers."""
    one = rows.take(slice(row, row + 1))
    return Window(
        start=int(one.start[0]),
        size_ms=BASE_MS,
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
