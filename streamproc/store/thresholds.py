"""Limits that other programs keep in the database, in `alert_thresholds`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Threshold:
    """One limit of a sensor; `condition` and `severity` are those programs' own words.

    `greater_than`, `less_than` and `equal_to` have their limit in `low`, `out_of_range` has both.
    """

    sensor: str
    condition: str
    low: float | None
    high: float | None
    severity: str
    is_active: bool = True
