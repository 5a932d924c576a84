"""Windows: half-open, and right at every level, size and order."""

from __future__ import annotations

from fractions import Fraction
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core import windows
from streamproc.core.windows import BASE_MS, SIZES_MS, Moments, OpenWindows, from_readings
from tests.core.oracle import NOW

ONE = np.zeros(1, dtype=np.int64)


def window(ts: list[int], value: list[float], size_ms: int = 10_000) -> Moments:
    """One window of one sensor, made of base windows as the engine makes it."""
    base, large = OpenWindows(BASE_MS, 4), OpenWindows(size_ms, 1)
    base.grow(1)
    large.grow(1)
    closed = np.array([NOW * 2])
    parts = from_readings(np.array(ts), np.array(value), np.arange(len(ts)))
    slot, parts = base.advance(np.zeros(len(ts), dtype=np.int64), parts, closed, ONE)
    slot, rows = large.advance(slot, parts, closed, ONE)
    assert slot.tolist() == [0]
    return rows


def exactly(ts: list[int], value: list[float]) -> tuple[float, float, float]:
    """Mean, deviation and trend in rational numbers, rounded at the end."""
    count, values = len(ts), [Fraction(each) for each in value]
    mean, middle = sum(values, Fraction(0)) / count, Fraction(sum(ts), count)
    spread = sum((each - middle) ** 2 for each in ts)
    product = sum((t - middle) * (x - mean) for t, x in zip(ts, values, strict=True))
    variance = sum((x - mean) ** 2 for x in values) / count
    return float(mean), sqrt(variance), float(1_000 * product / spread) if spread else 0.0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 9_999), st.floats(-1, 1)), min_size=1, max_size=40),
    st.sampled_from([(0.0, 1.0), (1e9, 1e-3), (-1e9, 1e-3), (1e-9, 1e-12), (1e15, 1e6)]),
)
def test_numbers_are_stable_at_any_level(rows: list[tuple[int, float]], scale: tuple[float, float]) -> None:
    """A level of a billion with a noise of a thousandth loses nothing that the readings had."""
    level, noise = scale
    ts, value = [NOW + t for t, _ in rows], [level + noise * x for _, x in rows]
    made = window(ts, value)
    mean, deviation, trend = exactly(ts, value)
    assert windows.mean(made)[0] == pytest.approx(mean, rel=1e-15, abs=1e-12 * noise)
    assert windows.deviation(made)[0] == pytest.approx(deviation, rel=1e-6, abs=1e-6 * noise)
    assert windows.trend(made)[0] == pytest.approx(trend, rel=1e-6, abs=1e-6 * noise)


@pytest.mark.parametrize("size_ms", SIZES_MS)
def test_windows_are_half_open(size_ms: int) -> None:
    """The start belongs to a window, its end to the next."""
    opened = OpenWindows(size_ms, 2)
    opened.grow(1)
    ts = np.array([NOW - 1, NOW, NOW + size_ms - 1, NOW + size_ms])
    parts = from_readings(ts, np.arange(4.0), np.arange(4))
    _, rows = opened.advance(np.zeros(4, dtype=np.int64), parts, np.array([NOW + size_ms]), ONE)
    assert rows.start.tolist() == [NOW - size_ms, NOW]
    assert rows.count.tolist() == [1, 2]
    _, rest = opened.advance(ONE[:0], parts.take(ONE[:0]), np.array([NOW + 2 * size_ms]), ONE)
    assert (rest.start.tolist(), rest.first.tolist()) == ([NOW + size_ms], [3.0])


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.1, -3e-7, 1e100, -1e100])
def test_a_constant_has_no_deviation_and_no_trend(value: float) -> None:
    """Exactly none: that is what a stuck sensor is known by."""
    made = window([NOW + 7 * i for i in range(1_000)], [value] * 1_000)
    assert windows.deviation(made)[0] == windows.trend(made)[0] == 0.0
    assert windows.mean(made)[0] == value


def test_equal_stamps_have_no_trend() -> None:
    """However many they are, and wherever in the window."""
    made = window([NOW + 9_999] * 5_000, [float(i) for i in range(5_000)])
    assert windows.trend(made)[0] == 0.0


def test_half_a_million_readings_have_their_trend() -> None:
    """Products of the plain sums would leave 64 bits."""
    count = 500_000
    ts = NOW + np.arange(count) // (count // 10_000)
    made = window(ts.tolist(), ((ts - NOW) * 0.002 + 5).tolist())
    assert windows.trend(made)[0] == pytest.approx(2.0, rel=1e-9)


def test_extremes_stay_finite() -> None:
    """Values as great as the codec accepts."""
    made = window([NOW, NOW + 1, NOW + 9_999], [1e100, -1e100, 1e100])
    for get in (windows.mean, windows.deviation, windows.trend):
        assert np.isfinite(get(made)).all()


def test_first_and_last_of_equal_stamps_are_by_record() -> None:
    """The one that came first, the one that came last, also where a part was held from an earlier chunk."""
    made = window([NOW + 5, NOW, NOW + 5, NOW], [1.0, 2.0, 3.0, 4.0])
    assert (made.first[0], made.last[0]) == (2.0, 3.0)
    assert (made.first_offset[0], made.last_offset[0]) == (0, 3)


def test_bytes_and_back() -> None:
    """Columns keep their types and values; what does not fit is refused."""
    made = window([NOW, NOW + 1], [1.5, 2.5])
    data = [getattr(made, name).tobytes() for name in windows.COLUMNS]
    assert [getattr(Moments.from_bytes(data), name).tobytes() for name in windows.COLUMNS] == data
    with pytest.raises(ValueError, match="buffer"):
        Moments.from_bytes([b"123", *data[1:]])
    with pytest.raises(ValueError, match="zip"):
        Moments.from_bytes(data[1:])
