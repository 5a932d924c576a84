"""What a sensor's past windows say of the next: the formulas, for many sensors at once or for one.

A window is compared with three things: the level of the last few windows (`level`, or `difference` where it
is a sudden jump), a slower level (`trend`: the two levels part where values creep away), and the usual
deviation inside a window (`spread`). A value that does not move for longer than it ever did is `stuck`.
Squares have a floor that grows with the value, so constant, tiny and huge signals divide by no zero.

The numbers were chosen on labelled series of the Numenta Anomaly Benchmark, one setting for all; the score is
flat around each of them (`docs/severity.md`).
"""

from __future__ import annotations

from dataclasses import dataclass

from streamproc.core.tails import Arithmetic, Value, surprise_of

#: What made a score, by its number.
EVIDENCE = ("none", "level", "difference", "spread", "stuck", "trend")
NONE, LEVEL, DIFFERENCE, SPREAD, STUCK, TREND = range(6)

#: Fading of the level: the last 8 windows weigh 63 %.
LEVEL_FADING = 0.12
#: Fading of the slower level that it is compared with: 33 windows.
SLOW_FADING = 0.03
#: Fading of the squares that deviations are measured by: 500 windows.
SCALE_FADING = 0.002
#: Fading of the deviation inside a window, and of its square: 100 windows.
SPREAD_FADING = 0.01
#: Windows before a sensor is judged.
WARM_UP = 50
#: The weight of the spread's learner after WARM_UP windows that had one.
SPREAD_WARM = 1 - (1 - SPREAD_FADING) ** WARM_UP
#: What is below this part of the value's size is no deviation: the last bit of an 11-bit converter.
RELATIVE_FLOOR = 0.0005
#: Deviations below 1e-50 vanish; this keeps 0/0 away, and 1e100 squared over it in a double's range.
ABSOLUTE_FLOOR = 1e-100
#: What is learnt of one deviation is cut at 20 sigma, so that a spike does not spoil the scale.
CLIP_SQUARE = 400.0
#: The widest deviation fades by this factor a window: a day of one-second windows …
WIDEST_FADING = 0.99999
#: … and a twentieth of it (squared) always counts as usual, so that a machine that starts each morning after
#: an idle night is not critical each morning.
WIDEST_PART = 0.0025
#: A single window so far out (squared, weighted) is named for itself, though levels part even more clearly.
CLEARLY = 9.0
#: Single windows stray further than levels do: their squares count for less.
SINGLE_WEIGHT = 0.3
#: A surprise is told when it is a tenth greater than any that was told lately; the bar sinks by HABIT a
#: window.
REPEAT_BAR = 1.1
HABIT = 0.998
#: A value is stuck after this many equal windows more than STUCK_FACTOR times its longest rest so far …
STUCK_WINDOWS = 20
STUCK_FACTOR = 2.0
#: … which fades by this factor with each window that moves.
REST_FADING = 0.9995
#: How surprising that is: an alarm, never a critical one.
STUCK_SURPRISE = 3.5

#: The state of a sensor as the columns of one row; the first two mirror its River objects.
LEARNT_LEVEL, LEARNT_ERROR, LEVEL_WEIGHT, SLOW_LEVEL, SLOW_WEIGHT, SCALE_WEIGHT, TREND_SQUARE, LAST = range(8)
SPREAD_MEAN, SPREAD_SQUARE, SPREAD_WEIGHT, RUN, LONGEST, WINDOWS, TOLD = range(8, 15)
WIDEST = 15
WIDTH = 16


@dataclass(frozen=True, slots=True)
class Judgement:
    """One window judged, and what is to be learnt of it: columns of shape (k,), or numbers.

    `told` is the surprise where it is worth telling, else 0. `level` and `error` (a square) are for the River
    objects; `state` holds the columns from LEVEL_WEIGHT on.
    """

    surprise: Value
    told: Value
    evidence: Value
    expected: Value
    level: Value
    error: Value
    state: tuple[Value, ...]


def judge(state: Value, mean: Value, deviation: Value, count: Value, a: Arithmetic) -> Judgement:
    """Judge one window by `state` (WIDTH columns): nothing of it has been learnt before it is judged."""
    level_weight, scale_weight, windows = state[LEVEL_WEIGHT], state[SCALE_WEIGHT], state[WINDOWS]
    seen, warm = windows > 0, windows >= WARM_UP
    expected = a.where(seen, state[LEARNT_LEVEL] / a.where(seen, level_weight, 1.0), mean)
    scale = a.where(seen, scale_weight, 1.0)
    floor = RELATIVE_FLOOR * abs(expected)
    still = floor * floor + ABSOLUTE_FLOOR

    error = mean - expected
    square = error * error
    floor = still + WIDEST_PART * state[WIDEST]
    variance = state[LEARNT_ERROR] / scale + floor
    learnt = _clip(square, variance, state[LEARNT_ERROR], a)
    level = expected + error * a.sqrt(learnt / (square + ABSOLUTE_FLOOR))

    new_weight = level_weight + LEVEL_FADING * (1 - level_weight)
    slow = state[SLOW_LEVEL] + SLOW_FADING * (level - state[SLOW_LEVEL])
    slow_weight = state[SLOW_WEIGHT] + SLOW_FADING * (1 - state[SLOW_WEIGHT])
    fast = (state[LEARNT_LEVEL] + LEVEL_FADING * (level - state[LEARNT_LEVEL])) / new_weight
    parted = fast - slow / slow_weight
    parted *= parted
    usual = state[TREND_SQUARE] / scale + LEVEL_FADING * floor
    trend_learnt = _clip(parted, usual, state[TREND_SQUARE], a)

    spread, spread_state = _spread(state, deviation, count >= 2, still, a)  # noqa: PLR2004  # one has no spread
    stuck, fresh, rest_state = _stuck(state, seen & (mean == state[LAST]) & (deviation == 0), a)
    squares = (SINGLE_WEIGHT * square / variance, parted / usual, SINGLE_WEIGHT * spread)
    jump = mean - state[LAST]
    surprise, evidence = _strongest(squares, jump * jump > 0.5 * square, windows * windows, a)
    resting = stuck > surprise
    surprise = a.where(warm, a.greatest(surprise, stuck), 0.0)
    bar = state[TOLD] * HABIT
    tell = (surprise > bar) & (fresh | (surprise > stuck))
    return Judgement(
        surprise=surprise,
        told=a.where(tell, surprise, 0.0),
        evidence=a.where(surprise > 0, a.where(resting, STUCK, evidence), NONE),
        expected=expected,
        level=level,
        error=learnt,
        state=(
            new_weight,
            slow,
            slow_weight,
            scale_weight + SCALE_FADING * (1 - scale_weight),
            state[TREND_SQUARE] + SCALE_FADING * (trend_learnt - state[TREND_SQUARE]),
            mean,
            *spread_state,
            *rest_state,
            windows + 1,
            a.where(tell, REPEAT_BAR * surprise, bar),
            a.greatest(learnt, WIDEST_FADING * state[WIDEST]),
        ),
    )


def _spread(
    state: Value, deviation: Value, known: Value, floor: Value, a: Arithmetic
) -> tuple[Value, tuple[Value, Value, Value]]:
    """Return the squared excess of the window's own deviation over the usual one, and what is learnt of it.

    Windows of one reading have no deviation: they say nothing and teach nothing.
    """
    mean, learnt_square, weight = state[SPREAD_MEAN], state[SPREAD_SQUARE], state[SPREAD_WEIGHT]
    seen = weight > 0
    whole = a.where(seen, weight, 1.0)
    excess = a.where(seen, deviation - mean / whole, 0.0)
    square = excess * excess
    variance = learnt_square / whole + floor
    learnt = _clip(square, variance, learnt_square, a)
    level = deviation - excess + excess * a.sqrt(learnt / (square + ABSOLUTE_FLOOR))
    fading = a.where(known, SPREAD_FADING, 0.0)
    surprising = known & (excess > 0) & (weight >= SPREAD_WARM)
    return a.where(surprising, square / variance, 0.0), (
        mean + fading * (level - mean),
        learnt_square + fading * (learnt - learnt_square),
        weight + fading * (1 - weight),
    )


def _clip(square: Value, variance: Value, known: Value, a: Arithmetic) -> Value:
    """Return what is learnt of a squared deviation: not more than the clip, unless nothing ever deviated."""
    return a.where(known > 0, a.least(square, CLIP_SQUARE * variance), square)


def _stuck(state: Value, same: Value, a: Arithmetic) -> tuple[Value, Value, tuple[Value, Value]]:
    """Return how surprising the value's rest is, whether that is new, and the rests: this one, the longest.

    A value that never moved is not stuck.
    """
    run, longest, windows = state[RUN], state[LONGEST], state[WINDOWS]
    resting, bound = run + 1, STUCK_WINDOWS + STUCK_FACTOR * longest
    stuck = same & (resting >= bound) & (resting < windows)
    fresh = stuck & ((run < bound) | (windows == WARM_UP))
    moved = a.greatest(longest * REST_FADING, run)
    return (
        a.where(stuck, STUCK_SURPRISE, 0.0),
        fresh,
        (a.where(same, resting, 0.0), a.where(same, longest, moved)),
    )


def _strongest(
    squares: tuple[Value, Value, Value], jumped: Value, most: Value, a: Arithmetic
) -> tuple[Value, Value]:
    """Return the greatest surprise and its evidence: n windows tell of nothing rarer than 1 in n^2."""
    single, trend, spread = squares
    greatest = a.greatest(a.greatest(single, trend), spread)
    alone = a.where(jumped, DIFFERENCE, LEVEL)
    together = a.where(single >= a.least(trend, CLEARLY), alone, TREND)
    evidence = a.where(spread > a.greatest(single, trend), SPREAD, together)
    return surprise_of(a.least(greatest, most), a), evidence
