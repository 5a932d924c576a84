"""What a sensor's last windows say of the next: the formulas, for many sensors at once or for one.

Every step reads a sensor's state and its new window, and says how surprising that is and what is to be learnt of it.
All squares have a floor that grows with the value, so constant, tiny and huge signals divide by no zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamproc.core.tails import Arithmetic, Value, log10, surprise_of

#: What made a score, by its number.
EVIDENCE = ("none", "level", "difference", "spread", "stuck")
LEVEL, DIFFERENCE, SPREAD, STUCK = 1, 2, 3, 4

#: Fading factor of the level and of all scales: the last 50 windows weigh 63 %.
FADING = 0.02
#: Windows before a sensor is judged.
WARM_UP = 30
#: A deviation below this part of the value's size is no deviation: sensors are not more exact than that.
RELATIVE_FLOOR = 0.02
#: Squares of values below 1e-140 vanish in a double; this keeps 0/0 away.
ABSOLUTE_FLOOR = 1e-280
#: What is learnt of one deviation is cut at six sigma, so that a spike does not spoil the scale.
CLIP_SQUARE = 36.0
#: A score is told when it exceeds all lately told ones; those fade by this factor a window.
HABIT = 0.997
#: The weight that WARM_UP windows give.
SPREAD_WARM = 1 - (1 - FADING) ** WARM_UP
#: Nobody's values repeat more rarely than we could have seen.
LEAST_REPEATS = 0.1
#: Equal windows in a row before a value can be called stuck.
STUCK_WINDOWS = 5

#: The state of a sensor as columns of one row; LEARNT_LEVEL and LEARNT_ERROR mirror its River objects.
LEARNT_LEVEL, LEARNT_ERROR, WEIGHT, CHANGE, LAST, SPREAD_MEAN, SPREAD_ERROR, SPREAD_WEIGHT = range(8)
REPEATS, RUN, WINDOWS, TOLD = range(8, 12)
WIDTH = 12


@dataclass(frozen=True, slots=True)
class Judgement:
    """One window judged, and what is to be learnt of it: columns of shape (k,), or numbers.

    `level` and `error` (a square) are for the River objects; `state` holds the columns from WEIGHT on.
    """

    surprise: Value
    evidence: Value
    expected: Value
    deviation: Value
    level: Value
    error: Value
    state: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """A window's own deviation against the usual: its squared excess, and the new state of that learner."""

    square: Value
    state: tuple[Value, Value, Value]


def judge(state: Value, mean: Value, deviation: Value, count: Value, a: Arithmetic) -> Judgement:
    """Judge one window by `state` (WIDTH columns): nothing of it has been learnt before it is judged."""
    weight, windows = state[WEIGHT], state[WINDOWS]
    seen, warm = windows > 0, windows >= WARM_UP
    whole = a.where(seen, weight, 1.0)
    expected = a.where(seen, state[LEARNT_LEVEL] / whole, mean)
    last = a.where(seen, state[LAST], mean)
    floor = RELATIVE_FLOOR * a.greatest(abs(mean), abs(expected))
    floor = floor * floor + ABSOLUTE_FLOOR
    error, difference = mean - expected, mean - last
    variance, change = state[LEARNT_ERROR] / whole + floor, state[CHANGE] / whole + floor
    error_square, change_square = error * error, difference * difference
    spread = _spread(state, deviation, count >= 2, floor, a)  # noqa: PLR2004  # one reading has no deviation
    stuck, run, repeats = _stuck(state, (difference == 0) & (deviation == 0) & seen, whole, a)
    surprise, evidence = _strongest(
        (error_square / variance, change_square / change, spread.square), stuck, a
    )
    surprise = a.where(warm, surprise, 0.0)
    told = state[TOLD] * HABIT
    told_now = surprise > told
    learnt = a.least(error_square, CLIP_SQUARE * variance)
    change_learnt = a.least(change_square, CLIP_SQUARE * change)
    return Judgement(
        surprise=a.where(told_now, surprise, 0.0),
        evidence=a.where(told_now, evidence, 0),
        expected=expected,
        deviation=a.sqrt(variance),
        level=expected + error * a.sqrt(learnt / (error_square + ABSOLUTE_FLOOR)),
        error=learnt,
        state=(
            weight + FADING * (1 - weight),
            state[CHANGE] + FADING * (change_learnt - state[CHANGE]),
            mean,
            *spread.state,
            repeats,
            run,
            windows + 1,
            a.greatest(told, surprise),
        ),
    )


def _spread(state: Value, deviation: Value, known: Value, floor: Value, a: Arithmetic) -> Spread:
    """How far a window's own deviation is above the usual one; windows of one reading say nothing and teach nothing."""
    mean, error, weight = state[SPREAD_MEAN], state[SPREAD_ERROR], state[SPREAD_WEIGHT]
    whole = a.where(weight > 0, weight, 1.0)
    excess = a.where(weight > 0, deviation - mean / whole, 0.0)
    variance = error / whole + floor
    square = excess * excess
    learnt = a.least(square, CLIP_SQUARE * variance)
    level = deviation - excess + excess * a.sqrt(learnt / (square + ABSOLUTE_FLOOR))
    fading = a.where(known, FADING, 0.0)
    return Spread(
        a.where(known & (excess > 0) & (weight > SPREAD_WARM), square / variance, 0.0),
        (mean + fading * (level - mean), error + fading * (learnt - error), weight + fading * (1 - weight)),
    )


def _stuck(state: Value, same: Value, whole: Value, a: Arithmetic) -> tuple[Value, Value, Value]:
    """How surprising it is that the value has not moved for so long; the run; the rate of repeats (to be divided)."""
    run = a.where(same, state[RUN] + 1, 0.0)
    rate = a.greatest(state[REPEATS] / whole, LEAST_REPEATS)
    surprise = a.where(run >= STUCK_WINDOWS, -run * log10(rate, a), 0.0)
    return surprise, run, state[REPEATS] + FADING * (a.where(same, 1.0, 0.0) - state[REPEATS])


def _strongest(squares: tuple[Value, Value, Value], stuck: Value, a: Arithmetic) -> tuple[Value, Value]:
    """The greatest surprise and the evidence that it comes from."""
    level, difference, spread = squares
    greatest = a.greatest(a.greatest(level, difference), spread)
    evidence = a.where(greatest == level, LEVEL, a.where(greatest == difference, DIFFERENCE, SPREAD))
    surprise = surprise_of(greatest, a)
    return a.greatest(surprise, stuck), a.where(stuck > surprise, STUCK, evidence)
