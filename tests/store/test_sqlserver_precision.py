"""What a column of less precision holds of a value: a replay must not take it for another."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.store.sqlserver.precision import alike

#: Columns as pyodbc describes those of a result.
FLOAT = ("value", float, None, 53, 53, 0, False)
REAL = ("value", float, None, 24, 24, 0, False)
FIVE = ("value", Decimal, None, 15, 15, 5, False)
MICROSECONDS = ("at", datetime, None, 26, 26, 6, False)
THREE = ("at", datetime, None, 23, 23, 3, False)
SECONDS = ("at", datetime, None, 19, 19, 0, False)
MINUTES = ("at", datetime, None, 16, 16, 0, False)
AT = datetime.fromisoformat("2025-11-02T10:00:00.123")


@given(st.floats(-9e9, 9e9), st.sampled_from([ROUND_HALF_UP, ROUND_HALF_DOWN]))
def test_a_decimal_holds_what_is_rounded_to_it(value: float, rounding: str) -> None:
    """Whichever way the server rounds; a value of which another last digit is nearer is another one."""
    same = alike(FIVE)
    assert same
    held = Decimal(value).quantize(Decimal("0.00001"), rounding)
    assert same(held, value)
    assert not same(held + Decimal("0.00002"), value)
    assert not same(held - Decimal("0.00002"), value)


def test_the_last_digit_of_a_decimal_counts() -> None:
    """What somebody has changed by it is told."""
    same = alike(FIVE)
    assert same
    assert same(Decimal("20.12346"), 20.123456789)
    assert not same(Decimal("20.12345"), 20.123456789)
    assert not same(Decimal("20.12347"), 20.123456789)
    assert not same(None, 1.0)
    assert not same(Decimal(1), None)


@given(st.floats(-1e30, 1e30))
def test_a_real_holds_the_nearest_of_its_own(value: float) -> None:
    """And not the one after it."""
    same = alike(REAL)
    assert same
    held = np.float32(value)
    assert same(float(held), value)
    assert not same(float(np.nextafter(held, np.float32(np.inf))), value)


@pytest.mark.parametrize("column", [FLOAT, MICROSECONDS, ("n", int, None, 19, 19, 0, False)])
def test_what_a_new_database_has_holds_every_bit(column: Any) -> None:
    """There what is not equal is different."""
    assert alike(column) is None


@pytest.mark.parametrize(
    ("column", "held", "other"),
    [
        (
            THREE,
            timedelta(milliseconds=1.667),
            timedelta(milliseconds=3),
        ),  # DATETIME: to the next of 300 in a second
        (SECONDS, timedelta(milliseconds=-123), timedelta(seconds=1)),
        (MINUTES, timedelta(seconds=-0.123), timedelta(minutes=2)),
    ],
)
def test_a_coarse_time_holds_the_nearest(column: Any, held: timedelta, other: timedelta) -> None:
    """As near as its type can be, and no farther."""
    same = alike(column)
    assert same
    assert same(AT + held, AT)
    assert not same(AT + other, AT)
    assert not same(None, AT)
