"""The end of a silence in a season: what is usual by then is no surprise, what is not is one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from streamproc.core.judgement import LEARNT_LEVEL
from streamproc.core.learners import LearnerBank, Scores
from streamproc.core.one_sensor import RUN
from streamproc.core.severity import ALARM
from tests.core.test_course import DAY, STEP, Floats, daily
from tests.core.test_learners import bank

#: Days before the silences: levels go along with the season from the fourth on.
DAYS = 9
HOUR = DAY // 24


def spoken(learners: LearnerBank, values: Floats, rows: NDArray[np.int64]) -> Scores:
    """What learners say of these rows of one sensor's series."""
    zeros = np.zeros(len(rows), dtype=np.int64)
    return learners.observe(zeros, values[rows], np.zeros(len(rows)), zeros + 1, rows * STEP)


def after(series: Floats, silence: int, *, told: int = 8) -> Floats:
    """The anomalies (sensors, windows) just after a silence of so many windows, which begins on the tenth day."""
    found, begin = [], DAYS * DAY
    for values in series.T:
        learners = bank(1)
        spoken(learners, values, np.arange(begin))
        found.append(spoken(learners, values, begin + silence + np.arange(told)).anomaly)
    return np.array(found)


@pytest.mark.parametrize("silence", [4 * HOUR, 8 * HOUR, 12 * HOUR + 5])
def test_the_season_has_gone_on_meanwhile(silence: int) -> None:
    """Of ten sensors in a wave of five deviations none is told as it speaks again; one that is elsewhere is."""
    series = daily(DAYS + 1, 10)
    assert not (after(series, silence) >= ALARM).any()
    series[DAYS * DAY :] += 12
    assert (after(series, silence) >= ALARM).any(axis=1).all()


def test_where_there_is_no_season_levels_stay() -> None:
    """A wander of days is no season: what was usual before the silence is so after it, and what is not is told."""
    values = 50 + np.random.default_rng(3).normal(0, 1, (DAYS + 1) * DAY)
    learners = bank(1)
    before = spoken(learners, values, np.arange(DAYS * DAY)).forecast[-1]
    expected = spoken(learners, values, np.array([DAYS * DAY + 6 * HOUR])).expected.item()
    assert expected == pytest.approx(before, abs=0.1)


@pytest.mark.live  # two seconds
def test_alone_together_and_in_runs_give_the_same_bits() -> None:
    """Sensors of several sizes and rates, silent for some hours now and then, and one that speaks every three hours."""
    sensors, rates = 20, np.array([1, 2, 3, 12, 36] * 4)
    series = daily(DAYS + 1, sensors, swing=20) * 10.0 ** np.arange(-10, 10)
    silent = np.zeros(len(series), dtype=np.bool_)
    for day in (2, 5, 7, 8, 9):
        silent[day * DAY + 11 * day : day * DAY + 11 * day + 5 * HOUR] = True
    together, sent = bank(sensors), list[NDArray[np.int64]]()
    for row, values in enumerate(series):
        slots = np.flatnonzero((row % rates == 0) & ~silent[row])
        ones = np.ones(len(slots), dtype=np.int64)
        together.observe(slots, values[slots], np.zeros(len(slots)), ones, row * STEP * ones)
        sent.append(slots)
    for sensor in range(sensors):
        rows = np.array([row for row, slots in enumerate(sent) if sensor in slots])
        for cut in (len(rows), RUN - 1):
            alone = bank(1)
            for at in range(0, len(rows), cut):
                spoken(alone, series[:, sensor], rows[at : at + cut])
            assert alone.dump([0]).tobytes() == together.dump([sensor]).tobytes()


def test_a_few_windows_that_are_missing_are_no_silence() -> None:
    """Less than an hour beyond the usual moves nothing: forecasts are those of windows that follow on."""
    values = daily(DAYS, swing=30)[:, 0]
    levels = []
    for silence in (0, HOUR - 2, 6 * HOUR):
        learners = bank(1)
        spoken(learners, values, np.arange(len(values)))
        learners.observe([0], [values[-1]], [0.0], [1], [(len(values) + silence) * STEP])
        levels.append(learners.dump([0])[0, LEARNT_LEVEL])
    assert levels[0] == levels[1]
    assert abs(levels[2] - levels[0]) > 3
