"""The state of a sensor's active rules: how many windows in a row, and the level that each holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from streamproc.core.rules.windowed import Judged
from streamproc.records import Cause, NoData, RateOfChange, StuckValue, WindowRule

#: So many windows end what a rule held up that is in the registry no more.
GONE_WINDOWS = 5


class RuleState(msgspec.Struct, array_like=True):
    """One rule: windows in a row for which it held, the same for which it did not since it is up, and what it holds up.

    `severity` is what it raises to.
    """

    cause: Cause
    run: int = 0
    calm: int = 0
    level: int = 0
    severity: int = 1


States = dict[str, RuleState]


def cause_of(rule: WindowRule) -> Cause:
    """The cause that events of a rule have."""
    if isinstance(rule, RateOfChange):
        return "rate_of_change"
    return "stuck_value" if isinstance(rule, StuckValue) else "expression"


def gravest(states: States) -> int:
    """The severity that the rules hold up."""
    return max((state.level for state in states.values()), default=0)


def holding(states: States) -> int:
    """The gravest of the rules that held when they were judged last, however often that takes to raise."""
    return max((state.severity for state in states.values() if state.run), default=0)


def weigh(states: States, judged: Sequence[Judged], damping: int) -> Judged | None:
    """Count one window; gives the gravest rule that raises with it, if one does; of two as grave the first."""
    told: Judged | None = None
    for one in judged:
        state = states.get(one.key)
        if one.holds:
            if state is None:
                state = states[one.key] = RuleState(cause_of(one.rule), severity=int(one.rule.severity))
            state.run, state.calm = state.run + 1, 0
            if not state.level and state.run >= one.rule.for_windows:
                state.level = int(one.rule.severity)
                if told is None or one.rule.severity > told.rule.severity:
                    told = one
        elif state is not None:
            state.run, state.calm = 0, state.calm + 1
            if not state.level or state.calm >= one.rule.clear_windows * damping:
                del states[one.key]
    return told


def let_go(states: States, known: Iterable[str], damping: int) -> None:
    """Count one window for those rules that are in the registry no more."""
    for key in states.keys() - set(known):
        state = states[key]
        state.calm += 1
        if not state.level or state.calm >= GONE_WINDOWS * damping:
            del states[key]


def words_of(rule: WindowRule | NoData) -> str:
    """The rule as events name it.

    >>> words_of(NoData(60.0))
    'no_data for 60.0 s'
    """
    if isinstance(rule, NoData):
        return f"no_data for {rule.seconds!r} s"
    if isinstance(rule, RateOfChange):
        text = f"rate_of_change abs(trend_{rule.window}) > {rule.per_second!r}"
    elif isinstance(rule, StuckValue):
        text = f"stuck_value within {rule.tolerance!r} for {rule.seconds!r} s"
    else:
        text = f"expression {rule.expression}"
    return text if rule.for_windows == 1 else f"{text}, {rule.for_windows} windows in a row"
