"""Judges a run of one sensor's windows, by the formulas of `judgement`.

What depends on the window before is learnt one by one, in plain floats; everything else is judged in columns. The results are
the same to the bit as window by window: tests compare the two. What cannot change an outcome is not computed: a square is cut
at 400 times its variance, which is no less than its known part, and by that alone most windows are no candidates.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from struct import pack
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from river._river_rust.stats import RsEWMean as EWMean

from streamproc.core import judgement as j
from streamproc.core.course import owed
from streamproc.core.fading import ABSOLUTE_FLOOR, CLIP_SQUARE, RELATIVE_FLOOR, nearer, still
from streamproc.core.season import ALONG, SPELL
from streamproc.core.tails import COLUMNS, SINGLE
from streamproc.core.windows import Floats, Ints

#: Columns of a sensor's state by their number: as they were before each window, and after the last one.
Trace = dict[int, Floats]

#: A square from here on is the same with ABSOLUTE_FLOOR added: that is less than its last bit.
_FLOORLESS = 1e-80


class Run(NamedTuple):
    """A run of one sensor's windows: columns of shape (k,).

    `turned` is as in `judgement.judge`; `season` holds the columns of the state that hours leave, as they are at each window.
    """

    mean: Floats
    deviation: Floats
    readings: Floats
    turned: NDArray[np.bool_]
    season: Trace


def judge_run(state: list[float], run: Run, river: tuple[EWMean, EWMean], n: j.Numbers) -> tuple[Floats, ...]:
    """Judge a run of a sensor that has had a window, and learn it in `state` and in River's two; returns as `Scores` are."""
    trace = _trace(state, run, river, n)
    before = _before(trace, run.season[ALONG]) | run.season
    before[j.TOLD] = np.zeros(1)  # so all that may be told is; what then is, hangs on what was
    judged = j.judge(before, run.mean, run.deviation, run.readings, run.turned, COLUMNS, n)
    told, bar = _tell(state[j.TOLD], judged.told)
    state[j.LEVEL_WEIGHT : SPELL] = [column.item(-1) for column in judged.state]
    state[j.LEARNT_LEVEL], state[j.LEARNT_ERROR] = river[0].get(), river[1].get()
    state[j.TOLD] = bar
    after = {column: values[1:] for column, values in trace.items()}
    forecast = _moved(after[j.LEARNT_LEVEL] / after[j.LEVEL_WEIGHT], run.season[ALONG])
    sigma = np.sqrt(after[j.LEARNT_ERROR] / after[j.SCALE_WEIGHT]) * (1 + after[j.WIDENED])
    return judged.surprise, told, judged.evidence, judged.expected, forecast, sigma


def _trace(state: list[float], run: Run, river: tuple[EWMean, EWMean], n: j.Numbers) -> Trace:
    """Learn a run: all that `judgement.judge` asks of a state but what is told and the season."""
    mean, along = run.mean, run.season[ALONG]
    trace = _levels(state, zip(mean.tolist(), along.tolist(), strict=True), river, n)
    trace[j.WINDOWS] = state[j.WINDOWS] + np.arange(len(mean) + 1.0)
    trace[j.LAST] = np.concatenate([state[j.LAST : j.LAST + 1], mean])
    moves = mean - trace[j.LAST][:-1]
    trace |= _rests(state, (moves == 0) & (run.deviation == 0))
    before = _before(trace, along)
    expected = before[j.LEARNT_LEVEL] / before[j.LEVEL_WEIGHT]
    moved = _moves(state, moves, j.MOVE_AT_FIRST * still(expected))
    trace |= moved
    before |= _before(moved, along)
    fit = j.fit_of(before, mean, True, COLUMNS)
    level = nearer(before[j.LEARNT_LEVEL], fit.level, n.level_fading) / trace[j.LEVEL_WEIGHT][1:]
    columns = fit.level, level, fit.scale, fit.floor, along
    trace |= _trends(state, zip(*(column.tolist() for column in columns), strict=True), n)
    ratio = np.minimum(fit.ratio, j.TAILS_CLIP)
    trace |= _tails(state, np.where(before[j.WINDOWS] >= n.warm_up, ratio * ratio, j.TAILS_AT_FIRST), n)
    trace |= _margins(state, fit.square * fit.scale, before[j.LEARNT_ERROR])
    trace |= _spreads(state, run, fit.still, n)
    return trace


def _before(trace: Trace, along: Floats) -> Trace:
    """What windows are judged by: what was known before, its levels gone along with the season."""
    before = {column: values[:-1] for column, values in trace.items()}
    if not along.any():
        return before
    for level, weight in ((j.LEARNT_LEVEL, j.LEVEL_WEIGHT), (j.SLOW_LEVEL, j.SLOW_WEIGHT)):
        if level in before:
            before[level] = _moved(before[level], along * before[weight])
    return before


def _moved(levels: Floats, by: Floats) -> Floats:
    """Levels that are moved, those that are not to the same bits: -0.0 as well."""
    return np.where(by == 0, levels, levels + by) if by.any() else levels


def _levels(
    state: list[float], rows: Iterable[tuple[float, float]], river: tuple[EWMean, EWMean], n: j.Numbers
) -> Trace:
    """Learn the level, its error and their weights, and the widest deviation lately, of means and how far to go along."""
    columns = j.LEARNT_LEVEL, j.LEVEL_WEIGHT, j.LEARNT_ERROR, j.SCALE_WEIGHT, j.WIDEST
    level, level_weight, error, scale_weight, widest = known = [state[column] for column in columns]
    level_fading, scale_fading = n.level_fading, n.scale_fading
    learn_level, level_of, learn_error, error_of = (
        river[0].update,
        river[0].get,
        river[1].update,
        river[1].get,
    )
    for mean, along in rows:
        behind = 0.0
        if along:
            moved = along * level_weight
            level, behind = level + moved, owed(moved, level_fading)
        expected = level / level_weight
        off = mean - expected
        learnt = off * off
        if learnt > CLIP_SQUARE * error or learnt < _FLOORLESS:
            square, least = learnt, RELATIVE_FLOOR * expected
            floor = least * least + ABSOLUTE_FLOOR + j.WIDEST_PART * widest
            most = CLIP_SQUARE * (error / scale_weight + floor)
            if error > 0 and square > most:
                learnt = most
            part = expected + off * sqrt(learnt / (square + ABSOLUTE_FLOOR))
        else:
            part = expected + off
        learn_level(part + behind if along else part)
        learn_error(learnt)
        level, error = level_of(), error_of()
        level_weight += level_fading * (1 - level_weight)
        scale_weight += scale_fading * (1 - scale_weight)
        widest *= j.WIDEST_FADING
        if learnt > widest:  # noqa: PLR1730  # twice as fast as the builtin, here and below
            widest = learnt
        known += level, level_weight, error, scale_weight, widest
    return _columns(columns, known)


def _trends(state: list[float], rows: Iterable[tuple[float, ...]], n: j.Numbers) -> Trace:
    """Learn the slower level and how far levels part, of a level's part, the level, its scale and what never surprises."""
    columns = j.SLOW_LEVEL, j.SLOW_WEIGHT, j.TREND_SQUARE
    slow, slow_weight, square = known = [state[column] for column in columns]
    level_fading, slow_fading, scale_fading = n.level_fading, n.slow_fading, n.scale_fading
    for part, level, scale, floor, along in rows:
        if along:
            slow += along * slow_weight
        slow += slow_fading * (part - slow)
        slow_weight += slow_fading * (1 - slow_weight)
        parted = level - slow / slow_weight
        parted *= parted
        if parted > CLIP_SQUARE * square > 0:
            most = CLIP_SQUARE * (square / scale + level_fading * floor)
            if parted > most:  # noqa: PLR1730
                parted = most
        square += scale_fading * (parted - square)
        known += slow, slow_weight, square
    return _columns(columns, known)


def _moves(state: list[float], moves: Floats, at_first: Floats) -> Trace:
    """Learn how far a value moves, if it does; `at_first` is what is taken for its square before."""
    known, count = [state[j.MOVE_SQUARE]], state[j.MOVES]
    moved = moves != 0
    usual = known[0]
    squares = moves[moved]
    squares *= squares
    if not count and len(squares):
        usual = at_first.item(int(moved.argmax()))
    for square in squares.tolist():
        if square > j.MOVE_CLIP * usual and count >= j.MOVES_FEW:
            square = j.MOVE_CLIP * usual  # noqa: PLW2901  # an own name costs time
        usual += (square - usual) / (count + 2)
        if count < j.MOVES_KNOWN:
            count += 1
        known.append(usual)
    so_far = _so_far(moved)
    return {
        j.MOVE_SQUARE: np.array(known)[so_far],
        j.MOVES: np.minimum(state[j.MOVES] + so_far, j.MOVES_KNOWN),
    }


def _tails(state: list[float], fourths: Floats, n: j.Numbers) -> Trace:
    """Learn how heavy the tails are, of fourth powers of deviations by the usual."""
    columns, fading = (j.TAILS_BEFORE, j.TAILS), n.scale_fading
    before, tails = known = [state[column] for column in columns]
    for fourth in fourths.tolist():
        before += j.TAILS_DELAY * (tails - before)
        tails += fading * (fourth - tails)
        known += before, tails
    return _columns(columns, known)


def _margins(state: list[float], squares: Floats, errors: Floats) -> Trace:
    """Learn how much wider a forecast's margin has to be."""
    widened = state[j.WIDENED]
    known = [widened]
    for square, error in zip(squares.tolist(), errors.tolist(), strict=True):
        margin = j.NINE_TENTHS * (1 + widened)
        if square > margin * margin * error:
            widened += j.MISSED
        else:
            widened -= j.HIT
            if widened < j.NARROWEST:  # noqa: PLR1730
                widened = j.NARROWEST
        known.append(widened)
    return {j.WIDENED: np.array(known)}


def _rests(state: list[float], rested: NDArray[np.bool_]) -> Trace:
    """Count how long the value rests, and how long it ever did."""
    columns = j.RUN, j.LONGEST
    run, longest = known = [state[column] for column in columns]
    for same in rested.tolist():
        if same:
            run += 1
        else:
            longest *= j.REST_FADING
            if longest < run:  # noqa: PLR1730
                longest = run
            run = 0.0
        known += run, longest
    return _columns(columns, known)


def _spreads(state: list[float], run: Run, stills: Floats, n: j.Numbers) -> Trace:
    """Learn the deviation inside windows, of those that have one."""
    columns, fading = (j.SPREAD_MEAN, j.SPREAD_SQUARE, j.SPREAD_WEIGHT), n.spread_fading
    spread, usual, weight = known = [state[column] for column in columns]
    several = run.readings >= 2  # noqa: PLR2004  # one has none
    for deviation, least in zip(run.deviation[several].tolist(), stills[several].tolist(), strict=True):
        whole = weight if weight > 0 else 1.0
        excess = deviation - spread / whole if weight > 0 else 0.0
        square = learnt = excess * excess
        part = excess
        if square < _FLOORLESS or 0 < CLIP_SQUARE * usual < square:
            most = CLIP_SQUARE * (usual / whole + least)
            if usual > 0 and square > most:
                learnt = most
            part = excess * sqrt(learnt / (square + ABSOLUTE_FLOOR))
        spread += fading * (deviation - excess + part - spread)
        usual += fading * (learnt - usual)
        weight += fading * (1 - weight)
        known += spread, usual, weight
    so_far = _so_far(several)
    return {column: values[so_far] for column, values in _columns(columns, known).items()}


def _so_far(happens: NDArray[np.bool_]) -> Ints:
    """How often it has happened before each window, and after the last one."""
    count = np.zeros(len(happens) + 1, dtype=np.int64)
    np.cumsum(happens, out=count[1:])
    return count


def _columns(columns: tuple[int, ...], rows: list[float]) -> Trace:
    """What rows of so many numbers hold, by column."""
    table = (
        np.frombuffer(pack(f"{len(rows)}d", *rows)).reshape(-1, len(columns)).T
    )  # numpy's own ways take longer
    return dict(zip(columns, table, strict=True))


def _tell(bar: float, surprises: Floats) -> tuple[Floats, float]:
    """What of these surprises, 0 where there is none to tell, is told, and the bar of the next."""
    told = np.zeros(len(surprises))
    for row, surprise in enumerate(surprises.tolist()):
        bar *= j.HABIT
        if surprise > bar:
            told[row] = surprise
            bar = j.bar_of(surprise, SINGLE)
    return told, bar
