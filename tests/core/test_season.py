"""Seasons: what is usual at an hour of the day and of the week, and when an hour unlike it is told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from streamproc.core.judgement import SEASON
from streamproc.core.learners import EVIDENCE
from streamproc.core.severity import ALARM
from tests.core.test_learners import MINUTE, bank, named, watch


def weeks(count: int, seed: int = 5) -> NDArray[np.float64]:
    """A sensor that reads every 10 minutes: a day's wave, half of it on two days in seven, and noise."""
    at = np.arange(count * 1_008)
    wave = 10 * np.sin(at * 2 * np.pi / 144) * np.where(at // 144 % 7 < 5, 1.0, 0.5)
    return 50 + wave + np.random.default_rng(seed).normal(0, 0.5, len(at))


def test_a_day_unlike_other_days_is_told_as_its_season() -> None:
    """A working day that passes like a day off moves smoothly: only its hours betray it."""
    series = weeks(5)
    begin = 4 * 1_008 + 2 * 144
    series[begin : begin + 144] = series[begin - 1_008 + 3 * 144 : begin - 1_008 + 4 * 144]
    scores = watch(series, 10 * MINUTE)
    told = np.flatnonzero(scores.anomaly > ALARM)
    assert begin < told[0] < begin + 72
    assert named(scores, int(told[0])) == EVIDENCE[SEASON]
    assert scores.expected[told[0]] == pytest.approx(weeks(5)[told[0] - 6 : told[0]].mean(), abs=1)


def test_a_season_that_keeps_its_course_is_never_told() -> None:
    """Days and weeks that are as they always are, also where days off are different."""
    scores = watch(weeks(6), 10 * MINUTE)
    assert not (scores.anomaly > ALARM).any()


def test_an_unusual_hour_is_told_once_while_it_holds() -> None:
    """What the last hour said stands until the next is over, but is no news in each of its windows."""
    series = weeks(4)
    begin = 3 * 1_008 + 30
    series[begin : begin + 12] += np.minimum(np.arange(12), 6) * 1.5
    scores = watch(np.repeat(series, 10), MINUTE)
    seasonal = np.flatnonzero(scores.evidence == SEASON)
    hours = seasonal[scores.surprise[seasonal] > 3] // 60
    told = np.flatnonzero((scores.anomaly > ALARM) & (scores.evidence == SEASON))
    assert len(np.unique(hours)) * 60 > len(told) * 20
    assert (told % 60 == 0).all()


def test_the_first_days_off_are_not_told() -> None:
    """After five days alike two others are: a week must pass before a day is said to be unlike the days before."""
    scores = watch(weeks(1), 10 * MINUTE)
    assert not (scores.evidence == SEASON).any()


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1.0, 1e30, 1e99])
def test_no_size_of_values_spoils_the_season(scale: float) -> None:
    """Profiles are stored in single precision: what it cannot hold makes no alarm and no number that is not finite."""
    scores = watch(weeks(3) * scale, 10 * MINUTE)
    assert np.isfinite(scores.expected).all()
    assert not (scores.anomaly > ALARM).any()


@pytest.mark.parametrize("every_s", [11, 45, 60, 300, 1_800, 3_600])
def test_hours_and_spells_end_in_a_run_as_they_do_one_by_one(every_s: int) -> None:
    """Windows that fill a spell, or an hour, or neither, in calls of every size, over the end of a week."""
    series, calls = weeks(1, 6)[:480], np.random.default_rng(2).integers(1, 150, 48)
    start = 1_699_999_200_000 + every_s * 1_000 * np.arange(len(series))
    told = []
    before_hours = np.arange(55, len(series), 60)  # where a window is a minute: by a spell
    for ends in (np.arange(1, len(series)), np.cumsum(calls), before_hours):
        learners, scores = bank(1), list[tuple[float, ...]]()
        for rows in np.split(np.arange(len(series)), ends[ends < len(series)]):
            none = np.zeros(len(rows), dtype=np.int64)
            of = learners.observe(none, series[rows], np.zeros(len(rows)), none + 1, start[rows])
            scores += zip(of.anomaly, of.expected, of.forecast, strict=True)
        told.append(np.array(scores).tobytes() + learners.dump([0]).tobytes())
    assert told[0] == told[1] == told[2]
