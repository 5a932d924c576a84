"""How rows are put for SQL Server, without one."""

from __future__ import annotations

import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import RowsRefused
from streamproc.records import Severity
from streamproc.store.sqlserver.forms import BY_NAME, PARAMETERS, WINDOWS, float_of
from tests.store.builders import event, events, readings, windows

IDS = {"a": 1, "b": 2}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_floats_are_given_bit_for_bit(numbers: list[float]) -> None:
    """As the integers that their bits are; what the server makes of them, by its rules, is the same number."""
    rows = windows(*(("a", number, second * 1000) for second, number in enumerate(numbers)))
    ((statement, (text,)),) = WINDOWS.inserts(WINDOWS.values(rows, IDS, {}))
    assert "[mean] BIGINT '$[4]'" in statement
    assert float_of("g.[mean]") in statement
    for number, row in zip(numbers, orjson.loads(text), strict=True):
        bits = row[4]
        assert abs(bits) < 2**63
        # T-SQL's division and remainder cut towards zero.
        power, sign = abs(bits) // 2**52, (bits > 0) - (bits < 0)
        digits = sign * (abs(bits) % 2**52) + sign * (power > 0) * 2**52
        # A server has only those powers that a float holds.
        assert float(digits) * 2.0 ** (power - (power > 0) - 1074) == number


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    """With the column's name."""
    form = BY_NAME["readings"]
    with pytest.raises(RowsRefused, match="value: SQL Server has no NaN"):
        list(form.inserts(form.values(readings(("a", value, 1)), IDS, {})))


def test_rows_of_text_are_parameters_and_no_statement_has_too_many() -> None:
    """SQL Server takes 2,100 in a statement."""
    form = BY_NAME["events"]
    made = [event("a", Severity.WARN, Severity.NORMAL, at) for at in range(400)]
    statements = list(form.inserts(form.values(events(*made), IDS, {})))
    assert all(len(parameters) <= PARAMETERS for _, parameters in statements)
    assert all(statement.count("?") == len(parameters) for statement, parameters in statements)
    assert sum(len(parameters) for _, parameters in statements) == 400 * (1 + len(form.types))


def test_times_are_naive() -> None:
    """UTC without an offset, in milliseconds."""
    form = BY_NAME["readings"]
    ((_, (text,)),) = form.inserts(form.values(readings(("b", 1.0, 1)), IDS, {}))
    row = orjson.loads(text)[0]
    assert row[2:4] == ["2023-11-14T22:13:20.001000", "2023-11-14T22:13:20.006000"]
    assert np.all([isinstance(cell, int) for cell in (*row[:2], *row[4:])])
