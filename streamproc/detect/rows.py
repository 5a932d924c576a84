"""The rows that `detect` gives."""

from __future__ import annotations

from typing import NamedTuple

from streamproc.records import Severity

_NAMES = tuple(severity.name for severity in Severity)  # a look-up costs a third of asking the severity
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
        return timestamp, value, f"{score:.6f}", _NAMES[severity], explanation
