"""Columns as JSON: those of a message as if each were printed by itself, and each printed once."""

from __future__ import annotations

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamproc.engine.printed import Printed

floats = st.lists(st.sampled_from([0.0, -0.0, 1.0, 20.5, -1e100, 5e-324]), min_size=1, max_size=3)
ints = st.lists(st.integers(-1, 2), min_size=1, max_size=3)


@given(
    st.lists(floats.map(np.array) | ints.map(lambda column: np.array(column, dtype=np.int64)), max_size=12)
)
def test_each_column_reads_as_by_itself(columns: list[np.ndarray]) -> None:
    """Whatever was printed before it: 0, 0.0 and -0.0 are three numbers, and a longer column is another one."""
    printed = Printed([])
    for column in columns:
        alone = orjson.dumps(column, option=orjson.OPT_SERIALIZE_NUMPY)
        assert orjson.dumps([printed.column(column)]) == b"[" + alone + b"]"


def test_what_is_equal_is_printed_once() -> None:
    """Columns of the same numbers share their text, and names are no numbers."""
    printed = Printed(["a", None, "c"])
    slot = np.array([0, 2])
    assert printed.column(slot) is printed.column(slot.copy())
    assert printed.sensors(slot) is printed.sensors(slot.copy())
    assert orjson.dumps([printed.column(slot), printed.sensors(slot)]) == b'[[0,2],["a","c"]]'
    assert orjson.dumps(printed.sensors(slot[1:])) == b'["c"]'
