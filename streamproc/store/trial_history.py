"""A trial's changes and the live ones of the same time, as a report compares them."""

from __future__ import annotations

from dataclasses import dataclass

from streamproc.records import Severity
from streamproc.records.alerting import BEGUN


@dataclass(frozen=True, slots=True)
class SeverityChange:
    """One change of a sensor's severity, or, with the cause BEGUN, the severity that it began a trial with; `at` in ms."""

    sensor: str
    at: int
    severity: Severity
    previous: Severity
    cause: str

    @property
    def is_begin(self) -> bool:
        """Whether it tells a begin."""
        return self.cause == BEGUN


@dataclass(frozen=True, slots=True)
class TrialHistory:
    """All that a version of a trial has recorded, in the order of time; `begun_at` (ms) is when it was put."""

    version: int
    begun_at: int
    changes: list[SeverityChange]
