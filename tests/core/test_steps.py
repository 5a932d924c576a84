"""Intervals of forecasts, by step: learnt of what came, whatever the signal, the cuts and the restarts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamproc.core.judgement import NINE_TENTHS
from streamproc.core.learners import LearnerBank
from streamproc.core.predict import HORIZON_MS, Forecasts
from streamproc.core.steps import MOST_STEPS, StepErrors
from streamproc.core.windows import BASE_MS
from streamproc.settings import Settings

Floats = NDArray[np.float64]
STEPS = 6


def level(series: Floats) -> Floats:
    """What is expected after each window (windows, sensors): a mean that fades."""
    expected = np.empty_like(series)
    mean = series[0].copy()
    for row, values in enumerate(series):
        mean += 0.3 * (values - mean)
        expected[row] = mean
    return expected


def learnt(errors: StepErrors, series: Floats, expected: Floats) -> Floats:
    """The deviations after each window, of shape (windows, sensors, steps)."""
    slots = np.arange(series.shape[1])
    usual = np.ones(series.shape[1])
    return np.array(
        [errors.learn(slots, now, told, usual) for now, told in zip(series, expected, strict=True)]
    )


def signal(kind: str, windows: int, sensors: int) -> Floats:
    """Made series (windows, sensors)."""
    noise = np.random.default_rng(7).normal(0, 1, (windows, sensors))
    if kind == "walk":
        return np.cumsum(noise, axis=0)
    if kind == "heavy":
        return np.random.default_rng(7).standard_t(3, (windows, sensors))
    if kind == "quantised":
        return np.round(noise / 2)
    return noise


@pytest.mark.parametrize("kind", ["white", "walk", "heavy"])
def test_nine_in_ten_are_inside_at_each_distance(kind: str) -> None:
    """Whether errors grow with the distance or not; `usual` is far from the truth of the walk."""
    series = signal(kind, 2_000, 20)
    expected = level(series)
    errors = StepErrors(STEPS)
    errors.grow(series.shape[1])
    deviation = learnt(errors, series, expected)
    for step in range(1, STEPS + 1):
        margin = NINE_TENTHS * deviation[500:-step, :, step - 1]
        inside = np.abs(series[500 + step :] - expected[500:-step]) <= margin
        assert 0.87 <= inside.mean() <= 0.93, step


def test_the_margin_grows_with_the_distance_where_errors_do() -> None:
    """With its root where the value walks, not at all where it is noise."""
    for kind, low, high in (("walk", 1.5, 3.0), ("white", 0.9, 1.1)):
        series = signal(kind, 1_500, 20)
        errors = StepErrors(STEPS)
        errors.grow(series.shape[1])
        deviation = learnt(errors, series, level(series))[-1].mean(axis=0)
        assert low <= deviation[-1] / deviation[0] <= high


@pytest.mark.live  # a second: as many windows as an interval is learnt of
def test_a_window_of_ten_seconds_is_inside_nine_times_in_ten() -> None:
    """Learners see windows of 1 s, whose errors are not those of 10 s: less of noise, more of a walk."""
    for kind in ("white", "walk"):
        series = signal(kind, 4_000, 24)
        learners, forecasts = LearnerBank(), Forecasts()
        learners.grow(series.shape[1])
        forecasts.grow(series.shape[1])
        slots = np.arange(series.shape[1])
        slot, ones = np.repeat(slots, 10), np.ones(10 * len(slots), dtype=np.int64)
        told = []
        for begin in range(0, len(series), 10):
            ten = series[begin : begin + 10]
            start = np.tile(np.arange(begin, begin + 10) * BASE_MS, len(slots))
            scores = learners.observe(slot, ten.T.reshape(-1), np.zeros(len(slot)), ones, start)
            over = (slots, np.full(len(slots), begin * BASE_MS), ten.mean(axis=0))
            told.append(forecasts.make(slot, start, scores, over))
        means = series.reshape(-1, 10, series.shape[1]).mean(axis=1)
        inside = [
            np.abs(actual - before.value) <= NINE_TENTHS * before.deviation
            for actual, before in zip(means[101:], told[100:], strict=False)
        ]
        assert 0.87 <= np.mean(inside) <= 0.93, kind
        assert told[-1].target[0] - told[-1].made_at[0] == HORIZON_MS


rows = st.lists(st.tuples(st.integers(0, 3), st.floats(-9, 9), st.floats(-9, 9)), max_size=40)


@settings(deadline=None, max_examples=60)
@given(rows, st.lists(st.integers(0, 40), max_size=4))
def test_cuts_and_restarts_change_nothing(windows: list[tuple[int, float, float]], cuts: list[int]) -> None:
    """Windows of several sensors together, one by one, and with the state dumped and loaded in between."""
    whole, cut = StepErrors(3), StepErrors(3)
    for errors in (whole, cut):
        errors.grow(4)
    wanted = [learn(whole, [row])[0].tobytes() for row in windows]
    found: dict[int, bytes] = {}
    places = sorted({0, len(windows), *(place for place in cuts if place < len(windows))})
    for begin, end in pairwise(places):
        order = sorted(range(begin, end), key=lambda row: windows[row][0])
        told = learn(cut, [windows[row] for row in order])
        found |= {row: told[index].tobytes() for index, row in enumerate(order)}
        again = StepErrors(3)
        again.grow(4)
        again.load(0, 4, cut.dump(0, 4))
        cut = again
    assert [found[row] for row in range(len(windows))] == wanted


def learn(errors: StepErrors, windows: list[tuple[int, float, float]]) -> Floats:
    """Windows as (slot, mean, forecast)."""
    slot = np.array([row[0] for row in windows], dtype=np.int64)
    mean, forecast = (np.array([row[column] for row in windows], dtype=np.float64) for column in (1, 2))
    return errors.learn(slot, mean, forecast, np.ones(len(windows)))


def test_another_number_of_steps_keeps_what_both_have() -> None:
    """Who changes the setting loses no step's margin; those that are new begin with the usual deviation."""
    series = signal("white", 600, 2) / 10
    few, more = StepErrors(2), StepErrors(4)
    few.grow(2)
    more.grow(2)
    told = learnt(few, series, level(series))[-1]
    more.load(0, 2, few.dump(0, 2))
    slots = np.arange(2)
    first = more.learn(slots, np.zeros(2), np.zeros(2), np.ones(2))
    assert np.allclose(first[:, :2], told, rtol=0.05)
    assert first[:, 2:].tolist() == [[1.0, 1.0]] * 2
    few.load(0, 2, more.dump(0, 2))
    assert few.square.tolist() == more.square[:, :2].tolist()


def test_a_constant_value_is_inside() -> None:
    """Of no width at all: nothing is divided by, and nothing is missed."""
    errors = StepErrors(2)
    errors.grow(1)
    for _ in range(30):
        told = errors.learn(np.array([0]), np.array([20.1]), np.array([20.1]), np.array([0.0]))
    assert told.tolist() == [[0.0, 0.0]]
    assert (errors.widened < 0).all()


def test_the_settings_bound_is_the_cores() -> None:
    """Replays look for predictions as far ahead as there can be."""
    bounds = {type(one).__name__: one for one in Settings.model_fields["horizon"].metadata}
    assert bounds["Le"].le == MOST_STEPS
