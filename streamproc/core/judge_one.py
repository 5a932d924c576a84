"""The formulas of `judgement` for one window, written out in plain floats: nearly twice as fast as through an arithmetic.

It gives the same bits; tests hold the two together, rows of every kind, one by one and in columns.
"""

from __future__ import annotations

from math import sqrt

from streamproc.core import judgement as j
from streamproc.core.fading import ABSOLUTE_FLOOR, CLIP_SQUARE, RELATIVE_FLOOR
from streamproc.core.season import DAY_WARM, DAY_WEIGHT, HELD, HELD_BY_DRIFT, USUAL
from streamproc.core.tails import surprise_of

#: Surprise, what of it is told, evidence, what was expected, and the level and the error that River is to learn.
One = tuple[float, float, int, float, float, float]


def judge_one(  # a window's numbers, and what they are judged by
    state: list[float],
    mean: float,
    deviation: float,
    count: int,
    turned: bool,
    n: j.Numbers = j.USUAL_NUMBERS,
) -> One:
    """Judge one window by `state`, and learn it but for River's part; `turned` as in `judgement.judge`."""
    windows, last, most = state[j.WINDOWS], state[j.LAST], state[j.WINDOWS] * state[j.WINDOWS]
    expected, least, square, single, trend, level, learnt = _move(state, mean, n)
    spread = n.spread_part * _spread(state, deviation, least, n) if count >= 2 else 0.0  # noqa: PLR2004  # one has none
    stuck, rested = _rest(state, windows > 0 and mean == last and deviation == 0, n)
    moving = max(trend, single)
    if spread > moving:
        moving, evidence = spread, j.SPREAD
    elif single >= (min(j.CLEARLY, trend)):
        evidence = j.DIFFERENCE if (mean - last) * (mean - last) > 0.5 * square else j.LEVEL
    else:
        evidence = j.TREND
    seasonal = n.season_part * state[HELD]
    greatest = moving
    if moving < seasonal:
        greatest, evidence = seasonal, j.SEASON + int(state[HELD_BY_DRIFT])
    surprise = told = 0.0
    bar = state[j.TOLD] * j.HABIT
    if windows >= n.warm_up:
        surprise = surprise_of(min(most, greatest))
        if stuck > surprise:
            surprise, evidence = stuck, j.STUCK
        if surprise > bar and ((turned or moving >= seasonal) if surprise > stuck else rested):
            told, bar = surprise, j.REPEAT_BAR * surprise
    if evidence >= j.SEASON:
        expected = state[USUAL]
    state[j.LAST], state[j.WINDOWS], state[j.TOLD] = mean, windows + 1, bar
    return surprise, told, evidence if surprise > 0 else j.NONE, expected, level, learnt


def _move(
    state: list[float], mean: float, n: j.Numbers
) -> tuple[float, float, float, float, float, float, float]:
    """Compare and learn the levels: expected, what is no deviation, the square, both by the usual, level, error."""
    levels, errors, level_weight, slow, slow_weight, scale_weight, known = state[: j.LAST]
    seen = state[j.WINDOWS] > 0
    expected, scale = (levels / level_weight, scale_weight) if seen else (mean, 1.0)
    least = RELATIVE_FLOOR * abs(expected)
    least = least * least + ABSOLUTE_FLOOR
    floor = least + j.WIDEST_PART * state[j.WIDEST]
    error = mean - expected
    square = error * error
    variance = errors / scale + floor
    before = state[j.TAILS_BEFORE]
    tails = before + (1 - scale_weight) * j.TAILS_AT_FIRST
    if tails < j.GAUSSIAN_TAILS:  # noqa: PLR1730  # twice as fast as the builtin, here and below
        tails = j.GAUSSIAN_TAILS
    count = state[j.MOVES]
    usual_move = state[j.MOVE_SQUARE] if count > 0 else j.MOVE_AT_FIRST * least
    by_moves = j.MOVE_PART * usual_move
    ratio = square / (variance if variance > by_moves else by_moves)  # noqa: FURB136  # twice as fast as the builtin
    single = n.single_part / (tails * tails) * ratio
    most = CLIP_SQUARE * variance
    learnt = most if errors > 0 and square >= most else square
    level = expected + error * sqrt(learnt / (square + ABSOLUTE_FLOOR))
    level_weight += n.level_fading * (1 - level_weight)
    slow += n.slow_fading * (level - slow)
    slow_weight += n.slow_fading * (1 - slow_weight)
    parted = (levels + n.level_fading * (level - levels)) / level_weight - slow / slow_weight
    parted *= parted
    usual = known / scale + n.level_fading * floor
    most = CLIP_SQUARE * usual
    known += n.scale_fading * ((most if known > 0 and parted >= most else parted) - known)
    scale_weight += n.scale_fading * (1 - scale_weight)
    state[j.LEVEL_WEIGHT : j.LAST] = level_weight, slow, slow_weight, scale_weight, known
    _widen(state, square * scale, errors, learnt)
    if ratio > j.TAILS_CLIP:  # noqa: PLR1730
        ratio = j.TAILS_CLIP
    state[j.TAILS_BEFORE] = before + j.TAILS_DELAY * (state[j.TAILS] - before)
    fourth = ratio * ratio if state[j.WINDOWS] >= n.warm_up else j.TAILS_AT_FIRST
    state[j.TAILS] += n.scale_fading * (fourth - state[j.TAILS])
    if seen and mean != state[j.LAST]:
        _moved(state, mean - state[j.LAST], usual_move)
    enough = 0.5 * state[j.WINDOWS] if state[j.WINDOWS] < 2 * j.RESTING else j.RESTING
    rests = state[j.LONGEST] >= enough or state[j.RUN] >= enough
    by_moves = n.level_fading * j.MOVE_TREND * usual_move if rests else 0.0
    trend = parted / (usual if usual > by_moves else by_moves)  # noqa: FURB136
    return expected, least, square, single, trend, level, learnt


def _moved(state: list[float], move: float, usual: float) -> None:
    """Learn how far a value moves, if it does; `usual` is the mean square so far."""
    count = state[j.MOVES]
    square = move * move
    if count >= j.MOVES_FEW and square > j.MOVE_CLIP * usual:
        square = j.MOVE_CLIP * usual
    state[j.MOVE_SQUARE] = usual + (square - usual) / (count + 2)
    state[j.MOVES] = count + 1 if count < j.MOVES_KNOWN else count


def _widen(state: list[float], scaled: float, errors: float, learnt: float) -> None:
    """Learn the widest deviation lately, and how much wider a forecast's margin has to be."""
    widest, widened = j.WIDEST_FADING * state[j.WIDEST], state[j.WIDENED]
    state[j.WIDEST] = max(widest, learnt)
    margin = j.NINE_TENTHS * (1 + widened)
    if scaled > margin * margin * errors:
        state[j.WIDENED] = widened + j.MISSED
    else:
        widened -= j.HIT
        state[j.WIDENED] = max(j.NARROWEST, widened)


def _spread(state: list[float], deviation: float, least: float, n: j.Numbers) -> float:
    """Compare and learn the deviation inside a window: the squared excess by the usual, where it is surprising."""
    mean, known, weight = state[j.SPREAD_MEAN : j.RUN]
    seen = weight > 0
    whole = weight if seen else 1.0
    excess = deviation - mean / whole if seen else 0.0
    square = excess * excess
    variance = known / whole + least
    most = CLIP_SQUARE * variance
    learnt = most if known > 0 and square >= most else square
    level = deviation - excess + excess * sqrt(learnt / (square + ABSOLUTE_FLOOR))
    state[j.SPREAD_MEAN : j.RUN] = (
        mean + n.spread_fading * (level - mean),
        known + n.spread_fading * (learnt - known),
        weight + n.spread_fading * (1 - weight),
    )
    return square / variance if excess > 0 and weight >= n.spread_warm else 0.0


def _rest(state: list[float], same: bool, n: j.Numbers) -> tuple[float, bool]:
    """Count how long the value has rested: how surprising that is, and whether that is new."""
    run, longest, windows = state[j.RUN], state[j.LONGEST], state[j.WINDOWS]
    if not same:
        faded = longest * j.REST_FADING
        state[j.RUN], state[j.LONGEST] = 0.0, max(run, faded)
        return 0.0, False
    resting, bound = run + 1, n.stuck_windows + j.STUCK_FACTOR * longest
    state[j.RUN] = resting
    quick = longest < j.RESTED and state[j.MOVES] >= n.stuck_windows
    known = quick or state[DAY_WEIGHT] >= DAY_WARM
    if resting < bound or resting >= windows or not known:
        return 0.0, False
    return j.STUCK_SURPRISE, run < bound or windows == n.warm_up
