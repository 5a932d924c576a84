"""The learners' formulas: what a sensor's past windows say about the next one, for many sensors at once or for one.

A window is compared with three things: the level of the last few windows (`level`, or `difference` for a sudden jump), a
slower level (`trend`: the two levels part where values creep away), and the usual deviation inside a window (`spread`). A
value that stays the same for longer than ever before is `stuck`. What the last hour said about the `season`
(`core/season.py`) or a slow `drift` (`core/drift.py`) holds until the next hour is over.
Squares have a floor that grows with the value, so that constant, tiny and huge signals do not divide by zero.

The numbers were chosen on labelled series of the Numenta Anomaly Benchmark, one setting for all; the score is
flat around each of them (`docs/severity.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from streamproc.core.fading import clip, clipped, nearer, still
from streamproc.core.pairs import PAIR_FROM, pair
from streamproc.core.season import DAY_WARM, DAY_WEIGHT, END, HELD, HELD_BY_DRIFT, USUAL
from streamproc.core.tails import HALF_SURPRISE, SINGLE, Arithmetic, Value, surprise_of

#: What made a score, by its number.
EVIDENCE = ("none", "level", "difference", "spread", "stuck", "trend", "season", "drift")
NONE, LEVEL, DIFFERENCE, SPREAD, STUCK, TREND, SEASON, DRIFT = range(8)

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
#: The widest deviation fades by this factor a window: a day of one-second windows …
WIDEST_FADING = 0.99999
#: … and a twentieth of it (squared) always counts as usual, so that a machine that starts each morning after
#: an idle night is not critical each morning.
WIDEST_PART = 0.0025
#: A single window so far out (squared, weighted) is named for itself, though levels part even more clearly.
CLEARLY = 9.0
#: Single windows stray further than levels do: their squares count for less, the more so the heavier the sensor's tails are.
#: Those are measured by the mean fourth power of a deviation in units of the usual one: 3 where the noise is Gaussian.
SINGLE_PART = 6.0
GAUSSIAN_TAILS = 3.0
#: What is taken for it at first, until as much as the scale is known.
TAILS_AT_FIRST = 5.0
#: One deviation says of the tails what 7 sigma would: a single spike does not hide the next.
TAILS_CLIP = 50.0
#: A window is judged by the tails as they were some 10 windows ago, so that a fault's first one, still small, does not hide
#: the next.
TAILS_DELAY = 0.1
#: A value that rests and then moves as it always does is no surprise, however long it has rested: single windows are measured
#: by this part of the mean square of its moves at least …
MOVE_PART = 0.25
#: … and so are levels that part, by this, of sensors that have rested for so many windows, or half of their life: long enough
#: for the squares to fade. Of others the moves are noise, which levels do not follow.
MOVE_TREND, RESTING = 0.5, 100.0
#: Before it has moved, it is taken to move by 2 % of its value, in units of what is no deviation (squared).
MOVE_AT_FIRST = 1600.0
#: The last so many moves count …
MOVES_KNOWN = 48.0
#: … and from so many on one counts for no more than four usual ones (squared).
MOVES_FEW, MOVE_CLIP = 8.0, 16.0
#: The squares of deviations inside windows count for this much.
SPREAD_PART = 0.3
#: A surprise is told when it is 15 % greater than any that was told lately; the bar sinks by HABIT a
#: window. What was no alarm hides none: an alarm is told after it, however little greater.
REPEAT_BAR = 1.15
HABIT = 0.997
#: A value is stuck after this many equal windows more than STUCK_FACTOR times its longest rest so far …
STUCK_WINDOWS = 20
STUCK_FACTOR = 2.0
#: … which fades by this factor with each window that moves. A sensor that has rested for so many windows is one whose values
#: repeat, and one that has moved for fewer than STUCK_WINDOWS may be: it is given a week to show for how long.
RESTED = 3.0
REST_FADING = 0.99999
#: How surprising that is: an alarm, never a critical one.
STUCK_SURPRISE = 3.5
#: An hour that is so far from its season's counts for this much of its square.
SEASON_PART = 1.0
#: A forecast's margin of 90 % is this many deviations, widened by what was outside: a miss by MISSED, a hit narrows it by
#: HIT, so that in the long run one in ten is outside, however heavy the tails …
NINE_TENTHS = 1.6448536269514722
MISSED, HIT = 0.018, 0.002
#: … and never to less than a fifth: a quantised signal mostly hits exactly.
NARROWEST = -0.8

#: The state of a sensor as the columns of one row; the first two mirror its River objects.
LEARNT_LEVEL, LEARNT_ERROR, LEVEL_WEIGHT, SLOW_LEVEL, SLOW_WEIGHT, SCALE_WEIGHT, TREND_SQUARE, LAST = range(8)
SPREAD_MEAN, SPREAD_SQUARE, SPREAD_WEIGHT, RUN, LONGEST, WINDOWS, TOLD = range(8, 15)
WIDEST, WIDENED, TAILS, MOVE_SQUARE, MOVES, TAILS_BEFORE = range(15, 21)
#: Those of the season follow (`core/season.py`).
WIDTH = END


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers above that users can have other values of (`core/numbers.py`); `spread_warm` follows from two of them."""

    level_fading: float = LEVEL_FADING
    slow_fading: float = SLOW_FADING
    scale_fading: float = SCALE_FADING
    spread_fading: float = SPREAD_FADING
    warm_up: float = WARM_UP
    single_part: float = SINGLE_PART
    spread_part: float = SPREAD_PART
    season_part: float = SEASON_PART
    stuck_windows: float = STUCK_WINDOWS
    spread_warm: float = SPREAD_WARM


#: Those of sensors that nobody has tuned.
USUAL_NUMBERS = Numbers()


class Judgement(NamedTuple):
    """One window judged, and what is to be learnt of it: columns of shape (k,), or numbers.

    `told` is the surprise where it is worth telling, else 0. `level` and `error` (a square) are for the River
    objects; `state` holds the columns from LEVEL_WEIGHT to TAILS_BEFORE.
    """

    surprise: Value
    told: Value
    evidence: Value
    expected: Value
    level: Value
    error: Value
    state: tuple[Value, ...]


def judge(  # noqa: PLR0913, PLR0917  # a window's numbers, and what they are judged by
    state: Value,
    mean: Value,
    deviation: Value,
    count: Value,
    turned: Value,
    a: Arithmetic,
    n: Numbers = USUAL_NUMBERS,
) -> Judgement:
    """Judge one window by `state` (WIDTH columns), then learn it; `turned`: an hour was over just before it."""
    windows, last = state[WINDOWS], state[LAST]
    seen = windows > 0
    fit = fit_of(state, mean, seen, a)
    trend, trend_state = _trend(state, fit, a, n)
    spread, spread_state = _spread(state, deviation, count >= 2, fit.still, a, n)  # noqa: PLR2004  # one has none
    stuck, rested, rest_state = _stuck(state, seen & (mean == last) & (deviation == 0), a, n)
    jumped = (mean - last) * (mean - last) > 0.5 * fit.square
    moving, evidence = _strongest((_single(state, fit, a, n), trend, n.spread_part * spread), jumped, a)
    seasonal = n.season_part * state[HELD]
    alive = surprise_of(
        a.least(a.greatest(moving, seasonal), windows * windows), a
    )  # n tell of 1 in n^2 at most
    surprise = a.where(windows >= n.warm_up, a.greatest(alive, stuck), 0.0)
    bar = state[TOLD] * HABIT
    tell = (surprise > bar) & a.where(surprise > stuck, turned | (moving >= seasonal), rested)
    kind = a.where(stuck > alive, STUCK, a.where(moving < seasonal, SEASON + state[HELD_BY_DRIFT], evidence))
    return Judgement(
        surprise=surprise,
        told=a.where(tell, surprise, 0.0),
        evidence=a.where(surprise > 0, kind, NONE),
        expected=a.where(kind >= SEASON, state[USUAL], fit.expected),
        level=fit.level,
        error=fit.learnt,
        state=(
            *trend_state,
            mean,
            *spread_state,
            *rest_state,
            windows + 1,
            a.where(tell, bar_of(surprise, a), bar),
            a.greatest(fit.learnt, WIDEST_FADING * state[WIDEST]),
            _widened(state, fit, a),
            _tails(state, fit, a, n),
            *_moves(state, mean, seen, fit, a),
            nearer(state[TAILS_BEFORE], state[TAILS], TAILS_DELAY),
        ),
    )


class Fit(NamedTuple):
    """A window's mean against the level: `square` is the error's, `ratio` the same by `usual`, what is usual of it.

    `still` is the square of what is no deviation for a value of this size, `floor` that of what never
    surprises this sensor; `learnt` and `level` are the square and the mean that are to be learnt. `move` is the mean square
    of its moves.
    """

    expected: Value
    scale: Value
    still: Value
    floor: Value
    square: Value
    usual: Value
    ratio: Value
    learnt: Value
    level: Value
    move: Value


def fit_of(state: Value, mean: Value, seen: Value, a: Arithmetic) -> Fit:
    """Compare a window's mean with the level; `seen`: there was a window before."""
    expected = a.where(seen, state[LEARNT_LEVEL] / a.where(seen, state[LEVEL_WEIGHT], 1.0), mean)
    scale = a.where(seen, state[SCALE_WEIGHT], 1.0)
    least = still(expected)
    floor = least + WIDEST_PART * state[WIDEST]
    error = mean - expected
    square = error * error
    variance = state[LEARNT_ERROR] / scale + floor
    learnt = clip(square, variance, state[LEARNT_ERROR], a)
    level = expected + clipped(error, square, learnt, a)
    move = a.where(state[MOVES] > 0, state[MOVE_SQUARE], MOVE_AT_FIRST * least)
    usual = a.greatest(variance, MOVE_PART * move)
    return Fit(expected, scale, least, floor, square, usual, square / usual, learnt, level, move)


def _moves(state: Value, mean: Value, seen: Value, fit: Fit, a: Arithmetic) -> tuple[Value, Value]:
    """Return the mean square of moves, and how many are known, after one more window."""
    count = state[MOVES]
    move = mean - state[LAST]
    moved = seen & (move != 0)
    square = move * move
    square = a.where(count >= MOVES_FEW, a.least(square, MOVE_CLIP * fit.move), square)
    return (
        a.where(moved, fit.move + (square - fit.move) / (count + 2), state[MOVE_SQUARE]),
        a.where(moved, a.least(count + 1, MOVES_KNOWN), count),
    )


def _tails(state: Value, fit: Fit, a: Arithmetic, n: Numbers) -> Value:
    """Return how heavy the tails are after one more deviation."""
    ratio = a.least(fit.ratio, TAILS_CLIP)
    # Before the scale is known, deviations seem wild.
    return nearer(
        state[TAILS], a.where(state[WINDOWS] >= n.warm_up, ratio * ratio, TAILS_AT_FIRST), n.scale_fading
    )


def _single(state: Value, fit: Fit, a: Arithmetic, n: Numbers) -> Value:
    """Return the square of a window's deviation by the usual, or of its and the last one's, weighed by the sensor's tails."""
    tails = state[TAILS_BEFORE] + (1 - state[SCALE_WEIGHT]) * TAILS_AT_FIRST
    tails = a.greatest(tails, GAUSSIAN_TAILS)
    part = n.single_part / (tails * tails)
    far = fit.ratio >= PAIR_FROM
    if not a.some(far):
        return part * fit.ratio
    both = a.sqrt(fit.square) * abs(state[LAST] - fit.expected)
    repeats = a.greatest(state[RUN], state[LONGEST]) >= RESTED
    together = GAUSSIAN_TAILS / tails * pair(both, fit.usual, fit.move, repeats, a)
    return part * a.where(far, a.greatest(fit.ratio, together), fit.ratio)


def _widened(state: Value, fit: Fit, a: Arithmetic) -> Value:
    """Return by how much of it the margin of forecasts is widened, after one more came true or not."""
    widened = state[WIDENED]
    margin = NINE_TENTHS * (1 + widened)
    missed = fit.square * fit.scale > margin * margin * state[LEARNT_ERROR]
    return a.where(missed, widened + MISSED, a.greatest(widened - HIT, NARROWEST))


def _trend(state: Value, fit: Fit, a: Arithmetic, n: Numbers) -> tuple[Value, tuple[Value, ...]]:
    """Return the square of how far the levels part, by the usual, and LEVEL_WEIGHT to TREND_SQUARE anew."""
    level, slow, known = state[LEARNT_LEVEL], state[SLOW_LEVEL], state[TREND_SQUARE]
    level_weight = nearer(state[LEVEL_WEIGHT], 1, n.level_fading)
    slow_weight = nearer(state[SLOW_WEIGHT], 1, n.slow_fading)
    scale_weight = nearer(state[SCALE_WEIGHT], 1, n.scale_fading)
    slow = nearer(slow, fit.level, n.slow_fading)
    parted = nearer(level, fit.level, n.level_fading) / level_weight - slow / slow_weight
    parted *= parted
    usual = known / fit.scale + n.level_fading * fit.floor
    learnt = nearer(known, clip(parted, usual, known, a), n.scale_fading)
    rests = a.greatest(state[RUN], state[LONGEST]) >= a.least(RESTING, 0.5 * state[WINDOWS])
    by_moves = a.where(rests, n.level_fading * MOVE_TREND * fit.move, 0.0)
    ratio = parted / a.greatest(usual, by_moves)
    return ratio, (level_weight, slow, slow_weight, scale_weight, learnt)


def _spread(
    state: Value, deviation: Value, known: Value, floor: Value, a: Arithmetic, n: Numbers
) -> tuple[Value, tuple[Value, Value, Value]]:
    """Return the squared excess of the window's own deviation over the usual one, and what is learnt of it.

    Windows of one reading have no deviation: they say nothing and teach nothing.
    """
    mean, learnt_square, weight = state[SPREAD_MEAN], state[SPREAD_SQUARE], state[SPREAD_WEIGHT]
    if not a.some(known):
        return 0.0, (mean, learnt_square, weight)
    seen = weight > 0
    whole = a.where(seen, weight, 1.0)
    excess = a.where(seen, deviation - mean / whole, 0.0)
    square = excess * excess
    variance = learnt_square / whole + floor
    learnt = clip(square, variance, learnt_square, a)
    level = deviation - excess + clipped(excess, square, learnt, a)
    fading = a.where(known, n.spread_fading, 0.0)
    surprising = known & (excess > 0) & (weight >= n.spread_warm)
    return a.where(surprising, square / variance, 0.0), (
        nearer(mean, level, fading),
        nearer(learnt_square, learnt, fading),
        nearer(weight, 1, fading),
    )


def _stuck(state: Value, same: Value, a: Arithmetic, n: Numbers) -> tuple[Value, Value, tuple[Value, Value]]:
    """Return how surprising the value's rest is, whether that is new, and the rests: this one, the longest.

    A value that never moved is not stuck, and one that rests now and then not before its rests are known.
    """
    run, longest, windows = state[RUN], state[LONGEST], state[WINDOWS]
    resting, bound = run + 1, n.stuck_windows + STUCK_FACTOR * longest
    quick = (longest < RESTED) & (state[MOVES] >= n.stuck_windows)
    known = quick | (state[DAY_WEIGHT] >= DAY_WARM)
    stuck = same & (resting >= bound) & (resting < windows) & known
    fresh = stuck & ((run < bound) | (windows == n.warm_up))
    moved = a.greatest(longest * REST_FADING, run)
    return (
        a.where(stuck, STUCK_SURPRISE, 0.0),
        fresh,
        (a.where(same, resting, 0.0), a.where(same, longest, moved)),
    )


def bar_of(surprise: Value, a: Arithmetic) -> Value:
    """Return what a surprise must be greater than to be told after this one."""
    bar = REPEAT_BAR * surprise
    return a.where(surprise < HALF_SURPRISE, a.least(bar, HALF_SURPRISE), bar)


def _strongest(squares: tuple[Value, Value, Value], jumped: Value, a: Arithmetic) -> tuple[Value, Value]:
    """Return the greatest square and its evidence."""
    single, trend, spread = squares
    greatest = a.greatest(a.greatest(single, trend), spread)
    alone = a.where(jumped, DIFFERENCE, LEVEL)
    together = a.where(single >= a.least(trend, CLEARLY), alone, TREND)
    return greatest, a.where(spread > a.greatest(single, trend), SPREAD, together)


class Weighed(NamedTuple):
    """One kind of evidence of a window: its surprise, what it saw, what is usual, and by how much that is usually missed."""

    surprise: float
    saw: float | None = None
    usual: float | None = None
    deviation: float | None = None


def weigh(state: Value, mean: float, deviation: float, count: float, n: Numbers) -> dict[str, Weighed]:
    """Return what `judge` weighs of one window of one sensor, by the evidence's name: for whoever asks why.

    Nothing is learnt. `stuck` counts windows of rest, and its `usual` is how many there must be.
    """
    a, known, last = SINGLE, state[WINDOWS], state[LAST]
    fit = fit_of(state, mean, known > 0, a)
    kind = DIFFERENCE if (mean - last) * (mean - last) > 0.5 * fit.square else LEVEL
    usual = max(state[LEARNT_ERROR] / fit.scale + fit.floor, MOVE_PART * fit.move)
    parted, (weight, slow, slow_weight, *_) = _trend(state, fit, a, n)
    level, slow = nearer(state[LEARNT_LEVEL], fit.level, n.level_fading) / weight, slow / slow_weight
    stuck, _, (rest, _) = _stuck(state, known > 0 and mean == last and deviation == 0, a, n)

    def surprise(square: float) -> float:
        told: float = surprise_of(min(square, known * known), a)
        return told if known >= n.warm_up else 0.0

    found = {
        kind: Weighed(surprise(_single(state, fit, a, n)), mean, fit.expected, sqrt(usual)),
        TREND: Weighed(surprise(parted), level, slow, _usual(level - slow, parted)),
    }
    if held := n.season_part * state[HELD]:
        found[SEASON + int(state[HELD_BY_DRIFT])] = Weighed(surprise(held), usual=state[USUAL])
    if rest:
        most = n.stuck_windows + STUCK_FACTOR * state[LONGEST]
        found[STUCK] = Weighed(stuck if known >= n.warm_up else 0.0, rest, most)
    if count >= 2:  # noqa: PLR2004  # one has no spread
        square, _ = _spread(state, deviation, True, fit.still, a, n)
        inside = state[SPREAD_MEAN] / (state[SPREAD_WEIGHT] or 1.0)
        found[SPREAD] = Weighed(
            surprise(n.spread_part * square), deviation, inside, _usual(deviation - inside, square)
        )
    return {EVIDENCE[which]: one for which, one in found.items()}


def _usual(far: float, square: float) -> float | None:
    """Return how far it usually is, of how far it is now and the square of that by the usual."""
    return abs(far) / sqrt(square) if square > 0 else None
