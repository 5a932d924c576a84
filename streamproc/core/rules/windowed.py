"""The rules over closed windows, judged in columns: `rate_of_change`, `stuck_value`, `expression`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamproc.core.rules.expressions import SIZES, STATS, Condition, ExpressionError, Name, holds, parse
from streamproc.core.rules.lasts import Closed, LastWindows, place_of
from streamproc.core.rules.rests import Rested, Rests
from streamproc.core.windows import BASE_MS, NEVER, Bools, Floats, Ints, Moments
from streamproc.records import RateOfChange, StuckValue, WindowRule

#: The group of the rules `stuck_value`; expressions have one for each shape.
_STUCK = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """What one rule says of one window; `numbers` are those that it was judged by, where it holds.

    `key` names the rule among its sensor's: what is remembered of it goes by that, so that other edits change nothing.
    """

    rule: WindowRule
    key: str
    holds: bool
    numbers: dict[str, float]


@dataclass(frozen=True, slots=True)
class RuledWindow:
    """One closed window, row `row` of those of its size, and what each rule of that size says of it."""

    end: int
    size_ms: int
    row: int
    judged: list[Judged]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """One rule of one sensor: the windows it is judged at, its shape, and the numbers in which it differs from others."""

    rule: WindowRule
    key: str
    size_ms: int
    shape: Condition | None
    names: tuple[Name, ...]
    numbers: tuple[float, ...]

    @property
    def mixed(self) -> bool:
        """Whether it goes by several sizes of windows."""
        return any(name.size_ms != self.size_ms for name in self.names)


class WindowRules:
    """The window rules of a partition's sensors; a sensor without any takes a few dozen bytes and no time.

    `rests` and `lasts` are what is remembered, and belong into a checkpoint; the rules themselves are the registry's.
    """

    def __init__(self) -> None:
        self.rests, self.lasts = Rests(), LastWindows()
        self._sensors = 0
        #: Of shape (sensors,): the tolerance of `stuck_value`, NaN without one; and who has an expression of several sizes.
        self._tolerance, self._mixed = np.empty(0), np.empty(0, dtype=np.bool_)
        self._of_slot: dict[int, list[int]] = {}
        self._compiled: list[_Compiled | None] = []
        self._free: list[int] = []
        #: Of each rule (rules,): its sensor or -1, size, group and numbers.
        self._slot = self._size = self._group = np.empty(0, dtype=np.int64)
        self._numbers = np.empty((0, 1))
        self._shapes: list[tuple[Condition, tuple[Name, ...]] | None] = [None]
        self._group_of: dict[Condition, int] = {}
        #: The rules by sensor: sensor s has `_rules[_first[s]:][:_many[s]]`. Made anew after edits.
        self._index: tuple[Ints, Ints, Ints] | None = None

    def __bool__(self) -> bool:
        return bool(self._of_slot)

    def grow(self, n: int) -> None:
        """Append `n` sensors without rules."""
        self._sensors += n
        self._tolerance = np.append(self._tolerance, np.full(n, np.nan))
        self._mixed = np.append(self._mixed, np.zeros(n, dtype=np.bool_))
        self.rests.grow(n)
        self._index = None

    def put(self, slot: int, rules: Iterable[WindowRule]) -> None:
        """Judge a sensor's windows by these rules from now on.

        What is remembered for rules that are gone is let go of when the sensor's next window closes, not here: the edits of a
        restored state come again, and must not undo what came after them.
        """
        compiled = [one for rule in dict.fromkeys(rules) if (one := _compile(rule)) is not None]
        for index in self._of_slot.pop(slot, ()):
            self._compiled[index], self._slot[index] = None, -1
            self._free.append(index)
        self._tolerance[slot] = min(
            (one.rule.tolerance for one in compiled if isinstance(one.rule, StuckValue)), default=np.nan
        )
        self._mixed[slot] = any(one.mixed for one in compiled)
        if self._mixed[slot]:
            self.lasts.fit(self._sensors)
        if compiled:
            # Ascending: a sensor's rules are judged in the order of its entry, whichever rows were free.
            self._of_slot[slot] = sorted(self._row() for _ in compiled)
            for index, one in zip(self._of_slot[slot], compiled, strict=True):
                self._add(index, slot, one)
        self._index = None

    def keys(self, slot: int) -> set[str]:
        """The names of a sensor's rules."""
        found = (self._compiled[index] for index in self._of_slot.get(slot, ()))
        return {one.key for one in found if one is not None}

    def judge(self, closed: Sequence[Closed], active: Bools) -> dict[int, list[RuledWindow]]:
        """Judge windows that have closed, those of 1 s first, each size by slot and start.

        Gives, by sensor and in the order of their ends, the windows of those sensors of which a rule holds, or that are
        `active` (sensors,): for these all base windows. Of others there is nothing to be told.
        """
        self._let_go(*closed[0][1:])
        found: dict[int, list[RuledWindow]] = {}
        if self or active.any():
            found = self._judge(closed, active)
        if len(self.lasts.table):
            self.lasts.put(closed, self._mixed)
        return found

    def _judge(self, closed: Sequence[Closed], active: Bools) -> dict[int, list[RuledWindow]]:
        verdicts = []
        telling = active.copy()
        for part in closed:
            row, rule = self._pairs(part[0], part[1])
            held, numbers = self._holding(part, row, rule, closed)
            telling[part[1][row[held]]] = True
            verdicts.append((row, rule, held, numbers))
        found: dict[int, list[RuledWindow]] = defaultdict(list)
        for (size_ms, slot, rows), (row, rule, held, numbers) in zip(closed, verdicts, strict=True):
            by_row: dict[int, list[Judged]] = {}
            if size_ms == BASE_MS:
                by_row = {at: [] for at in np.flatnonzero(active[slot]).tolist()}
            for pair in np.flatnonzero(telling[slot[row]]).tolist():
                one = self._compiled[int(rule[pair])]
                if one is not None:
                    judged = Judged(one.rule, one.key, bool(held[pair]), numbers.get(pair, {}))
                    by_row.setdefault(int(row[pair]), []).append(judged)
            for at, judged_by in sorted(by_row.items()):
                end = int(rows.start[at]) + size_ms
                found[int(slot[at])].append(RuledWindow(end, size_ms, at, judged_by))
        for its in found.values():
            its.sort(key=lambda window: (window.end, window.size_ms))
        return found

    def _pairs(self, size_ms: int, slot: Ints) -> tuple[Ints, Ints]:
        """Each window of a size with each rule that it is judged by: rows of windows, and rules (k,)."""
        if self._index is None:
            self._index = self._indexed()
        rules, first, many = self._index
        at = np.flatnonzero(many[slot])
        times = many[slot[at]]
        row = np.repeat(at, times)
        turn = np.arange(len(row)) - np.repeat(np.cumsum(times) - times, times)
        rule = rules[first[slot[row]] + turn]
        keep = self._size[rule] == size_ms
        return row[keep], rule[keep]

    def _indexed(self) -> tuple[Ints, Ints, Ints]:
        rules = np.argsort(self._slot, kind="stable")
        rules = rules[self._slot[rules] >= 0]
        many = np.bincount(self._slot[rules], minlength=self._sensors).astype(np.int64)
        return rules, np.cumsum(many) - many, many

    def _holding(
        self, part: Closed, row: Ints, rule: Ints, closed: Sequence[Closed]
    ) -> tuple[Bools, dict[int, dict[str, float]]]:
        """Which of the pairs (k,) hold, and for those the numbers by which."""
        held = np.zeros(len(row), dtype=np.bool_)
        numbers: dict[int, dict[str, float]] = {}
        group = self._group[rule]
        for number in np.unique(group).tolist():
            at = np.flatnonzero(group == number)
            shape = self._shapes[number]
            if shape is None:
                self._resting(part, row, rule, at, held, numbers)
                continue
            condition, names = shape
            columns = _Columns(part, row[at], closed, self.lasts)
            held[at] = holds(condition, columns.of, self._numbers[rule[at]])
            for index in np.flatnonzero(held[at]).tolist():
                numbers[int(at[index])] = {name.text: float(columns.of(name)[index]) for name in names}
        return held, numbers

    def _resting(  # the pairs, and both outputs for some of them
        self, part: Closed, row: Ints, rule: Ints, at: Ints, held: Bools, numbers: dict[int, dict[str, float]]
    ) -> None:
        """Judge the rules `stuck_value`, and take the windows in as part of their sensors' rests."""
        _, slot, rows = part
        windows = np.unique(row[at])
        rested: Rested = self.rests.advance(slot[windows], rows.take(windows), self._tolerance[slot[windows]])
        place = np.searchsorted(windows, row[at])
        held[at] = rested.rested_ms[place] >= self._numbers[rule[at], 0]
        for index in np.flatnonzero(held[at]).tolist():
            here = place[index]
            numbers[int(at[index])] = {
                "seconds": float(rested.rested_ms[here]) / 1000,
                "low": float(rested.low[here]),
                "high": float(rested.high[here]),
            }

    def _let_go(self, slot: Ints, rows: Moments) -> None:
        """Forget what no rule asks for any more, of sensors whose base windows close."""
        if not len(rows):
            return
        gone = slot[(self.rests.since[slot] != NEVER) & np.isnan(self._tolerance[slot])]
        if len(gone):
            self.rests.forget(gone)
        if len(self.lasts.table):
            self.lasts.fit(self._sensors)
            self.lasts.table[slot[~self._mixed[slot]]] = np.nan

    def _row(self) -> int:
        """A row that no rule has."""
        if self._free:
            return self._free.pop()
        self._compiled.append(None)
        return len(self._compiled) - 1

    def _add(self, index: int, slot: int, one: _Compiled) -> None:
        """Give a rule its row."""
        self._fit(index, len(one.numbers))
        self._compiled[index] = one
        self._slot[index], self._size[index], self._group[index] = slot, one.size_ms, self._group_for(one)
        self._numbers[index] = 0.0
        self._numbers[index, : len(one.numbers)] = one.numbers

    def _group_for(self, one: _Compiled) -> int:
        if one.shape is None:
            return _STUCK
        group = self._group_of.setdefault(one.shape, len(self._shapes))
        if group == len(self._shapes):
            self._shapes.append((one.shape, one.names))
        return group

    def _fit(self, index: int, numbers: int) -> None:
        """Make room for a rule and for so many numbers of it; twice as much each time, so that growth is rare."""
        rows, width = self._numbers.shape
        if index < rows and numbers <= width:
            return
        more = max(8, rows) if index >= rows else 0
        bigger = np.zeros((rows + more, max(width, numbers)))
        bigger[:rows, :width] = self._numbers
        self._numbers = bigger
        self._slot = np.append(self._slot, np.full(more, -1, dtype=np.int64))
        self._size = np.append(self._size, np.zeros(more, dtype=np.int64))
        self._group = np.append(self._group, np.zeros(more, dtype=np.int64))


class _Columns:
    """The numbers of these windows of one size, and of the last ones of other sizes, each made once."""

    def __init__(self, part: Closed, row: Ints, closed: Sequence[Closed], lasts: LastWindows) -> None:
        self._size_ms, slot, rows = part
        self._slot, self._rows = slot[row], rows.take(row)
        self._closed, self._lasts = closed, lasts
        self._made: dict[Name, Floats] = {}
        self._larger: dict[int, NDArray[np.float64]] = {}

    def of(self, name: Name) -> Floats:
        """The numbers (k,) of this name."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: Name) -> Floats:
        if name.size_ms == self._size_ms:
            return STATS[name.stat](self._rows)
        if name.size_ms not in self._larger:
            end = self._rows.start + self._size_ms
            self._larger[name.size_ms] = self._lasts.columns(self._slot, end, self._closed, name.size_ms)
        return self._larger[name.size_ms][:, place_of(name)]


def _compile(rule: WindowRule) -> _Compiled | None:
    """The rule as it is judged; None for an expression that is none, which the registry refuses."""
    key = msgspec.json.encode(rule).decode()
    if isinstance(rule, StuckValue):
        return _Compiled(rule, key, BASE_MS, None, (), (1000 * rule.seconds,))
    if isinstance(rule, RateOfChange):
        parsed = parse(f"abs(trend_{rule.window}) > 0")
        return _Compiled(rule, key, SIZES[rule.window], parsed.shape, parsed.names, (rule.per_second,))
    try:
        parsed = parse(rule.expression)
    except ExpressionError:
        return None
    return _Compiled(rule, key, parsed.size_ms, parsed.shape, parsed.names, parsed.numbers)
