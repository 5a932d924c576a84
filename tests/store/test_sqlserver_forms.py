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
from streamproc.store.sqlserver.forms import BY_NAME, PARAMETERS, WINDOWS
from tests.store.builders import event, events, readings, windows

IDS = {"a": 1, "b": 2}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_floats_are_given_bit_for_bit(numbers: list[float]) -> None:
    """As whole digits and a power of two, which give the same number by one exact multiplication, the least ones too."""
    rows = windows(*(("a", number, second * 1000) for second, number in enumerate(numbers)))
    ((statement, (text,)),) = WINDOWS.inserts(WINDOWS.values(rows, IDS, {}))
    assert "[mean digits] BIGINT '$[4]', [mean power] INT '$[5]'" in statement
    for number, row in zip(numbers, orjson.loads(text), strict=True):
        digits, power = row[4:6]
        assert abs(digits) <= 2**53
        assert power >= -1074
        # ldexp multiplies by a power that no float holds, too; a server has only those that one does.
        assert math.ldexp(float(digits), power) == float(digits) * 2.0**power == number


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
    assert row[3:5] == ["2023-11-14T22:13:20.001000", "2023-11-14T22:13:20.006000"]
    assert np.all([isinstance(cell, int) for cell in (row[0], *row[5:])])
