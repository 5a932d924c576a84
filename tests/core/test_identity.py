"""Identities: stable for ever, as rows and events carry them, and different for different things."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.identity import content_id, mix, reading_keys, seed

parts = st.lists(st.text(st.characters(exclude_characters="\x1f", codec="utf-8")), min_size=1, max_size=4)
u64 = st.integers(0, 2**64 - 1)


def keys(sensor: str, ts: list[int], value: list[float], source: list[int]) -> list[int]:
    """Return the keys of one sensor's readings."""
    found: list[int] = reading_keys(
        np.full(len(ts), seed(sensor), dtype=np.uint64),
        np.array(ts, dtype=np.int64),
        np.array(value, dtype=np.float64),
        np.array(source, dtype=np.uint64),
    ).tolist()
    return found


def test_golden_values() -> None:
    """These numbers are in databases and topics: a change of one makes old readings count anew."""
    assert seed("sensor-1") == 10460390554121077711
    assert content_id("event", "sensor-1", 1_700_000_000_000) == "69d0599ca77fa36042af4badbe45b772"
    ts = 1_700_000_000_000
    assert keys("sensor-1", [ts, ts, 0, ts], [20.5, -3.25, 0.0, 20.5], [0, 0, 0, 7]) == [
        1422885857466395791,
        4083965542325504400,
        9108244304361170765,
        3898478168525029234,
    ]


@given(parts, parts)
def test_parts_are_told_apart(one: list[str], other: list[str]) -> None:
    """Two lists of parts have one identity only if they are one list."""
    assert (seed(*one) == seed(*other)) == (one == other)
    assert (content_id(*one) == content_id(*other)) == (one == other)


def test_mix_is_splitmix64() -> None:
    """The first numbers of the generator seeded with 0, as published with it."""
    steps = np.array([0, 0x9E3779B97F4A7C15, 0x3C6EF372FE94F82A], dtype=np.uint64)
    assert [hex(number) for number in mix(steps).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


@given(st.lists(u64, unique=True, max_size=20))
def test_mix_loses_nothing(numbers: list[int]) -> None:
    """Different numbers stay different, as mixing can be undone."""
    assert len(set(mix(np.array(numbers, dtype=np.uint64)).tolist())) == len(numbers)


@given(st.floats(allow_nan=False), st.integers(0, 2**42), u64)
def test_key_is_a_positive_63_bit_number_by_place(value: float, ts: int, source: int) -> None:
    """A key fits SQL's BIGINT and does not depend on the other readings of its batch."""
    [alone] = keys("a", [ts], [value], [source])
    assert 0 <= alone < 2**63
    assert keys("a", [0, ts], [1.0, value], [0, source])[1] == alone


@given(st.integers(1, 2**64 - 1), st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_source_stands_for_time_and_value(source: int, one: float, other: float) -> None:
    """A reading known by its packet stays itself, whatever it says."""
    assert keys("a", [1], [one], [source]) == keys("a", [2], [other], [source])


@pytest.mark.live
def test_no_collisions_in_a_day_of_a_fleet() -> None:
    """A million readings, alike as readings are, have a million keys."""
    sensors = np.repeat(np.array([seed(f"sensor-{i}") for i in range(1_000)], dtype=np.uint64), 1_000)
    ts = np.tile(np.arange(1_000, dtype=np.int64) * 1_000 + 1_700_000_000_000, 1_000)
    value = np.tile(np.arange(1_000) % 7 * 0.5, 1_000)
    found = reading_keys(sensors, ts, value, np.zeros(1_000_000, dtype=np.uint64))
    assert len(np.unique(found)) == 1_000_000
