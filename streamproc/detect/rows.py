"""The rows of `detect`'s output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

from streamproc.records import Severity

_NAMES = tuple(severity.name for severity in Severity)  # a look-up costs a third of asking the severity
_NOTHING = f"{0:.6f}"
HEADER = ("timestamp", "value", "anomaly_score", "severity", "explanation")


class Row(NamedTuple):
    """One row: time and value as they were written, the score from 0 to 1, and the severity after it.

    `explanation` is there on the rows that change the severity.
    """

    timestamp: str
    value: str
    anomaly_score: float
    severity: Severity
    explanation: str

    def fields(self) -> tuple[str, str, str, str, str]:
        """Return the row as text; six decimals of the score."""
        timestamp, value, score, severity, explanation = self
        written = f"{score:.6f}" if score else _NOTHING  # most rows' score, and a number takes long to write
        return timestamp, value, written, _NAMES[severity], explanation


def in_rows(columns: Iterable[tuple[str, str, float, Severity, str]]) -> Iterator[Row]:
    """Make a Row of each tuple: as `Row._make` does, which takes twice as long."""
    return map(partial(tuple.__new__, Row), columns)
