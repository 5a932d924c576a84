"""The season's course: levels that go along with it, and when they do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamproc.core.course import course, course_one
from streamproc.core.learners import LearnerBank
from streamproc.core.season import ALONG, COUNT, DAY_SQUARE, DAY_WEIGHT, END, TURNS, WEEK_SQUARE, WEEK_WEIGHT
from streamproc.core.severity import ALARM
from streamproc.core.tails import COLUMNS
from tests.core.test_learners import MINUTE, watch

Floats = NDArray[np.float64]
#: Windows of a day: one in five minutes.
DAY = 288
STEP = 5 * MINUTE


def daily(days: int, sensors: int = 1, swing: float = 5.0) -> Floats:
    """Readings about 50 (windows, sensors), a day's wave and noise of 1."""
    at = np.arange(days * DAY)[:, None]
    wave = swing * np.sin(at * 2 * np.pi / DAY)
    return 50 + wave + np.random.default_rng(8).normal(0, 1, (len(at), sensors))


def alarms(series: Floats) -> list[int]:
    """The windows that are alarms."""
    return np.flatnonzero(watch(series, STEP).anomaly >= ALARM).tolist()


def test_levels_go_along_with_the_season() -> None:
    """After some days forecasts are as near as noise lets them, though the season moves on between windows."""
    series = daily(16, swing=30)[:, 0]
    forecast = watch(series, STEP).forecast
    error = series[1:] - forecast[:-1]
    late = error[-5 * DAY :]
    assert np.square(late).mean() < 1.2
    assert np.square(error[DAY : 2 * DAY]).mean() > 3


def test_a_step_is_told_in_a_season_as_soon_as_in_noise() -> None:
    """Five deviations, which the levels' lag behind the season used to hide."""
    series = daily(16)[:, 0]
    series[15 * DAY :] += 5
    told = alarms(series)
    assert 15 * DAY <= told[0] < 15 * DAY + 8


def test_a_machine_that_starts_by_day_does_not_move_levels() -> None:
    """Hours that leap do not tell when within the hour they do."""
    at = np.arange(16 * DAY)
    series = np.where(at % DAY // 12 % 24 >= 8, 60.0, 40.0) + np.random.default_rng(8).normal(0, 1, len(at))
    bank = LearnerBank()
    bank.grow(1)
    bank.observe([0] * len(at), series, [0.0] * len(at), [1] * len(at), at * STEP)
    moves = []
    for hour in range(24):
        start = (16 * DAY + 12 * hour) * STEP
        bank.observe([0] * 12, [series[12 * hour]] * 12, [0.0] * 12, [1] * 12, start + np.arange(12) * STEP)
        moves.append(abs(bank.dump([0])[0, ALONG]))
    assert max(moves) < 0.1


def test_a_day_off_does_not_go_along_with_working_days() -> None:
    """A first day without the wave is no alarm of levels that went where the value did not."""
    series = daily(9, swing=30)[:, 0]
    series[5 * DAY : 7 * DAY] -= (daily(9, swing=30) - daily(9, swing=0))[5 * DAY : 7 * DAY, 0]
    assert not [window for window in alarms(series) if 5 * DAY < window < 7 * DAY]


@pytest.mark.live  # two seconds
def test_windows_one_by_one_and_in_columns_give_the_same_bits() -> None:
    """Two weeks of sensors that go along, of several sizes and rates, alone and together."""
    sensors = 20
    series = daily(14, sensors, swing=20) * 10.0 ** np.arange(-10, 10)
    rates = np.array([1, 1, 2, 3, 12] * 4)
    together = LearnerBank()
    together.grow(sensors)
    for row, values in enumerate(series):
        slots = np.flatnonzero(row % rates == 0)
        ones = np.ones(len(slots), dtype=np.int64)
        together.observe(slots, values[slots], np.zeros(len(slots)), ones, row * STEP * ones)
    for sensor, rate in enumerate(rates.tolist()):
        alone, values = LearnerBank(), series[::rate, sensor]
        alone.grow(1)
        zeros = np.zeros(len(values), dtype=np.int64)
        starts = np.arange(len(values)) * rate * STEP
        alone.observe(zeros, values, np.zeros(len(values)), zeros + 1, starts)
        assert alone.dump([0]).tobytes() == together.dump([sensor]).tobytes()
    assert (together.dump(range(sensors))[:, ALONG] != 0).sum() > sensors // 2


numbers = st.floats(-1e30, 1e30) | st.just(float("nan"))
around = st.lists(numbers, min_size=3, max_size=3)
squares = st.floats(0, 1e60)
weights = st.floats(0, 1)


@given(around, around, st.lists(squares, min_size=3, max_size=3), st.tuples(weights, weights))
def test_one_hour_and_columns_have_the_same_course(
    days: list[float], weeks: list[float], known: list[float], weight: tuple[float, float]
) -> None:
    """Whatever is known of the hours around, the formulas for one sensor and for columns give the same bits."""
    state = [0.0] * END
    state[COUNT] = 12.0
    state[DAY_SQUARE], state[WEEK_SQUARE], state[TURNS] = known
    state[DAY_WEIGHT], state[WEEK_WEIGHT] = weight
    single = course_one(state, days, weeks)
    with np.errstate(all="raise", under="ignore"):
        columns = course(np.array(state)[:, None], np.array(days)[:, None], np.array(weeks)[:, None], COLUMNS)
    assert np.isfinite(single).all()
    assert np.array(single).tobytes() == np.array(columns)[:, 0].tobytes()
