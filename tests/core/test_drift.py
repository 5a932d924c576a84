"""Slow drifts: what is off by little, hour after hour, and what only looks so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamproc.core.compare_one import compare_one
from streamproc.core.creep import Creep, creep
from streamproc.core.fading import still
from streamproc.core.judgement import DRIFT
from streamproc.core.learners import EVIDENCE, LearnerBank
from streamproc.core.season import (
    ALONG_SPELL,
    COUNT,
    CREEP,
    DAY_SQUARE,
    END,
    HELD_BY_DRIFT,
    PROFILE,
    SUM,
    compare,
)
from streamproc.core.severity import ALARM
from streamproc.core.tails import COLUMNS
from tests.core.test_learners import MINUTE, named, watch

Floats = NDArray[np.float64]
#: Windows of a day: one in 20 minutes, three make an hour.
DAY = 72
BEGIN = 30 * DAY


def noise(days: int, sensors: int = 1) -> Floats:
    """Readings about 50, a day's wave of twice their noise among them."""
    at = np.arange(days * DAY)[:, None]
    wave = 2 * np.sin(at * 2 * np.pi / DAY)
    return 50 + wave + np.random.default_rng(8).normal(0, 1, (len(at), sensors))


def found(series: Floats) -> tuple[list[int], list[str]]:
    """The windows that are alarms, and what made them."""
    scores = watch(series, 20 * MINUTE)
    at = np.flatnonzero(scores.anomaly >= ALARM).tolist()
    return at, [named(scores, row) for row in at]


@pytest.mark.parametrize("daily", [0.5, -0.5, 1.0])
def test_a_slow_leak_is_told_as_a_drift(daily: float) -> None:
    """Half a usual deviation a day: no window, no trend over minutes and no single hour shows it."""
    series = noise(40)[:, 0]
    series[BEGIN:] += daily * np.arange(len(series) - BEGIN) / DAY
    at, made_by = found(series)
    assert BEGIN < at[0] < BEGIN + 6 * DAY
    assert set(made_by) == {EVIDENCE[DRIFT]}


def test_a_small_shift_of_the_mean_is_told_as_a_drift() -> None:
    """One that stays, smaller than what single windows stray by."""
    series = noise(40)[:, 0]
    series[BEGIN:] += 1.5
    at, made_by = found(series)
    assert BEGIN < at[0] < BEGIN + 2 * DAY
    assert set(made_by) == {EVIDENCE[DRIFT]}


def test_a_drift_ends_where_it_has_become_usual() -> None:
    """A shift that stays is the new usual after some days."""
    series = noise(60)[:, 0]
    series[BEGIN:] += 1.5
    at, _ = found(series)
    assert at[-1] < BEGIN + 8 * DAY


def wandering(kind: str) -> Floats:
    """Signals (windows, sensors) that have no drift that is not theirs by nature."""
    series = noise(50, 24)
    steps: Floats = series - series.mean(axis=1, keepdims=True)
    if kind == "walk":
        series = 50 + np.cumsum(steps, axis=0)
    if kind == "month":
        series = series + 3 * np.sin(np.arange(len(series)) * 2 * np.pi / (30 * DAY))[:, None]
    if kind == "sluggish":
        for row in range(1, len(steps)):
            steps[row] += 0.97 * steps[row - 1]
        series = series + steps
    return series


@pytest.mark.live  # two seconds each
@pytest.mark.parametrize("kind", ["still", "walk", "month", "sluggish"])
def test_what_wanders_by_itself_does_not_drift(kind: str) -> None:
    """In 1,200 sensor-days of each."""
    series = wandering(kind)
    sensors = np.arange(series.shape[1])
    bank, ones = LearnerBank(), np.ones(len(sensors), dtype=np.int64)
    bank.grow(len(sensors))
    for row, mean in enumerate(series):
        scores = bank.observe(sensors, mean, np.zeros(len(mean)), ones, row * 20 * MINUTE * ones)
        assert not ((scores.evidence == DRIFT) & (scores.anomaly >= ALARM)).any()


def test_hours_one_by_one_and_in_columns_give_the_same_bits() -> None:
    """Weeks of noise that begins to leak, at several scales, from before anything is known on, constants among them."""
    rng = np.random.default_rng(4)
    hours, sensors = 900, 8
    mean = rng.normal(0, 1, (hours, sensors)) + np.maximum(0, np.arange(hours) - 700)[:, None] / 50
    mean *= 10.0 ** np.array([-60, -3, 0, 0, 0, 3, 30, 90])
    mean[:, 3] = 7.0
    columns = np.zeros((END, sensors))
    single = columns.T.tolist()
    profile = np.full((sensors, PROFILE), np.nan)
    alone = profile.copy()
    columns[COUNT] = 1
    told = 0
    for hour in range(hours):
        columns[SUM] = mean[hour]
        day, week, ends = hour % 24, 24 + hour // 2 % 84, hour % 2 == 1
        compared = compare(columns, profile[:, day], profile[:, week], ends, COLUMNS)
        columns[DAY_SQUARE:CREEP] = compared.state
        profile[:, day], profile[:, week] = compared.day, compared.week
        for sensor, state in enumerate(single):
            state[SUM : COUNT + 1] = mean[hour, sensor], 1.0
            alone[sensor, [day, week]] = compare_one(state, alone[sensor, day], alone[sensor, week], ends)
        assert np.array(single)[:, DAY_SQUARE:].tobytes() == columns[DAY_SQUARE:].T.tobytes()
        assert alone.tobytes() == profile.tobytes()
        told += int(columns[HELD_BY_DRIFT].sum())
    assert told


def seconds(hours: int, every: int = 10) -> Floats:
    """A sensor that speaks each 10 s: noise, and a day's wave."""
    at = np.arange(hours * 3_600 // every)
    wave = 5 * np.sin(at * 2 * np.pi * every / 86_400)
    return 50 + wave + np.random.default_rng(6).normal(0, 1, len(at))


@pytest.mark.live  # a second: more than a day of windows of 10 s
def test_a_leak_within_hours_is_told_as_a_drift_where_windows_are_many() -> None:
    """Long before the season knows a week; and not on the first day, when a morning looks no different."""
    still, first, second = seconds(50), seconds(50), seconds(50)
    for series, hour in ((first, 6), (second, 36)):
        series[hour * 360 :] -= 20 * np.minimum(np.arange(len(series) - hour * 360) / 360, 3)
    for series, told in ((still, False), (first, False), (second, True)):
        scores = watch(series, 10_000)
        at = np.flatnonzero((scores.evidence == DRIFT) & (scores.anomaly >= ALARM))
        assert bool(len(at)) == told
        assert all(36 * 360 < row < 38 * 360 for row in at[:1])
        assert not told or scores.expected[at[0]] > series[at[0]]


@pytest.mark.live  # some seconds: more than a day of windows
def test_spells_one_by_one_and_in_columns_give_the_same_bits() -> None:
    """Through the learners as they are called: a sensor by itself, and beside others."""
    rng = np.random.default_rng(3)
    rows, sensors = 4_000, 16
    series = rng.normal(0, 1, (rows, sensors)) * 10.0 ** rng.integers(-3, 3, sensors)
    series[3_000:] += np.arange(1_000)[:, None] / 50
    together, alone = LearnerBank(), LearnerBank()
    together.grow(sensors)
    alone.grow(1)
    slots, ones, none = np.arange(sensors), np.ones(sensors, dtype=np.int64), np.zeros(sensors)
    start = np.arange(rows) * 27_000
    for part in (
        slice(0, 3_333),
        slice(3_333, rows),
    ):  # from within an hour on, as if spells went along with a season
        for bank in (together, alone):
            state = bank.dump(range(len(bank)))
            state[:, ALONG_SPELL] = 0.01 * state[:, CREEP]
            bank.load(0, state)
        last = [
            together.observe(slots, row, none, ones, at * ones)
            for row, at in zip(series[part], start[part], strict=True)
        ]
        many = len(last)
        single = alone.observe([0] * many, series[part, 5], [0.0] * many, [1] * many, start[part])
        assert [scores.surprise[5] for scores in last] == single.surprise.tolist()
        assert together.dump([5]).tobytes() == alone.dump([0]).tobytes()
    assert (single.evidence == DRIFT).any()


def told_spells(series: Floats) -> list[int]:
    """The spells (of sensors in columns) in which any is told to have crept away."""
    known, told = Creep(*(np.zeros(series.shape[1]) for _ in Creep._fields)), []
    for spell, mean in enumerate(series):
        crept, known = creep(known, mean, still(mean), COLUMNS)
        if crept.any():
            told.append(spell)
    return told


def spells(days: int, wave: Callable[[Floats], NDArray[Any]]) -> Floats:
    """Means of spells about 50: a wave of the time of day in days, of ten sensors by turns, and noise of 0.06."""
    day = np.arange(288 * days)[:, None] / 288 + np.arange(10) / 10
    series: Floats = 50 + wave(day) + np.random.default_rng(2).normal(0, 0.06, day.shape)
    return series


def test_a_leak_is_told_by_spells_that_are_further_off_than_any() -> None:
    """20 deviations an hour in a day's wave of 5: within half an hour, which the levels of hours need to part."""
    series = spells(3, lambda day: 5 * np.sin(2 * np.pi * day))
    begin = 2 * 288
    series[begin:] -= 20 / 12 * np.arange(1, 289)[:, None]
    told = told_spells(series)
    assert begin <= told[0] < begin + 6


def test_a_machine_that_starts_each_morning_does_not_creep() -> None:
    """What was as far off on the day before is told on no day, though noise is nothing beside it."""
    assert not told_spells(spells(6, lambda day: np.where(day % 1 < 0.4, 10.0, 0.0)))
