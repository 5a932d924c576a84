"""Flapping by Nagios' rule: how much a sensor's last 21 states change, newer changes weighing more.

A state is what one base window says by itself, before hysteresis. Of the 20 possible changes the oldest weighs 0.8, the
newest 1.2, and those between lie on a line; their sum divided by 20 is the share of change. A sensor flaps from a share of
0.5 on, until it is below 0.25. Weights are counted in 95ths, in which all of them are whole numbers: nothing is rounded.
"""

from __future__ import annotations

#: Nagios' MAX_STATE_HISTORY_ENTRIES.
STATES = 21
#: Each of the changes, the newest first: 1.2 down to 0.8, in 95ths.
WEIGHTS = tuple(114 - 2 * age for age in range(STATES - 1))
#: From this sum of weights on a sensor flaps (a share of 0.5 of 20 changes), below that one no more (0.25).
BEGIN, END = 950, 475

#: A state is 0, 1 or 2: it takes two bits.
_BITS = 2
_KEPT = (1 << _BITS * STATES) - 1
#: The lower bit of each pair of neighbours.
_PAIRS = sum(1 << _BITS * age for age in range(STATES - 1))
#: As many states of one kind.
_STEADY_WARN, _STEADY_CRITICAL = _KEPT // 3, _KEPT // 3 * 2


def pushed(states: int, state: int) -> int:
    """The last states with one more, packed: the newest in the lowest two bits."""
    return (states << _BITS | state) & _KEPT


def change_of(states: int) -> int:
    """The sum of the weights of all changes among the last states; 1,900 where each differs from the one before.

    >>> change_of(pushed(pushed(0, 1), 1)), change_of(pushed(pushed(0, 1), 0))
    (112, 226)
    """
    differ = states ^ (states >> _BITS)
    differ = (differ | differ >> 1) & _PAIRS
    total = 0
    while differ:
        lowest = differ & -differ
        total += WEIGHTS[(lowest.bit_length() - 1) // _BITS]
        differ ^= lowest
    return total


def flaps(states: int, *, already: bool) -> bool:
    """Whether a sensor with these last states flaps, one that did so `already` or one that did not."""
    if states in (0, _STEADY_WARN, _STEADY_CRITICAL):  # mostly: what is in alarm, and stays there
        return False
    return change_of(states) >= (END if already else BEGIN)
