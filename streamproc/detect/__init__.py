"""The same core over a file: each row of a `timestamp,value` series is judged as a window of its own.

Row i of the result depends on rows 0 to i alone. Memory does not grow with the file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from streamproc.core.changes import Change, Window
from streamproc.core.explain import explain
from streamproc.core.learners import LearnerBank, Scores
from streamproc.core.ranges import Limits
from streamproc.core.severity import ALARM, SeverityBank
from streamproc.core.windows import Floats, Ints
from streamproc.detect.rows import HEADER, Row, in_rows
from streamproc.detect.series import Block, read
from streamproc.records import Language, Severity

__all__ = ["BLOCK_ROWS", "HEADER", "Row", "blocks", "run"]

#: So many rows are scored at once where nobody waits for each: beyond it nothing gets faster (measured).
BLOCK_ROWS = 1_024


def run(
    lines: Iterable[str],
    limits: Limits | None = None,
    language: Language = "en",
    block_rows: int = BLOCK_ROWS,
) -> Iterator[Row]:
    """Judge a series row by row; raises SeriesError after the rows before the faulty one.

    `block_rows` is how many rows are read before the first comes out; what comes out does not depend on it.
    """
    return chain.from_iterable(blocks(lines, limits, language, block_rows))


def blocks(
    lines: Iterable[str],
    limits: Limits | None = None,
    language: Language = "en",
    block_rows: int = BLOCK_ROWS,
) -> Iterator[Iterator[Row]]:
    """The same, the rows that were read together at once; of lines that are Arriving, those that have come."""
    detector = _Detector(limits, language)
    for block in read(lines, block_rows):
        yield detector.rows(block)


class _Detector:
    """One sensor's learners and severity, by the count of rows: a file's times may run backwards."""

    def __init__(self, limits: Limits | None, language: Language) -> None:
        self.language: Language = language
        self.learners, self.severity = LearnerBank(), SeverityBank()
        self.learners.grow(1)
        self.severity.grow(1)
        self.severity.set_limits(0, limits)
        self.bounds: list[float] = self.severity.bounds[0].tolist()
        self.row = 0
        self.since_ms = 0
        # As `severity` has them, at hand: they change when a window was judged and not else.
        self.level, self.busy = Severity.NORMAL, False

    def rows(self, block: Block) -> Iterator[Row]:
        """Judge a block's rows in their order; a missing reading changes nothing."""
        known = ~np.isnan(block.value)
        scores = self._scores(block.value[known], block.at_ms[known])
        anomaly, index, before = np.zeros(len(known)), np.cumsum(known) - 1, self.row
        anomaly[known] = scores.anomaly
        anomalies, row, end = anomaly.tolist(), 0, len(known)
        due = [*self._due(anomaly, block.value).tolist(), end]
        while row < end:
            if not self.busy and (until := due[bisect_left(due, row)]) > row:
                calm = block.timestamp[row:until], block.text[row:until], anomalies[row:until]
                yield from in_rows(zip(*calm, repeat(self.level), repeat("")))
                row = until
                continue
            told = ""
            if known[row]:
                self.row = before + index.item(row) + 1
                changes = self._judge(block.at_ms.item(row), block.value.item(row), scores, index.item(row))
                told = self._tell(changes)
            yield Row(block.timestamp[row], block.text[row], anomalies[row], self.level, told)
            row += 1
        self.row = before + len(scores.anomaly)

    def _scores(self, values: Floats, at_ms: Ints) -> Scores:
        """Each value as a window of one reading."""
        none = np.zeros(len(values), dtype=np.int64)
        return self.learners.observe(none, values, none.astype(np.float64), none + 1, at_ms)

    def _due(self, anomaly: Floats, value: Floats) -> NDArray[np.intp]:
        """The rows that are judged in any case; those before change nothing while the sensor is calm."""
        low, high = max(self.bounds[0::2]), min(self.bounds[1::2])
        return np.flatnonzero((anomaly >= ALARM) | (value < low) | (value > high))

    def _tell(self, changes: list[Change]) -> str:
        """Put changes into words, and take note of the severity that a window has left."""
        self.busy = self.severity.busy.item(0)
        if not changes:
            return ""
        self.level = Severity(self.severity.level.item(0))
        return " ".join(explain(change, None, self.language)[0] for change in changes)

    def _judge(self, at_ms: int, value: float, scores: Scores, index: int) -> list[Change]:
        """Judge one value as a reading and as a window of its own."""
        changes = []
        if breach := self._breach(value):
            changes.append(self.severity.on_reading(0, self.row, value, self.row, breach))
        window = Window(self.row, 0, 1, value, value, value, 0.0, value, value, 0.0, self.row, self.row)
        changes.append(
            self.severity.on_window(
                0,
                window,
                scores.anomaly.item(index),
                scores.evidence.item(index),
                scores.surprise.item(index),
                scores.expected.item(index),
                scores.deviation.item(index),
            )
        )
        return [self._timed(change, at_ms) for change in changes if change is not None]

    def _breach(self, value: float) -> int:
        warning_low, warning_high, critical_low, critical_high = self.bounds
        if not critical_low <= value <= critical_high:
            return 2
        return 0 if warning_low <= value <= warning_high else 1

    def _timed(self, change: Change, at_ms: int) -> Change:
        """Put the row's time in the place of its number."""
        if change.previous == Severity.NORMAL:
            self.since_ms = at_ms
        return replace(change, at=at_ms, since_ms=self.since_ms)
