"""Delta spikes: readings that differ from the sensor's previous one by more than the user's rules allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from streamproc.core.windows import Floats, Ints
from streamproc.records import DeltaSpike

#: A sensor that has jumped is not calm while it still changes by more than this part of what is allowed: the same margin as
#: that of ranges.
NEAR = 0.95

#: The columns of a rule: the least change allowed, the same as a part of the value before, the longest time between the
#: two in ms, and the severity. A change is one beyond both bounds, so it is one beyond the wider of them.
_ABSOLUTE, _PART, _WITHIN_MS, _SEVERITY = range(4)
#: A greater part says no more, and a value of any size (1e100 at most) times it is still a number.
_MOST = 1e200
#: The rule that nothing breaks.
_NONE = (inf, 0.0, inf, 0.0)


@dataclass(frozen=True, slots=True)
class Spike:
    """A jump of a sensor from one reading to the next.

    `severity` is 0 where the change only comes near to what is `allowed`. `lapse_ms` lies between the two readings;
    `first_offset` and `offset` are their records.
    """

    at: int
    value: float
    offset: int
    previous: float
    lapse_ms: int
    first_offset: int
    allowed: float
    severity: int
    rule: DeltaSpike

    @property
    def change(self) -> float:
        """By how much the value has changed, without sign."""
        return abs(self.value - self.previous)

    def numbers(self) -> dict[str, float]:
        """What the rule was judged by, for an event's lineage."""
        return {
            "previous": self.previous,
            "change": self.change,
            "allowed": self.allowed,
            "seconds": self.lapse_ms / 1000,
        }


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the rules say of changes, columns of shape (n,): `rule` is the index of the gravest that is broken, or nearly."""

    severity: NDArray[np.int8]
    near: NDArray[np.bool_]
    rule: NDArray[np.int64]
    allowed: Floats


class SpikeRules:
    """The rules of a partition's sensors; a sensor without any takes four bytes.

    `ruled` (sensors,) tells which sensors have some.
    """

    def __init__(self) -> None:
        self._place: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        #: Of shape (places, most rules of one sensor, 4).
        self._table = np.empty((0, 1, 4))
        self._rules: dict[int, tuple[DeltaSpike, ...]] = {}
        self._free: list[int] = []

    @property
    def ruled(self) -> NDArray[np.bool_]:
        """Which sensors have rules, of shape (sensors,)."""
        return self._place >= 0

    def __bool__(self) -> bool:
        return bool(self._rules)

    def grow(self, n: int) -> None:
        """Append `n` sensors without rules."""
        self._place = np.append(self._place, np.full(n, -1, dtype=np.int32))

    def put(self, slot: int, rules: Sequence[DeltaSpike]) -> None:
        """Judge a sensor by these rules from now on."""
        place = int(self._place[slot])
        if not rules:
            if place >= 0:
                self._free.append(place)
                self._place[slot] = -1
                del self._rules[slot]
            return
        if place < 0:
            place = self._free.pop() if self._free else len(self._rules)
            self._place[slot] = place
        self._rules[slot] = tuple(rules)
        self._fit(place, len(rules))
        self._table[place] = _NONE
        self._table[place, : len(rules)] = [_columns(rule) for rule in rules]

    def rule(self, slot: int, index: int) -> DeltaSpike:
        """One of a sensor's rules."""
        return self._rules[slot][index]

    def judge(self, slot: Ints, previous: Floats, value: Floats, lapse_ms: Ints) -> Verdicts:
        """Judge the changes (n,) of sensors that have rules. Of two that are as grave, the first is told."""
        table = self._table[self._place[slot]]
        change, size = np.abs(value - previous), np.abs(previous)
        severity, near = np.zeros(len(slot), dtype=np.int8), np.zeros(len(slot), dtype=np.bool_)
        told, allowed = np.zeros(len(slot), dtype=np.int64), np.zeros(len(slot))
        for index in range(table.shape[1]):
            rule = table[:, index]
            most = np.maximum(rule[:, _ABSOLUTE], rule[:, _PART] * size)
            timely = lapse_ms <= rule[:, _WITHIN_MS]
            close = timely & (change > NEAR * most)
            graver = timely & (change > most) & (rule[:, _SEVERITY] > severity)
            tell = graver | (close & ~near)
            told[tell], allowed[tell] = index, most[tell]
            severity[graver] = rule[graver, _SEVERITY].astype(np.int8)
            near |= close
        return Verdicts(severity, near, told, allowed)

    def _fit(self, place: int, rules: int) -> None:
        """Make room for a place and for so many rules in it; twice as much each time, so that growth is rare."""
        places, most, _ = self._table.shape
        if place < places and rules <= most:
            return
        bigger = np.empty((max(2 * places, 8) if place >= places else places, max(most, rules), 4))
        bigger[:] = _NONE
        bigger[:places, :most] = self._table
        self._table = bigger


def _columns(rule: DeltaSpike) -> tuple[float, float, float, float]:
    if rule.absolute is None and rule.percent is None:
        return _NONE
    return (
        rule.absolute or 0.0,
        min((rule.percent or 0.0) / 100, _MOST),
        inf if rule.within_seconds is None else 1000 * rule.within_seconds,
        float(rule.severity),
    )


def words_of(rule: DeltaSpike) -> str:
    """The rule as events name it.

    >>> words_of(DeltaSpike(absolute=5.0, percent=10.0, within_seconds=60.0))
    'delta_spike change > 5.0 and > 10.0 % within 60.0 s'
    """
    bounds = [] if rule.absolute is None else [f"> {rule.absolute!r}"]
    bounds += [] if rule.percent is None else [f"> {rule.percent!r} %"]
    within = "" if rule.within_seconds is None else f" within {rule.within_seconds!r} s"
    return f"delta_spike change {' and '.join(bounds)}{within}"
