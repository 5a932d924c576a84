"""The joint evidence of two consecutive windows that are both far out.

In a burst of noise or a swing, each window may be just below an alarm, and the first raises what is usual for the next. By
chance two such windows are rarer than one that is further out, so the product of their deviations counts for more than a
square. That does not hold where deviations come in clusters: with heavy tails, or where windows depend on each other.
"""

from __future__ import annotations

from streamproc.core.tails import Arithmetic, Value

#: Two windows count for so much: of noise about one pair in fifty million is an alarm.
PAIR_PART = 3.4
#: A window within three and a half usual deviations (squared) is no second one: after a spike the level is off by as much.
PAIR_FROM = 12.0


def pair(deviations: Value, usual: Value, move: Value, repeats: Value, a: Arithmetic) -> Value:
    """Return what two windows say together, as the square of a deviation of one, by the usual square.

    `deviations` is the product of how far they are from what is expected. How they hang together is seen by the mean square
    of moves: twice the `usual` where they are noise, less where they wander. The moves of a value that `repeats` do not tell.
    """
    wanders = a.greatest(1 - 0.5 * move / usual, 0.0)
    together = a.where(repeats, 1.0, wanders * wanders)
    return PAIR_PART / (1 + (PAIR_PART - 1) * together) * deviations / usual
