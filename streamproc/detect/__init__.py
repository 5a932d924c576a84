"""The same core over a file: each row of a `timestamp,value` series is judged as a window of its own.

Row i of the result depends on rows 0 to i alone. Memory does not grow with the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from streamproc.core.changes import Change, Window
from streamproc.core.explain import explain
from streamproc.core.learners import LearnerBank, Scores
from streamproc.core.phrases import Language
from streamproc.core.ranges import Limits
from streamproc.core.severity import ALARM, SeverityBank
from streamproc.detect.rows import HEADER, Row
from streamproc.detect.series import Sample, read
from streamproc.errors import SeriesError
from streamproc.records import Severity

__all__ = ["BLOCK_ROWS", "HEADER", "Row", "run"]

#: So many rows are scored at once where nobody waits for each: beyond it nothing gets faster (measured).
BLOCK_ROWS = 512


def run(
    lines: Iterable[str],
    limits: Limits | None = None,
    language: Language = "en",
    block_rows: int = BLOCK_ROWS,
) -> Iterator[Row]:
    """Judge a series row by row; raises SeriesError after the rows before the faulty one.

    `block_rows` is how many rows are read before the first comes out; what comes out does not depend on it.
    """
    detector = _Detector(limits, language)
    for block in _blocks(read(lines), block_rows):
        yield from detector.rows(block)


def _blocks(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    block: list[Sample] = []
    fault = None
    while fault is None:
        try:
            block.append(next(samples))
        except StopIteration:
            break
        except SeriesError as error:
            fault = error
        if len(block) >= size:
            yield block
            block = []
    yield block
    if fault is not None:
        raise fault


class _Detector:
    """One sensor's learners and severity, by the count of rows: a file's times may run backwards."""

    def __init__(self, limits: Limits | None, language: Language) -> None:
        self.language: Language = language
        self.learners, self.severity = LearnerBank(), SeverityBank()
        self.learners.grow(1)
        self.severity.grow(1)
        self.severity.set_limits(0, limits)
        self.bounds: list[float] = self.severity.bounds[0].tolist()
        self.bounded = limits is not None
        self.row = 0
        self.since_ms = 0
        # As `severity` has them, at hand: they change when a window was judged and not else.
        self.level, self.busy = Severity.NORMAL, False

    def rows(self, block: list[Sample]) -> Iterator[Row]:
        """Judge the samples in their order; a missing reading changes nothing."""
        known = [sample for sample in block if sample.value is not None]
        values, starts = [sample.value or 0.0 for sample in known], [sample.at_ms for sample in known]
        none, one = [0] * len(values), [1] * len(values)
        scores = self.learners.observe(none, values, [0.0] * len(values), one, starts)
        anomalies = scores.anomaly.tolist()
        index = 0
        for timestamp, text, at_ms, value in block:
            if value is None:
                yield Row(timestamp, text, 0.0, self.level, "")
                continue
            self.row += 1
            anomaly, told = anomalies[index], ""
            if anomaly >= ALARM or self.busy or (self.bounded and self._breach(value)):
                told = self._tell(self._judge(at_ms, value, scores, index))
            index += 1
            yield Row(timestamp, text, anomaly, self.level, told)

    def _tell(self, changes: list[Change]) -> str:
        """Put changes into words, and take note of the severity that a window has left."""
        self.level, self.busy = Severity(int(self.severity.level[0])), bool(self.severity.busy[0])
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
                float(scores.anomaly[index]),
                int(scores.evidence[index]),
                float(scores.surprise[index]),
                float(scores.expected[index]),
                float(scores.deviation[index]),
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
