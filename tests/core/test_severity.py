"""Severity: ranges at once, learners by the window, only changes told, and only calm windows lower it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.changes import Change, Window
from streamproc.core.hysteresis import COOLDOWN_WINDOWS, RELAPSE_WINDOWS
from streamproc.core.ranges import Limits, clear_levels_of, held_level
from streamproc.core.severity import (
    ALARM,
    ALARM_SURPRISE,
    CRITICAL_SURPRISE,
    DAMPING_LIMIT,
    DOWN_WINDOWS,
    SeverityBank,
)
from streamproc.core.slot_severity import SlotSeverity
from streamproc.core.tails import anomaly_of
from streamproc.records import Range, Severity

NORMAL, WARN, CRITICAL = Severity
SECOND = 1_000
LIMITS = Limits(warning=Range(0.0, 100.0), critical=Range(-50.0, 150.0), version=3)
CALM, ODD, ALARMING = 0.5, ALARM_SURPRISE + 0.1, CRITICAL_SURPRISE + 0.1


@dataclass
class Sensor:
    """One sensor of a bank, fed second by second."""

    bank: SeverityBank
    now: int = 0
    slot: int = 0

    def window(self, value: float = 50.0, surprise: float = CALM, low: float | None = None) -> Change | None:
        """One more window around `value`, skipped as the engine skips it."""
        self.now += SECOND
        anomaly = anomaly_of(surprise)
        if anomaly < ALARM and not self.bank.busy[self.slot]:
            return None
        least = value if low is None else low
        window = Window(self.now - SECOND, SECOND, 2, value, least, value, 0.1, value, value, 0.0, 1, 2)
        return self.bank.on_window(self.slot, window, anomaly, 1, surprise, 50.0, 2.0)

    def reading(self, value: float) -> Change | None:
        """One reading in the coming window, judged by `bounds` as the engine does."""
        low, high, critical_low, critical_high = self.bank.bounds[self.slot].tolist()
        breach = 2 if not critical_low <= value <= critical_high else int(not low <= value <= high)
        return self.bank.on_reading(self.slot, self.now + 1, value, 7, breach) if breach else None

    def windows_until_told(self, most: int = 1_000) -> int:
        """Calm windows until the next change."""
        return next(count for count in range(1, most) if self.window() is not None)


def sensor(limits: Limits | None = LIMITS) -> Sensor:
    """A sensor with ranges, NORMAL."""
    bank = SeverityBank()
    bank.grow(1)
    bank.set_limits(0, limits)
    return Sensor(bank)


def levels(change: Change | None) -> tuple[Severity, Severity]:
    """From and to."""
    assert change is not None
    return change.previous, change.severity


def test_a_breach_is_told_at_the_reading() -> None:
    """Outside the warning range WARN, outside the critical one CRITICAL, both at once and once."""
    one = sensor()
    assert one.reading(100.0) is None
    first = one.reading(101.0)
    assert levels(first) == (NORMAL, WARN)
    assert first is not None
    assert (first.cause, first.offset, first.rule) == ("warning_range", 7, "warning_range value > 100.0")
    assert one.reading(102.0) is None
    second = one.reading(-51.0)
    assert levels(second) == (WARN, CRITICAL)
    assert second is not None
    assert (second.cause, second.sequence, second.since_ms) == ("critical_range", 2, first.at)
    assert one.reading(120.0) is None


def test_only_calm_windows_lower_a_breach() -> None:
    """It takes DOWN_WINDOWS in a row; one that is not calm starts the count again."""
    one = sensor()
    one.reading(101.0)
    for _ in range(DOWN_WINDOWS - 1):
        assert one.window() is None
    assert one.window(99.0) is None
    for _ in range(DOWN_WINDOWS - 1):
        assert one.window() is None
    over = one.window()
    assert levels(over) == (WARN, NORMAL)
    assert over is not None
    assert over.cause == "recovered"
    assert over.rule == f"calm for {DOWN_WINDOWS} windows"


def test_critical_goes_down_to_what_the_values_still_hold() -> None:
    """From CRITICAL to WARN while the values stay outside the warning range, and to NORMAL after that."""
    one = sensor()
    one.reading(160.0)
    changes = [one.window(120.0) for _ in range(DOWN_WINDOWS)]
    assert levels(changes[-1]) == (CRITICAL, WARN)
    assert changes[-1] is not None
    assert changes[-1].cause == "warning_range"
    assert one.windows_until_told() == DOWN_WINDOWS


def test_readings_outside_the_warning_range_let_a_critical_come_down() -> None:
    """Each of them breaches that range, none the critical one: they hold up a WARN, and no more than that."""
    one = sensor()
    one.reading(160.0)
    one.window(160.0)
    changes = []
    for _ in range(DOWN_WINDOWS):
        assert one.reading(120.0) is None
        changes.append(one.window(120.0))
    assert [change for change in changes[:-1] if change] == []
    assert levels(changes[-1]) == (CRITICAL, WARN)
    assert one.reading(120.0) is None
    assert one.window(120.0) is None
    assert levels(one.reading(160.0)) == (WARN, CRITICAL)


def test_a_warning_in_a_window_that_is_still_open_is_kept() -> None:
    """Calm windows that close after it came, and ended before it, lower a CRITICAL to that WARN and not beyond it."""
    one = sensor()
    one.reading(160.0)
    one.window(160.0)
    coming = one.now + DOWN_WINDOWS * SECOND + 1
    assert one.bank.on_reading(0, coming, 120.0, 9, 1) is None
    changes = [one.window() for _ in range(DOWN_WINDOWS)]
    assert levels(changes[-1]) == (CRITICAL, WARN)
    assert one.window(120.0) is None
    assert one.windows_until_told() == DOWN_WINDOWS


def cleared(warning: Range | None, critical: Range | None) -> list[float]:
    """The clear levels of two ranges, as `held_level` takes them."""
    return [*clear_levels_of(warning), *clear_levels_of(critical)]


@pytest.mark.parametrize(
    ("low", "high", "held"),
    [(50, 50, 0), (5, 95, 0), (4.9, 50, 1), (50, 95.1, 1), (-40, 140, 1), (-41, 50, 2), (50, 140.1, 2)],
)
def test_the_margin_is_a_twentieth_of_the_width(low: float, high: float, held: int) -> None:
    """Ranges 0..100 and -50..150 clear at 5..95 and -40..140."""
    assert held_level(cleared(Range(0, 100), Range(-50, 150)), low, high) == held


def test_one_sided_and_absent_ranges_have_margins_too() -> None:
    """The only bound gives the margin; without any bound everything is clear."""
    assert held_level(cleared(Range(high=100), None), 0, 95.1) == 1
    assert held_level(cleared(Range(high=100), None), -1e100, 95) == 0
    assert held_level(cleared(Range(), None), -1e100, 1e100) == 0


@pytest.mark.parametrize(
    ("low", "high", "held"),
    [(10, 80, 0), (9.9, 50, 1), (50, 80.1, 1), (50, 140, 1), (-30, 50, 1), (-30.1, 50, 2), (50, 140.1, 2)],
)
def test_clear_levels_take_the_place_of_the_margin(low: float, high: float, held: int) -> None:
    """Each where it is given: the others keep their margin."""
    clear = cleared(Range(0, 100, 10, 80), Range(-50, 150, clear_low=-30))
    assert held_level(clear, low, high) == held


def test_a_clear_level_without_its_bound_says_nothing() -> None:
    """There is nothing to clear from: the bound that is there has its margin."""
    assert clear_levels_of(Range(high=100, clear_low=50)) == (-np.inf, 95.0)
    assert clear_levels_of(Range(clear_low=1, clear_high=2)) == (-np.inf, np.inf)


ordered = st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4).map(sorted)


@given(
    ordered, st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2).map(sorted), st.booleans(), st.booleans()
)
def test_what_clears_is_inside(bounds: list[float], seen: list[float], has_low: bool, has_high: bool) -> None:
    """No window that has a reading out of a range is calm, and one inside the clear levels always is."""
    low, clear_low, clear_high, high = bounds
    given_low, given_high = (clear_low if has_low else None), (clear_high if has_high else None)
    acceptable = Range(low, high, given_low, given_high)
    held = held_level(cleared(acceptable, None), *seen)
    if seen[0] < low or seen[1] > high:
        assert held == 1
    levels = clear_levels_of(acceptable)
    assert levels[0] == clear_low or not has_low
    assert levels[1] == clear_high or not has_high
    assert held == int(not (levels[0] <= seen[0] and seen[1] <= levels[1]))


@given(
    st.floats(-99, 99),
    st.floats(-99, 99),
    st.lists(st.sampled_from((-120.0, -90.0, 0.0, 90.0, 120.0)), max_size=80),
)
def test_a_severity_lasts_until_the_values_are_clear(one: float, other: float, values: list[float]) -> None:
    """For DOWN_WINDOWS at least after the last value that was not, however the levels lie."""
    clear_low, clear_high = sorted((one, other))
    limits = Limits(warning=Range(-100, 100, clear_low, clear_high))
    it, calm = sensor(limits), 0
    for value in values:
        it.reading(value)
        before = it.bank.level[0]
        it.window(value)
        calm = calm + 1 if clear_low <= value <= clear_high else 0
        if abs(value) > 100:
            assert it.bank.level[0] == WARN
        if before and not it.bank.level[0]:
            assert calm >= DOWN_WINDOWS


def test_windows_that_ended_before_the_breach_are_not_calm() -> None:
    """A reading is judged before its window closes: the windows still open then prove nothing."""
    one = sensor()
    one.bank.on_reading(0, 10 * SECOND, 101.0, 1, 1)
    for _ in range(10):
        assert one.window() is None
    assert one.windows_until_told() == DOWN_WINDOWS


def test_learners_raise_and_calm_lowers() -> None:
    """A told surprise is WARN, a great one CRITICAL; what is neither surprising nor calm holds it."""
    one = sensor(None)
    first = one.window(surprise=ODD)
    assert levels(first) == (NORMAL, WARN)
    assert first is not None
    assert (first.cause, first.rule, first.scores["surprise"]) == ("level", "learner level", ODD)
    assert first.window is not None
    assert first.since_ms == first.window.start
    assert levels(one.window(surprise=ALARMING)) == (WARN, CRITICAL)
    for _ in range(50):
        assert one.window(surprise=2.5) is None
    assert one.windows_until_told() == DOWN_WINDOWS
    assert one.bank.level[0] == NORMAL


def test_inside_the_warning_range_learners_are_not_heard() -> None:
    """What the user calls acceptable makes no event of the learners, however odd; outside they are heard."""
    one = sensor()
    assert one.window(50.0, ALARMING) is None
    assert not one.bank.busy[0]
    assert levels(one.window(120.0, ODD, low=110.0)) == (NORMAL, WARN)
    bare = sensor(Limits(critical=Range(0, 100)))
    assert levels(bare.window(50.0, ODD)) == (NORMAL, WARN)


def test_after_a_recovery_learners_cool_down_but_ranges_do_not() -> None:
    """For COOLDOWN_WINDOWS no WARN of the learners; a CRITICAL one and any breach are told."""
    one = sensor(None)
    one.window(surprise=ODD)
    one.windows_until_told()
    for _ in range(COOLDOWN_WINDOWS):
        assert one.window(surprise=ODD) is None
    assert levels(one.window(surprise=ODD)) == (NORMAL, WARN)
    other = sensor(None)
    other.window(surprise=ODD)
    other.windows_until_told()
    assert levels(other.window(surprise=ALARMING)) == (NORMAL, CRITICAL)
    other.windows_until_told()
    other.bank.set_limits(0, LIMITS)
    assert levels(other.reading(101.0)) == (NORMAL, WARN)


def test_flapping_is_damped_and_forgiven() -> None:
    """Each relapse doubles the calm windows wanted, up to a limit; a long quiet time starts afresh."""
    one, wanted = sensor(), []
    for _ in range(6):
        one.reading(101.0)
        wanted.append(one.windows_until_told())
    assert wanted == [DOWN_WINDOWS * min(2**n, DAMPING_LIMIT) for n in range(6)]
    for _ in range(RELAPSE_WINDOWS):
        one.window()
    assert not one.bank.busy[0]
    one.reading(101.0)
    assert one.windows_until_told() == DOWN_WINDOWS


def test_editing_ranges_tells_nothing_by_itself() -> None:
    """A sensor inside new ranges comes down by calm windows; one outside goes up with its next reading."""
    one = sensor()
    one.reading(101.0)
    one.bank.set_limits(0, Limits(warning=Range(0, 200), version=4))
    assert one.bank.level[0] == WARN
    assert one.windows_until_told() == DOWN_WINDOWS
    one.bank.set_limits(0, Limits(warning=Range(0, 10), version=5))
    assert one.bank.level[0] == NORMAL
    change = one.reading(11.0)
    assert change is not None
    assert change.limits.version == 5
    one.bank.set_limits(0, None)
    assert np.isinf(one.bank.bounds).all()


Step = tuple[int, bool, float, float]
steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.booleans(),
        st.sampled_from([-60.0, -10.0, 2.0, 50.0, 50.0, 50.0, 98.0, 120.0, 160.0]),
        st.sampled_from([CALM, CALM, CALM, 2.5, ODD, ALARMING]),
    ),
    max_size=250,
)


def play(sequence: list[Step], restore_at: set[int], *, skip: bool = True) -> list[Change]:
    """The changes of two sensors, one with ranges; state goes through a dump at `restore_at`."""
    bank = _two()
    sensors = [Sensor(bank, slot=0), Sensor(bank, slot=1)]
    changes = []
    for index, (slot, is_reading, value, surprise) in enumerate(sequence):
        if index in restore_at:
            dumped = msgspec.msgpack.encode(bank.dump([0, 1]))
            bank = _two()
            bank.load(0, msgspec.msgpack.decode(dumped, type=list[SlotSeverity]))
            for one in sensors:
                one.bank = bank
        one = sensors[slot]
        if not skip:
            bank.busy[:] = True
        changes.append(one.reading(value) if is_reading else one.window(value, surprise))
        assert bank.level[slot] >= bank.range_level[slot]
    return [change for change in changes if change is not None]


def _two() -> SeverityBank:
    bank = SeverityBank()
    bank.grow(2)
    bank.set_limits(0, LIMITS)
    return bank


@settings(deadline=None)
@given(steps)
def test_only_changes_are_told_and_they_form_a_chain(sequence: list[Step]) -> None:
    """Each change starts where the sensor's last one ended, differs from it, and has the next number."""
    last = {0: NORMAL, 1: NORMAL}
    count = {0: 0, 1: 0}
    for change in play(sequence, set()):
        assert change.previous == last[change.slot] != change.severity
        assert change.sequence == count[change.slot] + 1
        assert (change.cause == "recovered") == (change.severity == NORMAL)
        assert change.since_ms <= change.at
        last[change.slot], count[change.slot] = change.severity, change.sequence


@settings(deadline=None)
@given(steps, st.sets(st.integers(0, 249), max_size=5))
def test_a_restore_anywhere_changes_nothing(sequence: list[Step], restore_at: set[int]) -> None:
    """Dumped, encoded, decoded and loaded between any two steps, the same changes come out."""
    assert play(sequence, restore_at) == play(sequence, set())


@settings(deadline=None)
@given(steps)
def test_skipping_calm_windows_of_idle_sensors_changes_nothing(sequence: list[Step]) -> None:
    """Where `busy` is false, a calm window is a no-op: the engine need not tell of it."""
    assert play(sequence, set(), skip=False) == play(sequence, set())


@settings(deadline=None)
@given(steps, st.integers(0, 200))
def test_more_evidence_never_tells_less(sequence: list[Step], at: int) -> None:
    """A critical reading put in anywhere leaves the sensor CRITICAL right then, whatever came before."""
    bank = _two()
    one = Sensor(bank)
    for slot, is_reading, value, surprise in sequence[:at]:
        if slot == 0:
            _ = one.reading(value) if is_reading else one.window(value, surprise)
    one.reading(160.0)
    assert bank.level[0] == CRITICAL


def test_quiet_sensors_cost_nothing_in_a_dump() -> None:
    """Only sensors that ever changed are dumped, by their place in the slots asked for."""
    bank = SeverityBank()
    bank.grow(1_000)
    one = Sensor(bank, slot=700)
    one.window(surprise=ODD)
    dumped = bank.dump(range(600, 800))
    assert [state.slot for state in dumped] == [100]
    assert bank.dump(range(600)) == []


def test_changes_are_in_the_order_of_their_times() -> None:
    """A reading out of range comes before a window that ends earlier has closed: its change is later none the less."""
    bank = SeverityBank()
    bank.grow(1)
    bank.set_limits(0, LIMITS)
    first = bank.on_reading(0, 10_201, 120.0, 7, 1)
    window = Window(9_000, SECOND, 2, 120.0, 120.0, 120.0, 0.1, 120.0, 120.0, 0.0, 1, 2)
    second = bank.on_window(0, window, anomaly_of(ALARMING), 1, ALARMING, 50.0, 2.0)
    assert first
    assert second
    assert (first.severity, second.severity) == (WARN, CRITICAL)
    assert (first.at, second.at) == (10_201, 10_202)
