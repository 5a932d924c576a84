"""The formulas of `season`, `drift` and `creep` for one sensor's hour or spell, in plain floats: a fifth of the time.

It gives the same bits; tests hold the two together, hours of every kind.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from streamproc.core import course
from streamproc.core import creep as c
from streamproc.core import drift as d
from streamproc.core import season as s
from streamproc.core.fading import ABSOLUTE_FLOOR, CLIP_SQUARE, RELATIVE_FLOOR

#: Squared deviation by the usual (0 where that is not known well), its variance, what the profile learns, whether it is.
_Guided = tuple[float, float, float, bool]


def compare_one(state: list[float], day: float, week: float, ends: bool) -> tuple[float, float]:
    """Compare the open hour with its profile as `season.compare` does, learn it in `state`, and return the profile anew."""
    mean = state[s.SUM] / state[s.COUNT]
    known = day == day  # noqa: PLR0124  # not NaN
    told = known and week == week  # noqa: PLR0124  # not NaN
    usual = day if known else mean
    of_week = usual + week if told else usual
    still = RELATIVE_FLOOR * abs(mean)
    still = still * still + ABSOLUTE_FLOOR
    ratio, variance, learnt, warm = _guide(state, s.DAY_SQUARE, mean - usual, still, s.DAY_WARM, known)
    weekly, closer, learnt_of_week, believed = _guide(
        state, s.WEEK_SQUARE, mean - of_week, still, s.WEEK_WARM, told
    )
    expected = usual
    if believed and closer < variance:
        ratio, expected = weekly, of_week
    drift = _follow(state, mean - expected, still) if warm else 0.0
    state[s.HELD : s.DRIFT] = max(ratio, drift), expected, 1.0 if drift > ratio else 0.0
    if told:
        week = _held(week + s.WEEK_FADING * learnt_of_week)
    elif known and ends:
        week = _held(mean - usual)
    return _held(usual + s.DAY_FADING * learnt), week


def turn_one(state: list[float], profile: NDArray[np.float32], spell: int) -> bool:
    """Begin the spell, which is another, and the hour if that is; returns whether the one before is news."""
    counted = state[s.COUNT] - state[s.SPELL_COUNT]
    mean = (state[s.SUM] - state[s.SPELL_SUM]) / counted if counted >= c.SPELL_WINDOWS else 0.0
    hour, turned, along = spell // s.SPELLS_OF_HOUR, False, state[s.ALONG_SPELL]
    if state[s.HOUR] != hour:
        turned = state[s.COUNT] > 0
        if turned:
            day, week, ends = s.places(int(state[s.HOUR]))
            profile[day], profile[week] = compare_one(state, float(profile[day]), float(profile[week]), ends)
            around: list[float] = profile[s.around(hour)].tolist()
            state[s.ALONG], *state[s.ALONG_SPELL : s.END] = course.course_one(state, around[:3], around[3:])
        state[s.HOUR : s.COUNT + 1] = float(hour), 0.0, 0.0
    if counted >= c.SPELL_WINDOWS:
        state[s.CREEP] += along
        state[s.CREEP + 1] += along
        crept = creep_one(state, mean)
        if crept > state[s.HELD]:
            state[s.HELD : s.HELD_BY_DRIFT + 1] = crept, state[s.CREEP + 1], 1.0
            turned = True
    state[s.SPELL : s.SPELL_COUNT + 1] = float(spell), state[s.SUM], state[s.COUNT]
    return turned


def creep_one(state: list[float], mean: float) -> float:
    """Return how far a sensor has crept, as `creep.creep` does after a spell of this mean, and learn it."""
    fast, slow, parted, noise, spells, farthest, before = state[s.CREEP : s.ALONG_SPELL]
    floor = RELATIVE_FLOOR * abs(mean)
    floor = floor * floor + ABSOLUTE_FLOOR
    usual = parted + noise * (c.SPELLS_WANDERED / (spells + c.SPELLS_WANDERED)) + floor
    count = spells + 1
    error = mean - fast if spells > 0 else 0.0
    square = error * error
    alone = square / (noise + c.FARTHEST_PART * before + floor)
    fast += max(1 / count, c.FAST) * (mean - fast)
    slow += max(1 / count, c.SLOW) * (mean - slow)
    apart = (fast - slow) * (fast - slow)
    count = min(count, c.SPELLS_KNOWN)
    part = 1 / count
    parted += part * (min(apart, CLIP_SQUARE * usual) - parted)
    noise += part * ((min(square, CLIP_SQUARE * noise) if noise > 0 else square) - noise)
    before += c.FARTHEST_DELAY * (farthest - before)
    farthest = max(square, c.FARTHEST_FADING * farthest)
    state[s.CREEP : s.ALONG_SPELL] = fast, slow, parted, noise, count, farthest, before
    crept = max(apart / usual, alone)
    return crept if spells >= c.SPELLS_WARM and crept >= d.LEAST_TOLD else 0.0


def _guide(  # a call costs less than an object
    state: list[float], at: int, error: float, still: float, enough: float, known: bool
) -> _Guided:
    """Compare an hour with one guide, whose squares and their weight stand at `at`, and learn those."""
    learnt, weight = state[at : at + 2]
    square = error * error
    variance = learnt / (weight if weight > 0 else 1.0) + still
    most = CLIP_SQUARE * variance
    cut = most if learnt > 0 and square >= most else square
    warm = known and weight >= enough
    if known:
        state[at] = learnt + s.SQUARE_FADING * (cut - learnt)
        state[at + 1] = weight + s.SQUARE_FADING * (1 - weight)
    return square / variance if warm else 0.0, variance, error * sqrt(cut / (square + ABSOLUTE_FLOOR)), warm


def _follow(state: list[float], error: float, floor: float) -> float:
    """Return how far a sensor has drifted, as `drift.follow` does of an hour whose usual is known, and learn it."""
    mean, far, known, hours = state[s.DRIFT : s.CREEP]
    square, usual = error * error, known + floor
    strayed = learnt = square
    if hours:
        strayed, learnt = min(square, d.HOUR_CLIP * usual), min(square, d.SQUARE_CLIP * usual)
    mean += d.DRIFT_FADING * (error * sqrt(strayed / (square + ABSOLUTE_FLOOR)) - mean)
    now = mean * mean
    wandering = far + usual * (d.WANDERED / (hours + d.WANDERED))
    count = min(hours + 1, d.DRIFT_HOURS)
    part = 1 / count
    far += part * (min(now, d.SQUARE_CLIP * wandering) - far)
    state[s.DRIFT : s.CREEP] = mean, far, known + part * (learnt - known), count
    drifted = now / wandering
    return drifted if hours >= d.DRIFT_WARM and drifted >= d.LEAST_TOLD else 0.0


def _held(value: float) -> float:
    return max(min(value, s.GREATEST), -s.GREATEST)
