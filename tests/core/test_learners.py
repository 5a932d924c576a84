"""The learners: their contract, River's known faults that must not show, and what they find."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from river.stats import EWMean

from streamproc.core.judgement import (
    DIFFERENCE,
    LEVEL,
    SEASON,
    SPREAD,
    SPREAD_MEAN,
    SPREAD_WEIGHT,
    STUCK,
    TREND,
    WARM_UP,
    Numbers,
    judge,
)
from streamproc.core.learners import DUMPED, EVIDENCE, FEW, MANY, WIDTH, LearnerBank, Scores
from streamproc.core.one_sensor import RUN
from streamproc.core.severity import ALARM, CRITICAL_SURPRISE
from streamproc.core.tails import COLUMNS, SINGLE, anomaly_of, log10, surprise_of

Row = tuple[int, float, float, int, int]

HOUR = 3_600_000
MINUTE = 60_000

values = st.floats(-1e100, 1e100) | st.sampled_from([0.0, 20.0, 20.5, 1e-200, 5e-324, -1e100, 1e100])
rows_of_three = st.lists(
    st.tuples(
        st.integers(0, 2), values, st.floats(0, 1e100), st.integers(1, 1_000), st.integers(0, 300 * HOUR)
    ),
    max_size=80,
)


def bank(sensors: int) -> LearnerBank:
    """A bank of sensors that have seen nothing."""
    fresh = LearnerBank()
    fresh.grow(sensors)
    return fresh


def observe(learners: LearnerBank, rows: list[Row]) -> NDArray[np.float64]:
    """All columns of the scores of these rows, of shape (6, k)."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 5
    scores = learners.observe(*columns)
    return np.array([getattr(scores, name) for name in Scores.__slots__], dtype=np.float64)


def watch(series: NDArray[np.float64], step: int = 1_000) -> Scores:
    """The scores of one sensor's series, a value every so many ms."""
    n = len(series)
    return bank(1).observe([0] * n, series.tolist(), [0.0] * n, [1] * n, np.arange(n) * step)


def noise(n: int, seed: int = 1) -> NDArray[np.float64]:
    """A quiet sensor at 20 with a deviation of 1."""
    return 20 + np.random.default_rng(seed).normal(size=n)


@given(rows_of_three)
def test_scores_are_finite_and_bounded(rows: list[Row]) -> None:
    """Any accepted values, however large or small, give numbers, and anomalies from 0 to 1."""
    with np.errstate(all="raise", under="ignore"):
        anomaly, evidence, surprise, *numbers = observe(bank(3), rows)
    assert ((anomaly >= 0) & (anomaly < 1)).all()
    assert ((evidence >= 0) & (evidence < len(EVIDENCE))).all()
    assert (np.isfinite(surprise) & (surprise >= 0)).all()
    assert np.isfinite(numbers).all()


def mixed_rows(n: int, seed: int) -> list[Row]:
    """Many windows of 40 sensors, one of which has a third of them; some stay put, some spike; over some months."""
    rng = np.random.default_rng(seed)
    slots = np.where(rng.random(n) < 0.3, 0, rng.integers(0, 40, n))
    mean = np.where(rng.random(n) < 0.3, 5.0, rng.normal(size=n) * 10.0 ** rng.integers(-2, 3, n))
    deviation = np.where(rng.random(n) < 0.5, 0.0, rng.random(n))
    count, start = rng.integers(1, 4, n), np.cumsum(rng.integers(0, 2 * HOUR, n))
    columns = (slots, mean, deviation, count, start)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.live
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3_000), max_size=6), st.integers(0, 9), st.booleans())
def test_neither_batching_nor_a_restore_changes_a_bit(cuts: list[int], seed: int, restore: bool) -> None:
    """However rows are split into calls, and wherever state is dumped and loaded, the bytes are the same."""
    rows = mixed_rows(3_000, seed)
    whole = observe(bank(40), rows)
    learners, parts = bank(40), []
    edges = [0, *sorted(cuts), len(rows)]
    for begin, end in pairwise(edges):
        parts.append(observe(learners, rows[begin:end]))
        if restore:
            state, learners = learners.dump(range(40)), bank(40)
            learners.load(0, state[:7])
            learners.load(7, state[7:])
    assert np.concatenate(parts, axis=1).tobytes() == whole.tobytes()


def test_a_sensor_is_judged_as_if_it_were_alone() -> None:
    """What other sensors send, and at which slot a sensor is, changes nothing for it."""
    rows = mixed_rows(3_000, 3)
    whole = observe(bank(40), rows)
    for slot in (0, 17):
        mine = [index for index, row in enumerate(rows) if row[0] == slot]
        alone = observe(bank(1), [(0, *rows[index][1:]) for index in mine])
        assert alone.tobytes() == whole[:, mine].tobytes()


@cache
def experience(seed: int) -> NDArray[np.float64]:
    """The dumped state of a sensor that has seen so many hundred windows."""
    learners = bank(1)
    observe(learners, [(0, *row[1:]) for row in mixed_rows(300 * seed, seed)])
    return learners.dump([0])


@given(rows_of_three, st.integers(0, 3))
def test_one_window_and_columns_are_judged_to_the_same_bits(rows: list[Row], seed: int) -> None:
    """The arithmetic of single floats is that of columns, whatever a sensor has seen."""
    learners = bank(1)
    learners.load(0, experience(seed))
    for _, mean, deviation, count, start in rows:
        row, turned = learners.dump([0])[0, :WIDTH], start % 2 == 0
        single = row.tolist()
        told = judge(single, mean, deviation, count, turned, SINGLE)
        of, around, many, over = (np.array([part]) for part in (mean, deviation, float(count), turned))
        with np.errstate(all="ignore"):
            column = judge(row[:, None], of, around, many, over, COLUMNS)
        names = ("surprise", "told", "evidence", "expected", "level", "error")
        assert [float(getattr(told, name)) for name in names] == [
            float(getattr(column, name)[0]) for name in names
        ]
        assert list(told.state) == [float(part[0]) for part in column.state]
        observe(learners, [(0, mean, deviation, count, start)])


rows_of_one = st.lists(
    st.tuples(
        values | st.just(7.0),
        st.floats(0, 1e100),
        st.integers(1, 3),
        st.sampled_from([0, 1_000, 50_000, HOUR]),
    ),
    min_size=RUN,
    max_size=3 * RUN,
)


@pytest.mark.live
@settings(max_examples=30, deadline=None)
@given(rows_of_one, st.integers(0, 3), st.booleans())
def test_a_run_of_windows_is_judged_as_one_by_one(
    steps: list[tuple[float, float, int, int]], seed: int, tuned: bool
) -> None:
    """A sensor's windows all at once give the bits, and leave the state, that they do one after the other."""
    at_once, singly = bank(1), bank(1)
    for learners in (at_once, singly):
        if tuned:
            learners.tune(0, Numbers(level_fading=0.3, warm_up=10, stuck_windows=3.0))
        learners.load(0, experience(seed))
    times = np.cumsum([step for *_, step in steps]).tolist()
    rows = [(0, *step[:3], time) for step, time in zip(steps, times, strict=True)]
    whole = observe(at_once, rows)
    each = np.concatenate([observe(singly, [row]) for row in rows], axis=1)
    assert whole.tobytes() == each.tobytes()
    assert at_once.dump([0]).tobytes() == singly.dump([0]).tobytes()


def test_state_is_bounded_and_dumped_in_the_order_asked() -> None:
    """A sensor's state has DUMPED numbers for ever; `dump` gives the rows that it is asked for."""
    learners = bank(3)
    observe(learners, [(slot, value, 0.0, 1, 0) for value in noise(500).tolist() for slot in range(3)])
    assert learners.dump(range(3)).shape == (3, DUMPED)
    assert learners.dump([2, 0]).tobytes() == learners.dump(range(3))[[2, 0]].tobytes()


def test_sensors_are_judged_in_parts_that_fit_the_cache() -> None:
    """More sensors at once than MANY give what they give in two calls, and the last part may be of one sensor."""
    n = MANY + 1
    one, other = bank(n), bank(n)
    for value in noise(3).tolist():
        rows = [(slot, value + slot, 0.0, 1, 0) for slot in range(n)]
        whole = observe(one, rows)
        halves = np.concatenate([observe(other, rows[:MANY]), observe(other, rows[MANY:])], axis=1)
        assert whole.tobytes() == halves.tobytes()
    assert one.dump(range(n)).tobytes() == other.dump(range(n)).tobytes()


def test_levels_are_learnt_by_river() -> None:
    """The forecast is that of River's own EWMean, divided by the weight of what it has seen."""
    mean, weight = EWMean(0.12), 0.0
    mean.update(0.0)
    series = noise(60)
    for value in series.tolist():
        mean.update(value)
        weight += 0.12 * (1 - weight)
    assert watch(series).forecast[-1] == pytest.approx(mean.get() / weight, rel=1e-12)


def test_growing_leaves_the_others_as_they_are() -> None:
    """New sensors come behind, and start from nothing."""
    learners = bank(1)
    observe(learners, [(0, value, 0.0, 1, 0) for value in noise(100).tolist()])
    before = learners.dump([0])
    learners.grow(5)
    assert len(learners) == 6
    assert learners.dump([0]).tobytes() == before.tobytes()
    assert learners.dump(range(1, 6)).tobytes() == bank(5).dump(range(5)).tobytes()


@pytest.mark.parametrize("value", [0.0, 20.0, -1e100, 1e100, 1e-300])
def test_a_constant_signal_is_never_anomalous(value: float) -> None:
    """River's GaussianScorer scores 1.0 for ever here."""
    assert not watch(np.full(3_000, value)).surprise.any()


def test_a_change_after_a_constant_signal_is_seen_and_then_learnt() -> None:
    """A variance of zero is floored: the step is found at once, and is the new normal later."""
    scores = watch(np.concatenate([np.full(300, 20.0), np.full(600, 25.0)]))
    assert scores.anomaly[300] > ALARM
    assert scores.forecast[-1] == pytest.approx(25.0)
    assert not scores.anomaly[400:].any()


def test_the_scale_survives_a_spike() -> None:
    """After a spike of a million sigma the deviation is at most 1.6 times the usual one."""
    series = noise(1_000)
    usual = watch(series).deviation[-1]
    series[600] = 1e6
    spiked = watch(series)
    assert spiked.anomaly[600] > ALARM
    assert spiked.deviation[600] < 1.6 * usual
    assert abs(spiked.forecast[700] - 20) < 1


def test_a_spike_of_ten_sigma_is_told_at_once() -> None:
    """On 100 sensors of Gaussian noise at most 5 are missed: where the noise goes far the other way in that window."""
    rng, sensors, n = np.random.default_rng(8), 100, 1_000
    series = rng.normal(size=(n, sensors))
    series[-1] += 10
    columns = ([0.0] * n * sensors, [1] * n * sensors, [0] * n * sensors)
    scores = bank(sensors).observe(list(range(sensors)) * n, series.ravel().tolist(), *columns)
    assert (scores.anomaly[-sensors:] >= ALARM).sum() >= 95


def test_heavy_tails_are_learnt() -> None:
    """What is an alarm where the noise is Gaussian is usual where one reading in a hundred strays as far."""
    series = noise(3_000)
    series[50::100] += 8
    series[-1] = 20 + 8
    assert watch(noise(3_000)[:-1]).anomaly.max() < ALARM
    assert watch(np.append(noise(2_999), 28.0)).surprise[-1] > watch(series).surprise[-1] + 0.5


def test_surprise_does_not_saturate() -> None:
    """River's GaussianScorer cannot tell 8 sigma from 80; here more is more surprising."""
    surprises = []
    for jump in (8, 20, 80, 200):
        series = noise(500)
        series[-1] = 20 + jump
        surprises.append(float(watch(series).surprise[-1]))
    assert surprises == sorted(set(surprises))


def test_too_few_windows_are_not_judged() -> None:
    """River's HoltWinters raises before it has seen enough; here nothing surprises in the warm-up."""
    series = noise(WARM_UP + 1)
    series[[10, WARM_UP - 1, WARM_UP]] = 1e6
    surprise = watch(series).surprise
    assert not surprise[:WARM_UP].any()
    assert surprise[WARM_UP] > 0


def named(scores: Scores, row: int) -> str:
    """The evidence behind a row's score."""
    return EVIDENCE[int(scores.evidence[row])]


def test_a_jump_is_told_as_a_difference() -> None:
    """A step of 30 sigma is an alarm in the very window it comes in."""
    series = noise(400)
    series[300:] += 30
    scores = watch(series)
    assert scores.anomaly[300] > ALARM
    assert named(scores, 300) == EVIDENCE[DIFFERENCE]
    assert not (scores.anomaly[:300] > ALARM).any()


def test_creeping_away_is_told_as_a_trend() -> None:
    """A slow ramp, which no single window betrays, parts the two levels."""
    series = noise(1_000)
    series[600:] += 0.4 * np.arange(400)
    scores = watch(series)
    told = np.flatnonzero(scores.anomaly > ALARM)
    assert 600 < told[0] < 660
    assert named(scores, int(told[0])) == EVIDENCE[TREND]


def test_noise_inside_windows_is_told_as_spread() -> None:
    """Where the mean stays but the values inside a window fly apart, the spread tells."""
    n, rng = 400, np.random.default_rng(2)
    deviation = np.abs(rng.normal(1, 0.1, n))
    deviation[350] = 8.0
    scores = bank(1).observe([0] * n, noise(n).tolist(), deviation.tolist(), [10] * n, [0] * n)
    assert scores.anomaly[350] > ALARM
    assert named(scores, 350) == EVIDENCE[SPREAD]


def test_a_window_of_one_reading_has_no_spread() -> None:
    """A deviation of zero that only says `one reading` neither teaches nor alarms."""
    n = 400
    count = np.where(np.arange(n) % 2, 10, 1)
    deviation = np.where(count > 1, 1.0, 0.0)
    scores = bank(1).observe([0] * n, noise(n).tolist(), deviation.tolist(), count.tolist(), [0] * n)
    assert not (scores.anomaly > ALARM).any()


def test_windows_of_one_reading_leave_the_spread_as_it_was() -> None:
    """What is known of the deviation inside windows does not fade while windows have only one reading."""
    learners = bank(1)
    observe(learners, [(0, value, 1.0, 10, 0) for value in noise(100).tolist()])
    before = learners.dump([0])[0, SPREAD_MEAN : SPREAD_WEIGHT + 1].copy()
    observe(learners, [(0, value, 0.0, 1, 0) for value in noise(100, 2).tolist()])
    assert (learners.dump([0])[0, SPREAD_MEAN : SPREAD_WEIGHT + 1] == before).all()


def test_little_experience_claims_little() -> None:
    """After n windows nothing is rarer than one in n squared, however far out."""
    for n in (60, 200, 2_000):
        surprise = watch(np.append(np.zeros(n), 1e50)).surprise[-1]
        assert surprise == pytest.approx(2 * math.log10(1 + n * n))


def test_what_happens_every_day_is_not_critical_every_day() -> None:
    """A machine that starts after a long idle time, as it did before, does not surprise as the first time did."""
    day = np.concatenate([np.zeros(3_000), 10 + noise(1_000) - 20])
    scores = watch(np.tile(day, 4))
    starts = [scores.surprise[begin + 3_000 : begin + 3_010].max() for begin in range(0, 16_000, 4_000)]
    assert starts[0] >= CRITICAL_SURPRISE
    assert max(starts[1:]) < CRITICAL_SURPRISE


def test_a_stuck_value_is_told_once_and_not_as_critical() -> None:
    """A sensor that always moved is stuck after 20 windows of rest, told once, surprising while it rests."""
    series = noise(500)
    series[400:] = series[399]
    scores = watch(series)
    told = np.flatnonzero(scores.anomaly > ALARM)
    assert told[0] == 399 + 20
    assert named(scores, 419) == EVIDENCE[STUCK]
    assert (scores.surprise[419:] > 3).all()
    assert not scores.anomaly[420:].any()
    assert (scores.surprise < CRITICAL_SURPRISE).all()


def test_a_sensor_that_often_rests_is_not_stuck() -> None:
    """What is far too long for one sensor is usual for another: its own longest rest decides."""
    series = np.repeat(noise(60), 30)
    scores = watch(series)
    assert not (scores.evidence == STUCK).any()


def test_a_coarse_converter_that_rests_for_long_is_no_alarm() -> None:
    """A value that creeps up and down by steps of one, half an hour apart and more, flickers at each: so it always is."""
    sensors, n = 60, 1_500
    rng = np.random.default_rng(9)
    crept = 5 * np.sin(2 * np.pi * (np.arange(n)[:, None] / 86_400 + rng.random(sensors)))
    series = 50 + np.round(crept + 0.1 * rng.normal(size=(n, sensors)))
    start = np.repeat(np.arange(n) * 1_000, sensors)
    rows = n * sensors
    scores = bank(sensors).observe(
        list(range(sensors)) * n, series.ravel(), np.zeros(rows), np.ones(rows, dtype=np.int64), start
    )
    assert int((scores.anomaly >= ALARM).sum()) <= 1
    assert series.max() > 50 > series.min()


def test_a_leap_after_a_rest_is_an_alarm() -> None:
    """A resting sensor that moved by one now and then, each time no surprise, and moves by five at once."""
    series = np.repeat(50 + np.arange(20) % 2, 100).astype(float)
    series[1_950:] += 5
    scores = watch(series)
    assert scores.surprise[100:1_950].max() < 2
    assert scores.anomaly[1_950] > ALARM


def test_a_sensor_that_has_hardly_moved_is_not_stuck() -> None:
    """One that moved once before it came to rest: nothing is known of its rests."""
    series = np.full(300, 50.0)
    series[:2] = 51
    assert not (watch(series).evidence == STUCK).any()


def test_a_sensor_whose_values_repeat_has_a_week_to_show_its_rests() -> None:
    """Noise on a coarse grid: at rest for a hundred windows on its first days it is not stuck, after a week it is."""
    series = 2 * np.round(noise(9 * 1_440) / 2)
    for day, stuck in ((2, False), (8, True)):
        begin = day * 1_440
        rested = series.copy()
        rested[begin : begin + 100] = rested[begin]
        scores = watch(rested, MINUTE)
        assert (STUCK in scores.evidence[begin : begin + 100].tolist()) is stuck


def test_a_deviation_that_is_no_alarm_does_not_hide_the_next() -> None:
    """Of 6 deviations up, of 6 down, and of 10.5: who learns of the first two that this sensor strays misses the third."""
    for seed in range(5):
        series = noise(1_504, seed)
        series[1_500:] = 26, 20, 14, 30.5
        scores = watch(series)
        assert scores.anomaly[1_500:1_503].max() < ALARM < scores.anomaly[1_503]


def test_what_was_told_is_not_told_again_at_once() -> None:
    """The second of two equal spikes is surprising but adds nothing to the first."""
    series = noise(500)
    series[[300, 310]] = 60.0
    scores = watch(series)
    assert scores.anomaly[300] > ALARM
    assert scores.anomaly[310] == 0
    assert scores.surprise[310] > 2


@pytest.mark.live
@pytest.mark.parametrize("made", ["white", "autoregressive", "walk", "daily"])
def test_clean_series_raise_no_alarm(made: str) -> None:
    """On 100 clean sensors of 3,000 windows at most one alarm, and nine in ten means in the interval."""
    rng, sensors, n = np.random.default_rng(7), 100, 3_000
    steps = rng.normal(size=(n, sensors))
    series = {
        "white": 20 + steps,
        "autoregressive": 20 + _autoregressive(steps),
        "walk": np.cumsum(steps, axis=0),
        "daily": steps + 10 * np.sin(np.arange(n) * 2 * np.pi / 1_440)[:, None],
    }[made]
    start = np.repeat(np.arange(n) * MINUTE, sensors)
    scores = bank(sensors).observe(
        list(range(sensors)) * n, series.ravel().tolist(), [0.0] * n * sensors, [1] * n * sensors, start
    )
    assert (scores.anomaly >= ALARM).sum() <= 1
    forecast, sigma = (column.reshape(n, sensors)[200:-1] for column in (scores.forecast, scores.deviation))
    covered = np.abs(series[201:] - forecast) <= 1.645 * sigma
    assert 0.88 < covered.mean() < 0.92


@pytest.mark.parametrize("made", ["student", "steps", "doubling"])
def test_the_interval_covers_nine_in_ten_whatever_the_tails(made: str) -> None:
    """Where the errors are far from Gaussian, or grow, the margin is widened until it is right."""
    rng, n = np.random.default_rng(3), 6_000
    series = {
        "student": rng.standard_t(2, n),
        "steps": rng.normal(size=n) + 40 * (rng.random(n) < 0.05),
        "doubling": rng.normal(size=n) * np.exp2(np.arange(n) / 1_000),
    }[made]
    scores = watch(series)
    covered = np.abs(series[201:] - scores.forecast[200:-1]) <= 1.645 * scores.deviation[200:-1]
    assert 0.88 < covered.mean() < 0.92


def _autoregressive(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    series = np.zeros_like(steps)
    for row in range(1, len(steps)):
        series[row] = 0.9 * series[row - 1] + steps[row]
    return series


@given(st.floats(1e-300, 1e300))
def test_the_logarithm_is_right_and_the_same_in_both_arithmetics(value: float) -> None:
    """To 1e-8 of the library's, and bit by bit alike for columns and single numbers."""
    assert log10(value) == pytest.approx(math.log10(value), rel=1e-8, abs=1e-8)
    assert log10(np.array([value] * FEW), COLUMNS).tolist() == [log10(value)] * FEW


@given(st.floats(0, 1e290), st.floats(0, 1e290))
def test_scores_keep_the_order_of_deviations(a: float, b: float) -> None:
    """A greater deviation never has a lower surprise or anomaly, beyond the logarithm's rounding."""
    low, high = sorted((a, b))
    assert surprise_of(low) <= surprise_of(high) + 1e-8
    assert anomaly_of(surprise_of(low)) <= anomaly_of(surprise_of(high)) + 1e-8


def test_the_evidence_names_are_in_the_order_of_their_numbers() -> None:
    """What is written into checkpoints and events as a number keeps its meaning."""
    assert EVIDENCE == ("none", "level", "difference", "spread", "stuck", "trend", "season", "drift")
    assert (LEVEL, DIFFERENCE, SPREAD, STUCK, TREND, SEASON) == (1, 2, 3, 4, 5, 6)
