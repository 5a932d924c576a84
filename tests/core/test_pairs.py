"""Two windows in a row that are far out: what they say together, and of which sensors they say no more than one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamproc.core.judgement import DIFFERENCE, LEVEL, TREND
from streamproc.core.learners import FEW, LearnerBank
from streamproc.core.one_sensor import RUN
from streamproc.core.severity import ALARM, ALARM_SURPRISE
from streamproc.core.tails import anomaly_of
from tests.core.test_learners import bank, noise, watch

Floats = NDArray[np.float64]


def test_two_deviations_in_a_row_are_an_alarm_where_one_is_none() -> None:
    """Six to one side and six to the other are once in 10^17 windows of noise; one of six may be a spike."""
    for seed in range(5):
        series = noise(1_502, seed)
        series[1_500:] = 26, 14
        scores = watch(series)
        assert scores.anomaly[1_500] < ALARM < scores.anomaly[1_501]
        assert scores.evidence[1_501] in {LEVEL, DIFFERENCE}


def test_a_swing_is_told_at_its_second_window() -> None:
    """Ten deviations up and down in ten windows: none of them is an alarm by itself for long."""
    swing = 10 * np.sin(2 * np.pi * np.arange(1, 4) / 10)
    for seed in range(5):
        series = noise(1_503, seed)
        series[1_500:] += swing
        assert watch(series).anomaly[1_500:1_502].max() >= ALARM


def test_the_window_after_a_spike_is_no_news() -> None:
    """A spike moves the level a little, so what is as ever is off by two deviations: levels part, and that is all."""
    for seed in range(5):
        series = noise(1_502, seed)
        series[1_500:] = 40, 20
        scores = watch(series)
        assert scores.surprise[1_501] < ALARM_SURPRISE < scores.surprise[1_500]
        assert scores.evidence[1_501] == TREND


def test_of_values_that_wander_two_windows_say_no_more_than_one() -> None:
    """Where a window hangs on the one before, a deviation that stays is one and not two."""
    walks = np.cumsum(np.random.default_rng(1).normal(size=(600, 80)), axis=0) + 500
    walks[598:, 40:] += 11
    told = _told(walks)
    assert not told[:, :40].any()
    assert told[599].sum() <= 6


def test_of_values_that_repeat_two_windows_say_no_more_than_one() -> None:
    """Noise on a coarse grid: what it moves by when it does is no measure of how its windows hang together."""
    series = 2 * np.round(noise(1_502) / 2)
    series[1_500:] = 26, 14
    assert watch(series).anomaly[1_500:].max() < ALARM


def test_heavy_tails_are_no_bursts() -> None:
    """Student's t with 3 degrees of freedom strays far, but by one window at a time: pairs of windows add next to nothing."""
    drawn = np.random.default_rng(2).standard_t(3, size=(600, 80)) + 20
    far = np.abs(drawn - 20)
    told = np.argwhere(_told(drawn))
    assert 0 < len(told) < 40
    for row, sensor in told:
        assert far[row, sensor] > 5 * far[max(0, row - 300) : row, sensor].mean()


def test_pairs_are_judged_alike_in_columns_in_runs_and_one_by_one() -> None:
    """Bursts, rests and walks: the same bits however windows are batched."""
    rng = np.random.default_rng(3)
    series = rng.normal(size=(120, FEW + 2)) + 20
    series[:, ::3] = np.cumsum(series[:, ::3] - 20, axis=0)
    series[:, 1::3] = np.round(series[:, 1::3])
    series[90:] = 20 + 8 * (series[90:] - 20)
    columns = _scores(bank(FEW + 2), series, 1)
    assert np.array_equal(columns, np.stack([_alone(series[:, at], RUN) for at in range(FEW + 2)], axis=1))
    assert np.array_equal(columns, np.stack([_alone(series[:, at], 1) for at in range(FEW + 2)], axis=1))


def _told(series: Floats) -> NDArray[np.bool_]:
    """Where windows (rows, sensors) are alarms."""
    alarms: NDArray[np.bool_] = anomaly_of(_scores(bank(series.shape[1]), series, len(series))) >= ALARM
    return alarms


def _alone(series: Floats, batch: int) -> Floats:
    return _scores(bank(1), series[:, None], batch)[:, 0]


def _scores(learners: LearnerBank, series: Floats, batch: int) -> Floats:
    """The surprises of windows (rows, sensors), so many rows in a call."""
    rows, sensors = series.shape
    out = np.empty(series.shape)
    for begin in range(0, rows, batch):
        block = series[begin : begin + batch]
        at = np.repeat(np.arange(begin, begin + len(block)), sensors) * 1_000
        slots = np.tile(np.arange(sensors), len(block))
        scores = learners.observe(
            slots, block.ravel(), np.zeros(block.size), np.ones(block.size, np.int64), at
        )
        out[begin : begin + len(block)] = scores.surprise.reshape(block.shape)
    return out
