"""The rows that `detect` gives."""

from __future__ import annotations

from typing import NamedTuple

from streamproc.records import Severity

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
        return self.timestamp, self.value, f"{self.anomaly_score:.6f}", self.severity.name, self.explanation
