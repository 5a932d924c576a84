"""The formulas of `season`, `drift` and `creep` for one sensor's hour or spell, in plain floats: a tenth of the time.

The results are the same to the bit; tests compare the two, for hours of every kind. An hour may be a single window, as in a
file with a row an hour. Comparisons replace `min` and `max`, which cost several times as much.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from streamproc.core.course import course_one
from streamproc.core.creep import (
    FARTHEST_DELAY,
    FARTHEST_FADING,
    FARTHEST_PART,
    FAST,
    SLOW,
    SPELL_WINDOWS,
    SPELLS_KNOWN,
    SPELLS_WANDERED,
    SPELLS_WARM,
)
from streamproc.core.drift import (
    DRIFT_FADING,
    DRIFT_HOURS,
    DRIFT_WARM,
    HOUR_CLIP,
    LEAST_TOLD,
    SQUARE_CLIP,
    WANDERED,
)
from streamproc.core.fading import ABSOLUTE_FLOOR, CLIP_SQUARE, RELATIVE_FLOOR
from streamproc.core.season import (
    ALONG,
    ALONG_SPELL,
    COUNT,
    CREEP,
    DAY_FADING,
    DAY_SQUARE,
    DAY_WARM,
    DAY_WEIGHT,
    DRIFT,
    GREATEST,
    HELD,
    HELD_BY_DRIFT,
    HOUR,
    PACE,
    SPELL,
    SPELL_COUNT,
    SPELL_SUM,
    SPELLS_OF_HOUR,
    SQUARE_FADING,
    STRAYED,
    SUM,
    TURNS,
    USUAL,
    WEEK_FADING,
    WEEK_HOURS,
    WEEK_SQUARE,
    WEEK_WARM,
    WEEK_WEIGHT,
    around,
    places,
)

#: Where an hour of the week stands in a profile, and the hours around it: looked up, for an hour may have one window only.
_PLACES = [places(hour) for hour in range(WEEK_HOURS)]
_AROUND = [np.array(around(hour)) for hour in range(WEEK_HOURS)]


def compare_one(state: list[float], day: float, week: float, ends: bool) -> tuple[float, float]:
    """Compare the open hour with its profile as `season.compare` does, learn it in `state`, and return the profile anew."""
    mean = state[SUM] / state[COUNT]
    if day != day:  # noqa: PLR0124  # NaN: never seen
        state[HELD], state[USUAL], state[HELD_BY_DRIFT] = 0.0, mean, 0.0
        return _held(mean + 0.0), week
    still = RELATIVE_FLOOR * abs(mean)
    still = still * still + ABSOLUTE_FLOOR
    error, weight = mean - day, state[DAY_WEIGHT]
    ratio, variance, learnt, state[DAY_SQUARE] = _guide(state[DAY_SQUARE], weight, error, still)
    state[DAY_WEIGHT] = weight + SQUARE_FADING * (1 - weight)
    warm, expected = weight >= DAY_WARM, day
    if not warm:
        ratio = 0.0
    if week == week:  # noqa: PLR0124  # not NaN
        of_week, weight = day + week, state[WEEK_WEIGHT]
        weekly, closer, learnt_of_week, state[WEEK_SQUARE] = _guide(
            state[WEEK_SQUARE], weight, mean - of_week, still
        )
        state[WEEK_WEIGHT] = weight + SQUARE_FADING * (1 - weight)
        if weight >= WEEK_WARM and closer < variance:
            ratio, expected = weekly, of_week
            error = mean - of_week
        week = _held(week + WEEK_FADING * learnt_of_week)
    elif ends:
        week = _held(error)
    drift = _follow(state, error, still) if warm else 0.0
    by_drift = drift > ratio
    state[HELD], state[USUAL] = drift if by_drift else ratio, expected
    state[HELD_BY_DRIFT] = 1.0 if by_drift else 0.0
    return _held(day + DAY_FADING * learnt), week


def turn_one(state: list[float], profile: NDArray[np.float32], spell: int) -> bool:
    """Begin the spell, which is another, and the hour if that is; returns whether the one before is news."""
    total, count = state[SUM], state[COUNT]
    counted = count - state[SPELL_COUNT]
    mean = (total - state[SPELL_SUM]) / counted if counted >= SPELL_WINDOWS else 0.0
    hour, turned, along = spell // SPELLS_OF_HOUR, False, state[ALONG_SPELL]
    if state[HOUR] != hour:
        turned = count > 0
        if turned:
            _end_hour(state, profile, hour)
        state[HOUR], state[SUM], state[COUNT] = float(hour), 0.0, 0.0
        total = count = 0.0
    if counted >= SPELL_WINDOWS:
        state[CREEP] += along
        state[CREEP + 1] += along
        crept = creep_one(state, mean)
        if crept > state[HELD]:
            state[HELD], state[USUAL], state[HELD_BY_DRIFT] = crept, state[CREEP + 1], 1.0
            turned = True
    state[SPELL], state[SPELL_SUM], state[SPELL_COUNT] = float(spell), total, count
    return turned


def _end_hour(state: list[float], profile: NDArray[np.float32], hour: int) -> None:
    """Compare the open hour with the profile, learn it there, and find how the season goes on in the hour that begins."""
    day, week, ends = _PLACES[int(state[HOUR]) % WEEK_HOURS]
    known = profile.item
    profile[day], profile[week] = compare_one(state, known(day), known(week), ends)
    near: list[float] = profile[_AROUND[hour % WEEK_HOURS]].tolist()
    along = course_one(state, near[:3], near[3:])
    state[ALONG], state[ALONG_SPELL], state[PACE], state[STRAYED], state[TURNS] = along


def creep_one(state: list[float], mean: float) -> float:
    """Return how far a sensor has crept, as `creep.creep` does after a spell of this mean, and learn it."""
    fast, slow, parted, noise, spells, farthest, before = state[CREEP:ALONG_SPELL]
    floor = RELATIVE_FLOOR * abs(mean)
    floor = floor * floor + ABSOLUTE_FLOOR
    usual = parted + noise * (SPELLS_WANDERED / (spells + SPELLS_WANDERED)) + floor
    count = spells + 1
    error = mean - fast if spells > 0 else 0.0
    square = error * error
    alone = square / (noise + FARTHEST_PART * before + floor)
    fast += max(1 / count, FAST) * (mean - fast)
    slow += max(1 / count, SLOW) * (mean - slow)
    apart = (fast - slow) * (fast - slow)
    count = min(count, SPELLS_KNOWN)
    part = 1 / count
    parted += part * (min(apart, CLIP_SQUARE * usual) - parted)
    noise += part * ((min(square, CLIP_SQUARE * noise) if noise > 0 else square) - noise)
    before += FARTHEST_DELAY * (farthest - before)
    farthest = max(square, FARTHEST_FADING * farthest)
    state[CREEP:ALONG_SPELL] = fast, slow, parted, noise, count, farthest, before
    crept = max(apart / usual, alone)
    return crept if spells >= SPELLS_WARM and crept >= LEAST_TOLD else 0.0


def _guide(known: float, weight: float, error: float, still: float) -> tuple[float, float, float, float]:
    """Compare an hour with one guide by the squares it knows and their weight.

    Returns the squared deviation by the usual, its variance, what the profile learns, and the squares anew.
    """
    square = cut = error * error
    variance = known / (weight if weight > 0 else 1.0) + still
    if known > 0 and square > CLIP_SQUARE * variance:
        cut = CLIP_SQUARE * variance
    learnt = error * sqrt(cut / (square + ABSOLUTE_FLOOR))
    return square / variance, variance, learnt, known + SQUARE_FADING * (cut - known)


def _follow(state: list[float], error: float, floor: float) -> float:
    """Return how far a sensor has drifted, as `drift.follow` does of an hour whose usual is known, and learn it."""
    mean, far, known, hours = state[DRIFT:CREEP]
    strayed = learnt = square = error * error
    usual = known + floor
    if hours and square > SQUARE_CLIP * usual:
        learnt = SQUARE_CLIP * usual
        if square > HOUR_CLIP * usual:
            strayed = HOUR_CLIP * usual
    mean += DRIFT_FADING * (error * sqrt(strayed / (square + ABSOLUTE_FLOOR)) - mean)
    now = counted = mean * mean
    wandering = far + usual * (WANDERED / (hours + WANDERED))
    if now > SQUARE_CLIP * wandering:
        counted = SQUARE_CLIP * wandering
    count = hours + 1 if hours < DRIFT_HOURS else DRIFT_HOURS
    part = 1 / count
    far += part * (counted - far)
    state[DRIFT:CREEP] = mean, far, known + part * (learnt - known), count
    drifted = now / wandering
    return drifted if hours >= DRIFT_WARM and drifted >= LEAST_TOLD else 0.0


def _held(value: float) -> float:
    if -GREATEST <= value <= GREATEST:
        return value
    return GREATEST if value > 0 else -GREATEST
