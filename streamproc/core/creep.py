"""A drift over minutes to hours at sensors that speak often: the level of the last five-minute spells against a slower one.

With a window a second, the levels of `trend` part by what moves within half a minute, in which a leak is nothing. The mean of
a spell is as exact as hundreds of windows make it, so the same comparison shows slow drifts there. It is used once a whole
day is known: before that, a morning looks like a leak. Sensors with few windows a spell have `trend`.
"""

from __future__ import annotations

from typing import NamedTuple

from streamproc.core.drift import LEAST_TOLD
from streamproc.core.fading import CLIP_SQUARE, nearer
from streamproc.core.tails import Arithmetic, Value

SPELL_MS = 300_000
#: A spell of fewer windows says no more than they do.
SPELL_WINDOWS = 10
#: Fading of the levels, as of windows: the last 40 minutes, and the last three hours.
FAST, SLOW = 0.12, 0.03
#: Spells that squares are made of at most: three and a half days.
SPELLS_KNOWN = 1_000.0
#: Until then a signal is taken for one that wanders: as if for so many spells the levels had parted like spells do.
SPELLS_WANDERED = 40.0
#: Spells before a drift is told: a day.
SPELLS_WARM = 288.0
#: One spell by itself tells a drift where it is twice as far from the faster level as any lately (squared), for what is
#: usual says too little of a machine that starts each morning. The farthest fades by a half in 2.4 days …
FARTHEST_PART, FARTHEST_FADING = 4 / LEAST_TOLD, 0.999
#: … and counts as it was some three hours ago, so that a leak's first spells do not hide the next.
FARTHEST_DELAY = 0.03


class Creep(NamedTuple):
    """What is known of a sensor's spells: both levels, the squares of how far they part and of a spell, the count.

    `farthest` is the greatest square of a spell lately, `before` what counts of it.
    """

    fast: Value
    slow: Value
    parted: Value
    noise: Value
    spells: Value
    farthest: Value
    before: Value


def creep(known: Creep, mean: Value, floor: Value, a: Arithmetic) -> tuple[Value, Creep]:
    """Return how far the levels have parted, squared and by the usual, and what is known after a spell of this mean.

    `floor` is the square of what is no deviation. What is no alarm is 0.
    """
    count = known.spells + 1
    error = a.where(known.spells > 0, mean - known.fast, 0.0)
    square = error * error
    fast = nearer(known.fast, mean, a.greatest(1 / count, FAST))
    slow = nearer(known.slow, mean, a.greatest(1 / count, SLOW))
    apart = (fast - slow) * (fast - slow)
    wandering = known.noise * (SPELLS_WANDERED / (known.spells + SPELLS_WANDERED))
    usual = known.parted + wandering + floor
    part = 1 / a.least(count, SPELLS_KNOWN)
    cut = a.where(known.noise > 0, a.least(square, CLIP_SQUARE * known.noise), square)
    alone = square / (known.noise + FARTHEST_PART * known.before + floor)
    crept = a.greatest(apart / usual, alone)
    return (
        a.where((known.spells >= SPELLS_WARM) & (crept >= LEAST_TOLD), crept, 0.0),
        Creep(
            fast,
            slow,
            nearer(known.parted, a.least(apart, CLIP_SQUARE * usual), part),
            nearer(known.noise, cut, part),
            a.least(count, SPELLS_KNOWN),
            a.greatest(square, FARTHEST_FADING * known.farthest),
            nearer(known.before, known.farthest, FARTHEST_DELAY),
        ),
    )
