"""Learners: what is usual for each sensor, learnt online, and how far from it each closed window is.

A sensor's level and its squared error are River's `EWMean`, one object each; the rest of its state is a row of numbers, and
its season another one. The formulas are in `judgement` and `season`. Windows of many sensors are judged as columns, those of
few sensor by sensor (`one_sensor`), with the same results to the bit: how calls batch the windows never matters.

Of River's `EWMean` only the Rust object inside is held: the Python class around it just calls that, and takes half of the
time and of the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import ArrayLike, NDArray
from river._river_rust.stats import RsEWMean as EWMean  # what `river.stats.EWMean` is made of

from streamproc.core.course import COURSE_WARM, course, go_along, owed
from streamproc.core.creep import SPELL_MS, SPELL_WINDOWS, Creep, creep
from streamproc.core.fading import still
from streamproc.core.gap import LEAST_SPELLS, bridge
from streamproc.core.judgement import (
    EVIDENCE,
    LEARNT_ERROR,
    LEARNT_LEVEL,
    LEVEL_WEIGHT,
    SCALE_WEIGHT,
    USUAL_NUMBERS,
    WIDENED,
    WIDTH,
    Numbers,
    judge,
)
from streamproc.core.one_sensor import RUN, Columns, OneSensor, Rows, groups
from streamproc.core.scores import Scores
from streamproc.core.season import (
    ALONG,
    ALONG_SPELL,
    COLD,
    COUNT,
    CREEP,
    DAY_SQUARE,
    DAY_WEIGHT,
    END,
    HELD,
    HELD_BY_DRIFT,
    HOUR,
    PROFILE,
    SPELL,
    SPELL_COUNT,
    SPELL_SUM,
    SPELLS_OF_HOUR,
    SUM,
    USUAL,
    around,
    compare,
    places,
)
from streamproc.core.tails import COLUMNS, anomaly_of
from streamproc.core.windows import Floats

__all__ = ["DUMPED", "EVIDENCE", "WIDTH", "LearnerBank", "Scores"]

#: What a sensor's row of dumped state holds: its state, and its profile two to a number.
DUMPED = WIDTH + PROFILE // 2
#: Below so many sensors at once, one by one is faster than columns (measured: they meet at 12 to 20).
FEW = 16
#: So many sensors at once, at most: their state, a quarter of a kilobyte each, then stays in a processor's own cache while it
#: is turned into columns and back (measured: 0.09 µs a window from 256 to 4,096 sensors, 0.22 µs for 24,000).
MANY = 4_096


class LearnerBank:
    """The learners of a partition's sensors; a slot is a sensor's index. They go by USUAL_NUMBERS unless tuned."""

    #: Changes whenever the same windows would give other results.
    VERSION = "5"

    def __init__(self) -> None:
        self._state: NDArray[np.float64] = np.zeros((0, WIDTH))
        # Most of a sensor's memory, so in single precision: a deviation is no smaller than a part in 2,000.
        self._profile: NDArray[np.float32] = _unseen(0)
        # Level and error in turn: a sensor's two lie side by side in memory.
        self._means: list[EWMean] = []
        #: The sets of numbers that sensors go by, mostly one, and which of them each does.
        self._sets = [USUAL_NUMBERS]
        self._set: NDArray[np.int16] = np.zeros(0, np.int16)

    def __len__(self) -> int:
        return len(self._state)

    def grow(self, n: int) -> None:
        """Append `n` sensors that have seen nothing."""
        self._state = np.concatenate([self._state, np.zeros((n, WIDTH))])
        self._profile = np.concatenate([self._profile, _unseen(n)])
        self._means += _means(np.zeros((n, WIDTH)))
        self._set = np.append(self._set, np.zeros(n, np.int16))

    def observe(
        self,
        slots: Sequence[int] | NDArray[np.int64],
        mean: Sequence[float] | NDArray[np.float64],
        deviation: Sequence[float] | NDArray[np.float64],
        count: Sequence[int] | NDArray[np.int64],
        start: Sequence[int] | NDArray[np.int64],
    ) -> Scores:
        """Judge closed windows, then learn them; a slot's rows are in time order, and know the earlier.

        `start` is when a window begins, in ms: the season goes by it.
        """
        if len(self._sets) == 1:
            out = self._observe(USUAL_NUMBERS, slots, mean, deviation, count, start)
        else:
            slots = np.asarray(slots, dtype=np.int64)
            columns = [slots, *(np.asarray(column) for column in (mean, deviation, count, start))]
            out = np.empty((6, len(slots)))
            for numbers, at in self._by_numbers(slots):
                out[:, at] = self._observe(numbers, *(column[at] for column in columns))
        return Scores(
            anomaly=anomaly_of(out[1]),
            evidence=out[2].astype(np.int8),
            surprise=out[0],
            expected=out[3],
            forecast=out[4],
            deviation=out[5],
        )

    def tune(self, slot: int, numbers: Numbers) -> None:
        """Let a sensor go by these numbers from now on; what it has learnt stays."""
        if numbers not in self._sets:
            self._sets.append(numbers)
        index = self._sets.index(numbers)
        if index != self._set[slot]:
            self._set[slot] = index
            self._means[2 * slot : 2 * slot + 2] = _means(self._state[slot : slot + 1], numbers)

    def numbers(self, slot: int) -> Numbers:
        """The numbers that a sensor goes by."""
        return self._sets[int(self._set[slot])]

    def _by_numbers(self, slots: NDArray[np.int64]) -> list[tuple[Numbers, NDArray[np.intp]]]:
        """The rows of windows of sensors `slots` (k,) that go by the same numbers, and these."""
        of = self._set[slots]
        return [(self._sets[index], np.flatnonzero(of == index)) for index in np.unique(of).tolist()]

    def _observe(
        self,
        numbers: Numbers,
        slots: ArrayLike,
        mean: ArrayLike,
        deviation: ArrayLike,
        count: ArrayLike,
        start: ArrayLike,
    ) -> NDArray[np.float64]:
        """The scores (6, k) of windows of sensors that all go by these numbers."""
        rows = _Rows(slots, mean, deviation, count, start)
        if not rows.are_many:
            return self._singly(numbers, rows.slots, rows.columns)
        out = np.empty((6, len(rows.slots)))
        for at in rows.blocks():
            out[:, at] = self._columns(numbers, rows, at)
        if len(at := rows.rest):
            out[:, at] = self._singly(numbers, rows.slots[at], rows.columns.of(at))
        return out

    def dump(self, slots: Sequence[int]) -> NDArray[np.float64]:
        """The state of these sensors, exactly, of shape (len(slots), DUMPED)."""
        at: slice | NDArray[np.intp]
        if isinstance(slots, range) and slots.step == 1:  # a block of a checkpoint: nothing to look up
            at = slice(slots.start, slots.stop)
        else:
            at = np.asarray(slots, dtype=np.intp)
        return np.concatenate([self._state[at], self._profile[at].view(np.float64)], axis=1)

    def load(self, first_slot: int, state: NDArray[np.float64]) -> None:
        """Put dumped state in the place of that of the sensors from `first_slot` on."""
        end = first_slot + len(state)
        self._state[first_slot:end] = state[:, :WIDTH]
        self._profile[first_slot:end] = np.ascontiguousarray(state[:, WIDTH:]).view(np.float32)
        self._means[2 * first_slot : 2 * end] = _means(state)
        for slot in (first_slot + np.flatnonzero(self._set[first_slot:end])).tolist():
            self._means[2 * slot : 2 * slot + 2] = _means(self._state[slot : slot + 1], self.numbers(slot))

    def _columns(
        self, numbers: Numbers, rows: _Rows, at: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], ...]:
        """Judge and learn one window of each of many sensors."""
        slots, windows = rows.slots[at], rows.columns.of(at)
        place, hot = _place(slots), self._state[:, :COLD]
        state = np.array(hot[place].T, order="C")
        turned = self._turn(slots, state, windows.spell)
        moving = np.flatnonzero(state[ALONG])
        moved = go_along(state, moving) if len(moving) else 0.0
        judged = judge(state, *windows[:3], turned, COLUMNS, numbers)
        if len(moving):
            judged.level[moving] += owed(moved, numbers.level_fading)
        state[LEARNT_LEVEL], state[LEARNT_ERROR] = self._learn(slots, judged.level, judged.error)
        state[LEVEL_WEIGHT:SPELL] = judged.state
        state[SUM] += windows.mean
        state[COUNT] += 1
        hot[place] = state.T
        forecast = state[LEARNT_LEVEL] / state[LEVEL_WEIGHT]
        if len(moving):
            forecast[moving] += state[ALONG, moving]
        sigma = np.sqrt(state[LEARNT_ERROR] / state[SCALE_WEIGHT]) * (1 + state[WIDENED])
        return judged.surprise, judged.told, judged.evidence, judged.expected, forecast, sigma

    def _turn(
        self, slots: NDArray[np.intp], state: NDArray[np.float64], spell: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Begin the spell of the windows where it is another, and the hour; returns where the one before is news."""
        new: NDArray[np.bool_] = state[SPELL] != spell
        at = np.flatnonzero(new)
        if not len(at):
            return new
        counted = state[COUNT, at] - state[SPELL_COUNT, at]
        over = at[(counted >= SPELL_WINDOWS) | (state[HOUR, at] != spell[at] // SPELLS_OF_HOUR)]
        turned: NDArray[np.bool_] = np.zeros(len(new), dtype=np.bool_)
        if len(over):
            of = slots[over]
            every = np.concatenate([state[:, over], self._state[of, COLD:].T])
            turned[over] = self._turn_whole(of, every, spell[over])
            state[:, over], self._state[of, COLD:] = every[:COLD], every[COLD:].T
        silent = at[(spell[at] - state[SPELL, at] > LEAST_SPELLS) & (state[DAY_WEIGHT, at] >= COURSE_WARM)]
        before, state[SPELL, at] = state[SPELL, silent].tolist(), spell[at]
        state[SPELL_SUM : SPELL_COUNT + 1, at] = state[SUM : COUNT + 1, at]
        for row, since in zip(silent.tolist(), before, strict=True):
            self._bridge(slots[row], state[:, row], since)
        return turned

    def _bridge(self, slot: int, state: NDArray[np.float64], before: float) -> None:
        """Move the levels of a sensor that was silent since the spell before; `state` (COLD,) is what is judged by."""
        every, river = (
            [*state.tolist(), *self._state[slot, COLD:].tolist()],
            self._means[2 * slot : 2 * slot + 2],
        )
        bridge(every, self._profile[slot], river, before, self.numbers(slot).level_fading)
        state[:], self._state[slot, COLD:] = every[:COLD], every[COLD:]

    def _turn_whole(
        self, slots: NDArray[np.intp], state: NDArray[np.float64], spell: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """End spells that have windows enough, and begin hours, of sensors whose spell is over; `state` has all columns."""
        counted = state[COUNT] - state[SPELL_COUNT]
        whole = np.flatnonzero(counted >= SPELL_WINDOWS)
        mean = (state[SUM, whole] - state[SPELL_SUM, whole]) / counted[whole]
        along = state[ALONG_SPELL, whole]
        turned = self._turn_hours(slots, state, spell // SPELLS_OF_HOUR)
        if len(whole):
            state[CREEP : CREEP + 2, whole] += along  # the levels
            crept, known = creep(Creep(*state[CREEP:ALONG_SPELL, whole]), mean, still(mean), COLUMNS)
            state[CREEP:ALONG_SPELL, whole] = known
            more = crept > state[HELD, whole]
            raised = whole[more]
            state[HELD, raised], state[USUAL, raised], state[HELD_BY_DRIFT, raised] = (
                crept[more], known.slow[more], 1.0,
            )  # fmt: skip
            turned[raised] = True
        return turned

    def _turn_hours(
        self, slots: NDArray[np.intp], state: NDArray[np.float64], hour: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Begin the hour of the windows where it is another, and compare the one before; returns where it was."""
        new: NDArray[np.bool_] = state[HOUR] != hour
        at = np.flatnonzero(new)
        if not len(at):
            return new
        turned: NDArray[np.bool_] = new & (state[COUNT] > 0)
        over = np.flatnonzero(turned)
        if len(over):
            day, week, ends = places(state[HOUR, over].astype(np.int64))
            of = slots[over]
            known = self._profile[of, day].astype(np.float64), self._profile[of, week].astype(np.float64)
            compared = compare(state[:, over], *known, ends, COLUMNS)
            state[DAY_SQUARE:CREEP, over] = compared.state
            self._profile[of, day], self._profile[of, week] = compared.day, compared.week
            hours = self._profile[of, around(hour[over])].astype(np.float64)
            state[ALONG, over], *state[ALONG_SPELL:END, over] = course(
                state[:, over], hours[:3], hours[3:], COLUMNS
            )
        state[HOUR, at] = hour[at]
        state[SUM : COUNT + 1, at] = 0.0
        return turned

    def _learn(
        self, slots: NDArray[np.intp], levels: NDArray[np.float64], errors: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Update the River objects, and return what they then say, of shape (2, k)."""
        means: Sequence[EWMean]
        if isinstance(place := _place(slots), slice):
            means = self._means[2 * place.start : 2 * place.stop]
        else:
            means = itemgetter(*np.stack([2 * slots, 2 * slots + 1], axis=1).ravel().tolist())(self._means)
        values = np.stack([levels, errors], axis=1).ravel()
        # No bytecode for each of them: half the time of a loop.
        deque(map(EWMean.update, means, values.tolist()), maxlen=0)
        return np.fromiter(map(EWMean.get, means), np.float64, len(means)).reshape(-1, 2).T

    def _singly(self, numbers: Numbers, slots: NDArray[np.intp], windows: Columns) -> Floats:
        """Judge and learn windows of few sensors, those of a sensor that follow on together; returns scores (6, k)."""
        out, few = list[Floats](), list[tuple[float, ...]]()
        rows: Rows = []
        for slot, begin, end in groups(slots.tolist()):
            river = self._means[2 * slot : 2 * slot + 2]
            sensor = OneSensor(self._state[slot].tolist(), self._profile[slot], river, numbers)
            if end - begin < RUN:
                rows = rows or windows.rows()
                few += sensor.judge(rows[begin:end])
            else:
                out += [np.array(few).reshape(-1, 6).T, sensor.judge_run(windows.of(slice(begin, end)))]
                few = []
            self._state[slot] = sensor.state
        last = np.array(few).reshape(-1, 6).T
        return np.concatenate([*out, last], axis=1) if out else last


def _place(slots: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Where sensors in the order of memory stand: a slice where none is left out, so that nothing is looked up."""
    first, last = slots.item(0), slots.item(-1)
    return slice(first, last + 1) if last - first == len(slots) - 1 else slots


def _unseen(n: int) -> NDArray[np.float32]:
    """Return the profiles of sensors that have seen nothing."""
    return np.full((n, PROFILE), np.nan, dtype=np.float32)


def _means(state: NDArray[np.float64], numbers: Numbers = USUAL_NUMBERS) -> list[EWMean]:
    """Return level and error in turn for rows of state; a mean's first update sets it exactly.

    A new one starts at zero. It is divided by the weight of what it has seen, so that start never shows.
    """
    means = []
    for level, error in state[:, [LEARNT_LEVEL, LEARNT_ERROR]].tolist():
        for fading, value in ((numbers.level_fading, level), (numbers.scale_fading, error)):
            mean = EWMean(fading)
            mean.update(value)
            means.append(mean)
    return means


class _Rows:
    """The windows of one call, in rounds of at most one window a sensor, the sensors in the order of memory.

    `rounds` are those wide enough for columns: indices of rows. `rest` holds the other rows, sensor by
    sensor. Few windows, and those of one sensor, are not parted: of them there are neither.
    """

    def __init__(
        self, slots: ArrayLike, mean: ArrayLike, deviation: ArrayLike, count: ArrayLike, start: ArrayLike
    ) -> None:
        self.slots = np.asarray(slots, dtype=np.intp)
        self.columns = Columns(
            np.asarray(mean, dtype=np.float64),
            np.asarray(deviation, dtype=np.float64),
            np.asarray(count, dtype=np.float64),
            np.asarray(start, dtype=np.int64) // SPELL_MS,
        )
        self.rounds = list[NDArray[np.intp]]()
        self.rest = np.zeros(0, dtype=np.intp)
        self.are_many = len(self.slots) >= FEW and not (self.slots == self.slots[0]).all()
        if self.are_many:
            self._part()

    def _part(self) -> None:
        if (self.slots[1:] > self.slots[:-1]).all():  # a window each, as sensors that speak at once have
            self.rounds = [np.arange(len(self.slots))]
            return
        by_slot = _order(self.slots)
        ordered = self.slots[by_slot]
        first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        turn = np.arange(len(ordered)) - np.repeat(first, np.diff(np.append(first, len(ordered))))
        widths = np.bincount(turn)
        ends = np.cumsum(widths[widths >= FEW])  # widths only fall
        by_turn = by_slot[_order(turn)] if len(widths) > 1 else by_slot
        self.rounds = [by_turn[end - width : end] for end, width in zip(ends, widths, strict=False)]
        self.rest = by_slot[turn >= len(ends)]

    def blocks(self) -> Iterator[NDArray[np.intp]]:
        """The rounds, MANY rows at once."""
        for at in self.rounds:
            for first in range(0, len(at), MANY):
                yield at[first : first + MANY]


def _order(numbers: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the stable order of numbers from 0 up: numpy sorts 16 bits by radix, five times as fast."""
    small = numbers.max() < 2**16
    return np.argsort(numbers.astype(np.uint16) if small else numbers, kind="stable")
