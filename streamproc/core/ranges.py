"""A user's ranges as numbers: which values are outside, and from where on values are calm again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamproc.records import Cause, Range, Rule, Severity

#: Where the user gives no clear level, a value must be inside its range by this part of the range's width before it counts
#: as calm.
MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """What a user has a sensor judged by, and the version of the registry's entry that it comes from."""

    warning: Range | None = None
    critical: Range | None = None
    version: int = 0
    rules: tuple[Rule, ...] = ()


def bounds_of(acceptable: Range | None) -> tuple[float, float]:
    """Return low and high of a range, infinite where absent.

    >>> bounds_of(Range(low=1.0))
    (1.0, inf)
    """
    if acceptable is None:
        return -np.inf, np.inf
    low, high = acceptable.low, acceptable.high
    return -np.inf if low is None else low, np.inf if high is None else high


def clear_levels_of(acceptable: Range | None) -> tuple[float, float]:
    """Return from where up, and from where down, values are calm again: as given, else MARGIN inside the bounds.

    A range with one bound takes its margin from that bound; an absent bound has no clear level.

    >>> clear_levels_of(Range(low=0.0, high=100.0, clear_high=80.0))
    (5.0, 80.0)
    """
    low, high = bounds_of(acceptable)
    width = high - low
    if width == np.inf:
        width = min(abs(low), abs(high))
    margin = MARGIN * width if width < np.inf else 0.0
    clear_low, clear_high = low + margin, high - margin
    if acceptable is not None:
        if acceptable.clear_low is not None and acceptable.low is not None:
            clear_low = acceptable.clear_low
        if acceptable.clear_high is not None and acceptable.high is not None:
            clear_high = acceptable.clear_high
    return clear_low, clear_high


def held_level(clear: Sequence[float], low: float, high: float) -> int:
    """Return the severity that values from `low` to `high` hold up: 0 none, 1 warning, 2 critical.

    `clear` has the clear levels of the warning range, low and high, and of the critical one; with the bounds themselves it
    is the range that the values are out of.

    >>> held_level([5.0, 95.0, -40.0, 140.0], 20.0, 97.0)
    1
    """
    warning_low, warning_high, critical_low, critical_high = clear
    if not (critical_low <= low and high <= critical_high):
        return 2
    return 0 if warning_low <= low and high <= warning_high else 1


def range_rule(severity: int, bounds: Sequence[float], value: float) -> tuple[Cause, str]:
    """Return the cause and the rule of a change that a value outside a range has made, 1 warning or 2 critical."""
    is_critical = severity == Severity.CRITICAL
    cause: Cause = "critical_range" if is_critical else "warning_range"
    low, high = bounds[2:] if is_critical else bounds[:2]
    return cause, f"{cause} value < {low!r}" if value < low else f"{cause} value > {high!r}"


def worst_of(severity: int, bounds: Sequence[float], low: float, high: float) -> float:
    """Return which of the least and the greatest value of a window is outside a range; of both the greatest.

    >>> worst_of(1, [0.0, 100.0, -50.0, 150.0], -1.0, 20.0)
    -1.0
    """
    bound = bounds[2 * severity - 1]
    return high if high > bound else low


def breaches(value: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.int8]:
    """Tell which range each value (n,) is out of: 0 none, 1 warning, 2 critical.

    `bounds` (n, 4) are warning low and high, critical low and high. What equals a bound is inside.
    """
    critical = (value < bounds[:, 2]) | (value > bounds[:, 3])
    warning = (value < bounds[:, 0]) | (value > bounds[:, 1])
    return np.where(critical, 2, np.where(warning, 1, 0)).astype(np.int8)
