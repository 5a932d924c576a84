"""Learners and severities of one partition's sensors together: closed windows and readings in, events out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamproc.core import windows
from streamproc.core.explain import explain, title
from streamproc.core.identity import content_id
from streamproc.core.learners import LearnerBank, Scores
from streamproc.core.severity import ALARM, Change, Limits, SeverityBank, Window
from streamproc.core.windows import BASE_MS, Bools, Floats, Ints, Moments
from streamproc.records import Lineage, Notification, SensorEntry, SeverityEvent


@dataclass(frozen=True, slots=True)
class Observed:
    """What a chunk showed, by sensor: its readings (n,), and the base windows that closed with it (m,).

    `closed` (n,) is up to where the sensor's windows were closed when the reading came: it orders the two.
    """

    slot: Ints
    ts: Ints
    value: Floats
    offset: Ints
    closed: Ints
    window_slot: Ints
    rows: Moments


class Judge:
    """Learns each sensor's usual behaviour and says when its severity changes."""

    def __init__(self, topic: str, partition: int, language: Literal["en", "es"]) -> None:
        self.topic, self.partition, self.language = topic, partition, language
        self.learners, self.severity = LearnerBank(), SeverityBank()
        #: The registry's entries as of the partition's position; the partition's state keeps them.
        self.entries: Mapping[str, SensorEntry] = {}

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors; new ones have seen nothing and have no ranges."""
        more = sensors - len(self.severity)
        if more > 0:
            self.learners.grow(more)
            self.severity.grow(more)

    def limit(self, slot: int, entry: SensorEntry | None) -> None:
        """Judge a sensor by the ranges in its entry from now on."""
        limited = entry is not None and (entry.warning or entry.critical)
        limits = Limits(entry.warning, entry.critical, entry.version) if entry and limited else None
        self.severity.set_limits(slot, limits)

    def learn(self, slot: Ints, rows: Moments) -> Scores:
        """Score base windows (m,), by slot and start, and learn them."""
        return self.learners.observe(slot, windows.mean(rows), windows.deviation(rows), rows.count)

    def changes(self, seen: Observed, scores: Scores) -> list[Change]:
        """The changes of severity in a chunk: for each sensor in the order of its records and windows."""
        breach = self._breaches(seen)
        window_due = (scores.anomaly >= ALARM) | self.severity.busy[seen.window_slot]
        slots = np.union1d(seen.slot[breach > 0], seen.window_slot[window_due])
        if not len(slots):
            return []
        readings = np.flatnonzero((breach > 0) & np.isin(seen.slot, slots))
        rows = np.flatnonzero(np.isin(seen.window_slot, slots))
        return self._in_order(seen, scores, breach, readings, rows)

    def _breaches(self, seen: Observed) -> NDArray[np.int8]:
        """For each reading (n,) which range it is out of: 0 none, 1 warning, 2 critical."""
        bounds = self.severity.bounds
        breach = np.zeros(len(seen.slot), dtype=np.int8)
        limited: Bools = np.asarray(np.isfinite(bounds).any(axis=1))
        at = np.flatnonzero(limited[seen.slot])
        if len(at):
            value, by = seen.value[at], bounds[seen.slot[at]]
            breach[at] = np.where(
                (value < by[:, 2]) | (value > by[:, 3]),
                2,
                np.where((value < by[:, 0]) | (value > by[:, 1]), 1, 0),
            )
        return breach

    def _in_order(
        self, seen: Observed, scores: Scores, breach: NDArray[np.int8], readings: Ints, rows: Ints
    ) -> list[Change]:
        waiting: dict[int, list[int]] = defaultdict(list)
        for row in rows[::-1].tolist():
            waiting[int(seen.window_slot[row])].append(row)
        found: list[Change | None] = []
        end = (seen.rows.start + BASE_MS).tolist()
        for i in readings.tolist():
            slot = int(seen.slot[i])
            due = waiting[slot]
            while due and end[due[-1]] <= seen.closed[i]:
                found.append(self._judge_window(slot, due.pop(), seen.rows, scores))
            found.append(
                self.severity.on_reading(
                    slot, int(seen.ts[i]), float(seen.value[i]), int(seen.offset[i]), int(breach[i])
                )
            )
        for slot, due in sorted(waiting.items()):
            while due:
                found.append(self._judge_window(slot, due.pop(), seen.rows, scores))
        return [change for change in found if change is not None]

    def _judge_window(self, slot: int, row: int, rows: Moments, scores: Scores) -> Change | None:
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

    def event(self, change: Change, sensor: str) -> tuple[SeverityEvent, Notification]:
        """What is told of a change, to programs and to people."""
        entry = self.entries.get(sensor)
        explanation, action = explain(change, entry, self.language)
        event = SeverityEvent(
            event_id=content_id("severity", sensor, change.sequence, change.at, int(change.severity)),
            sensor=sensor,
            severity=change.severity,
            previous=change.previous,
            cause=change.cause,
            at=change.at,
            value=change.value,
            explanation=explanation,
            recommended_action=action,
            lineage=self._lineage(change),
        )
        notification = Notification(
            notification_id=content_id("notification", event.event_id),
            event_id=event.event_id,
            sensor=sensor,
            severity=change.severity,
            at=change.at,
            title=title(change, entry, self.language),
            message=f"{explanation} {action}".strip(),
        )
        return event, notification

    def _lineage(self, change: Change) -> Lineage:
        window = change.window
        offset = change.offset if change.offset is not None else -1
        return Lineage(
            topic=self.topic,
            partition=self.partition,
            first_offset=window.first_offset if window else offset,
            last_offset=window.last_offset if window else offset,
            window={name: float(getattr(window, name)) for name in WINDOW_NUMBERS} if window else {},
            scores=change.scores,
            rule=change.rule,
            versions={"learners": self.learners.VERSION, "registry": str(change.limits.version)},
        )


WINDOW_NUMBERS = ("start", "size_ms", "count", "mean", "min", "max", "deviation", "first", "last", "trend")


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
