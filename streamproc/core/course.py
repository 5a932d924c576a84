"""How the season moves within an hour, so that the levels can follow it.

A level of the last few windows lags behind a season, and lags further the more seldom a sensor speaks: with a window every
five minutes, by half an hour. That lag would become part of what is usual, and hide what is not. So the levels move from
window to window as the season does, judged by the hours before and after. Where hours leap, as with a machine that starts at
eight, those hours do not tell when within the hour the leap comes, and the levels stay.
"""

from __future__ import annotations

from math import copysign

from streamproc.core.creep import SPELL_WINDOWS
from streamproc.core.fading import ABSOLUTE_FLOOR, RELATIVE_FLOOR, nearer, still
from streamproc.core.judgement import LEARNT_LEVEL, LEVEL_WEIGHT, SLOW_LEVEL, SLOW_WEIGHT
from streamproc.core.season import (
    ALONG,
    COUNT,
    DAY_HOURS,
    DAY_SQUARE,
    DAY_WEIGHT,
    PACE,
    SPELLS_OF_HOUR,
    SQUARE_FADING,
    STRAYED,
    SUM,
    TURNS,
    USUAL,
    WEEK_SQUARE,
    WEEK_WARM,
    WEEK_WEIGHT,
)
from streamproc.core.tails import Arithmetic, Value

#: An hour's course is no steeper than twice the way to either of its neighbours: so no value between them is overshot (van
#: Leer's limiter, "monotonised central").
STEEPEST = 2.0
#: A sensor has as many windows an hour as in its fullest hour lately, which fades by this an hour: gaps do not make it steep.
PACE_FADING = 0.8
#: Between so many windows an hour the season hardly moves: there spells go along (`core/creep.py`), and windows do not.
MANY_WINDOWS = float(SPELL_WINDOWS * SPELLS_OF_HOUR)
#: Hours that were compared before levels go along, as the weight of their squares: two days besides the first.
COURSE_WARM = 1 - (1 - SQUARE_FADING) ** (2 * DAY_HOURS)
#: What is no more than hours turn by anyway is no course. The mean of many days has a tenth of their square (DAY_FADING), of
#: few it has more: they may hold what no other day has, and a week's first days off come after them.
DOUBT, YOUNG_DOUBT = 0.1, 5.0
#: Of one turn no more is learnt than so many times the usual one (squared), and by what an hour turns beyond that today is
#: another day than those before: then nothing goes along.
TURN_CLIP, OTHER_DAY = 9.0, 10.0


def course(state: Value, days: Value, weeks: Value, a: Arithmetic) -> tuple[Value, ...]:
    """Return the columns ALONG, and ALONG_SPELL to TURNS, for the hour that begins; `state` has the one that is over.

    `days` and `weeks` (3, k) are what the profile has of the hour before, this one and the next; NaN stands for never seen.
    """
    pace = a.greatest(state[COUNT], PACE_FADING * state[PACE])
    strayed = state[SUM] / state[COUNT] - state[USUAL]
    turn = (strayed - state[STRAYED]) * (strayed - state[STRAYED])
    cut = a.where(state[TURNS] > 0, a.least(turn, TURN_CLIP * state[TURNS]), turn)
    turns = nearer(state[TURNS], cut, SQUARE_FADING)
    day_weight, week_weight = state[DAY_WEIGHT], state[WEEK_WEIGHT]
    by_day = state[DAY_SQUARE] * week_weight
    weekly = (week_weight >= WEEK_WARM) & (state[WEEK_SQUARE] * day_weight < by_day)
    before, now, after = a.where(weekly & (weeks == weeks), days + weeks, days)  # noqa: PLR0124  # not NaN
    up, on = now - before, after - now
    middle = 0.5 * (up + on)
    least = STEEPEST * a.least(abs(up), abs(on))
    slope = a.where(abs(middle) < least, middle, a.where(middle < 0, -least, least))
    square = slope * slope
    known = (up * on > 0) & (day_weight >= COURSE_WARM)
    usual = turns / a.where(known, day_weight, 1.0)
    odd = a.greatest(turn - TURN_CLIP * usual, 0.0)
    doubt = (DOUBT + YOUNG_DOUBT * (1 - day_weight)) * usual + OTHER_DAY * odd + still(now)
    slope *= square / (square + doubt)
    slope = a.where(known, slope, 0.0)
    along = a.where(pace < MANY_WINDOWS, slope / pace, 0.0)
    return along, slope / SPELLS_OF_HOUR, pace, strayed, turns


def course_one(state: list[float], days: list[float], weeks: list[float]) -> tuple[float, ...]:
    """Return the same for one sensor, in plain floats."""
    count, faded, usual = state[COUNT], PACE_FADING * state[PACE], state[TURNS]
    pace = faded if faded > count else count  # noqa: FURB136  # here and below: twice as fast as the builtin
    strayed = state[SUM] / count - state[USUAL]
    turn = cut = (strayed - state[STRAYED]) * (strayed - state[STRAYED])
    if 0 < TURN_CLIP * usual < turn:
        cut = TURN_CLIP * usual
    turns = usual + SQUARE_FADING * (cut - usual)
    before, now, after = days
    day_weight, week_weight = state[DAY_WEIGHT], state[WEEK_WEIGHT]
    if week_weight >= WEEK_WARM and state[WEEK_SQUARE] * day_weight < state[DAY_SQUARE] * week_weight:
        before, now, after = _weekly(days, weeks)
    up, on = now - before, after - now
    if not (up * on > 0 and day_weight >= COURSE_WARM):
        return 0.0, 0.0, pace, strayed, turns
    slope = 0.5 * (up + on)
    steepest = STEEPEST * min(abs(up), abs(on))
    if not -steepest < slope < steepest:
        slope = copysign(steepest, slope)
    square = slope * slope
    floor = RELATIVE_FLOOR * now
    usual = turns / day_weight
    odd = turn - TURN_CLIP * usual
    doubt = (DOUBT + YOUNG_DOUBT * (1 - day_weight)) * usual + OTHER_DAY * (odd if odd > 0 else 0.0)
    doubt += floor * floor + ABSOLUTE_FLOOR
    slope *= square / (square + doubt)
    along = slope / pace if pace < MANY_WINDOWS else 0.0
    return along, slope / SPELLS_OF_HOUR, pace, strayed, turns


def _weekly(days: list[float], weeks: list[float]) -> list[float]:
    """Return what is usual at these hours of the week, as far as those are known."""
    return [day + week if week == week else day for day, week in zip(days, weeks, strict=True)]  # noqa: PLR0124  # not NaN


def go_along(state: Value, at: Value) -> Value:
    """Move the levels of the sensors `at` with the season, by one window; returns by how much River's is to move."""
    along = state[ALONG, at]
    moved = along * state[LEVEL_WEIGHT, at]
    state[LEARNT_LEVEL, at] += moved
    state[SLOW_LEVEL, at] += along * state[SLOW_WEIGHT, at]
    return moved


def go_along_one(state: list[float]) -> float:
    """Do the same for one sensor."""
    along = state[ALONG]
    moved = along * state[LEVEL_WEIGHT]
    state[LEARNT_LEVEL] += moved
    state[SLOW_LEVEL] += along * state[SLOW_WEIGHT]
    return moved


def owed(moved: Value, fading: float) -> Value:
    """Return what River's level, which learns this part of a value, is to learn besides to have moved before."""
    return moved * (1 / fading - 1)
