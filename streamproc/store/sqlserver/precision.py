"""What a column can hold of a value: a new database has FLOAT and DATETIME2(6), the reference system's has less.

Pure: columns come as a cursor describes those of its result, so that columns widened later are known at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

#: Tells whether (the column's value, ours) are the same as far as the column can tell.
Alike = Callable[[Any, Any], bool]

#: Binary digits of REAL; FLOAT has 53.
_REAL = 24
#: Digits of a second that DATETIME has. It keeps three-hundredths, so it is wrong by 1.7 ms at most.
_DATETIME, _DATETIME_ERROR = 3, timedelta(milliseconds=2)
#: SMALLDATETIME has no seconds; it is 16 characters long.
_SMALL, _MINUTE = 16, timedelta(minutes=1)


def alike(column: Sequence[Any]) -> Alike | None:
    """How values of a column are compared that are not equal, None where that makes them different.

    `column` is the one of `cursor.description`: name, type, two sizes, precision, scale.
    """
    _, kind, _, _, precision, scale, *_ = column
    if kind is Decimal:
        return _rounded(scale)
    if kind is float and precision <= _REAL:
        return _real
    if kind is datetime and scale <= _DATETIME:
        half = timedelta(seconds=0.5 / 10**scale)
        return _near(_MINUTE if precision == _SMALL else max(half, _DATETIME_ERROR))
    return None


def _rounded(scale: int) -> Alike:
    """Within half of the last digit. What else is lost from FLOAT to DECIMAL is less than FLOAT's own last digit."""
    half = Decimal(5).scaleb(-scale - 1)

    def same(theirs: Decimal | None, ours: float | None) -> bool:
        if theirs is None or ours is None:
            return False
        return abs(theirs - Decimal(ours)) <= half + Decimal(math.ulp(ours))

    return same


def _real(theirs: float | None, ours: float | None) -> bool:
    return theirs is not None and ours is not None and bool(np.float32(theirs) == np.float32(ours))


def _near(most: timedelta) -> Alike:
    def same(theirs: datetime | None, ours: datetime | None) -> bool:
        return theirs is not None and ours is not None and abs(theirs - ours) <= most

    return same


def plain(value: Any) -> Any:
    """A value of the database as a difference tells it: numbers as numbers, times as ISO 8601 in UTC.

    >>> plain(Decimal("12.34000")), plain(datetime(2025, 11, 2, 10, 0, 0, 123000)), plain("x")
    (12.34, '2025-11-02T10:00:00.123Z', 'x')
    """
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        digits = "microseconds" if value.microsecond % 1000 else "milliseconds"
        return value.isoformat(timespec=digits) + "Z"
    return value
