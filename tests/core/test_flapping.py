"""Up after n windows, down after m, and Nagios' flapping: its arithmetic, and what is held, told and not told."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.changes import Change, Window
from streamproc.core.counted import counted
from streamproc.core.explain import explain, title
from streamproc.core.flapping import STATES, change_of, flaps, pushed
from streamproc.core.ranges import Limits
from streamproc.core.severity import ALARM, ALARM_SURPRISE, CRITICAL_SURPRISE, DOWN_WINDOWS, SeverityBank
from streamproc.core.tails import anomaly_of
from streamproc.core.telling import Teller
from streamproc.records import ANY_KIND, FLAPPING, Range, Severity
from streamproc.records.alerting import PolicyEntry

NORMAL, WARN, CRITICAL = Severity
LIMITS = Limits(warning=Range(0.0, 100.0), critical=Range(-50.0, 150.0))
CALM, ODD, ALARMING = 0.5, ALARM_SURPRISE + 0.1, CRITICAL_SURPRISE + 0.1
OUT, IN = 120.0, 50.0


@dataclass
class Sensor:
    """One sensor of a bank, fed second by second as the engine feeds it."""

    bank: SeverityBank
    now: int = 0

    def second(self, value: float = IN, surprise: float = CALM, *, told: bool = True) -> list[Change]:
        """One reading and its window, whose surprise learners have `told` or not."""
        found = []
        self.now += 1_000
        low, high, critical_low, critical_high = self.bank.bounds[0].tolist()
        breach = 2 if not critical_low <= value <= critical_high else int(not low <= value <= high)
        if breach:
            found.append(self.bank.on_reading(0, self.now - 500, value, 7, breach))
        window = Window(self.now - 1_000, 1_000, 1, value, value, value, 0.0, value, value, 0.0, 1, 2)
        anomaly = anomaly_of(surprise) if told else 0.0
        if anomaly >= ALARM or self.bank.busy[0]:
            found.append(self.bank.on_window(0, window, anomaly, 1, surprise, 50.0, 2.0))
        return [change for change in found if change is not None]

    def seconds(self, values: list[float]) -> list[Change]:
        """Several of them."""
        return [change for value in values for change in self.second(value)]


def sensor(policy: PolicyEntry | None = None, limits: Limits | None = LIMITS) -> Sensor:
    """A sensor that is NORMAL, by this policy."""
    bank = SeverityBank()
    bank.grow(1)
    bank.set_limits(0, limits)
    if policy is not None:
        bank.set_policy(0, policy)
    return Sensor(bank)


def steps(changes: list[Change]) -> list[tuple[Severity, Severity, str]]:
    """From, to and why."""
    return [(change.previous, change.severity, change.cause) for change in changes]


# The arithmetic -----------------------------------------------------------------------------------------------------


def nagios(history: list[int]) -> float:
    """The percentage of `check_for_service_flapping` in Nagios' base/flapping.c, over the last 21 states, oldest first."""
    low_curve, high_curve, entries = 0.8, 1.2, 21
    curved_changes = 0.0
    for x in range(1, entries):
        if history[x - 1] != history[x]:
            curved_changes += ((x - 1) * (high_curve - low_curve)) / (entries - 2) + low_curve
    return curved_changes * 100.0 / (entries - 1)


@given(st.lists(st.integers(0, 2), max_size=60))
def test_the_share_of_change_is_nagios(states: list[int]) -> None:
    """Of any history; what came before the first state was NORMAL."""
    packed = 0
    for state in states:
        packed = pushed(packed, state)
    history = ([0] * STATES + states)[-STATES:]
    assert change_of(packed) / 19.0 == pytest.approx(nagios(history))


def test_flapping_begins_at_a_half_and_ends_below_a_quarter() -> None:
    """Between the two it stays what it was."""
    packed, first = 0, None
    for count in range(1, 30):
        packed = pushed(packed, count % 2)
        if first is None and flaps(packed, already=False):
            first = count
    assert first == 9
    held = 0
    while flaps(packed, already=True):
        packed, held = pushed(packed, 0), held + 1
        if held > 10:
            assert not flaps(packed, already=False)
    assert held == 16
    assert not flaps(0, already=True)


# What is held and told ----------------------------------------------------------------------------------------------


def test_what_goes_in_and_out_is_held_until_it_settles() -> None:
    """With a policy that lets it come down at once: two pairs of changes, then one that it flaps, one that it has settled."""
    one = sensor(PolicyEntry(ANY_KIND, down_windows=1))
    changes = one.seconds([OUT, IN] * 20)
    assert steps(changes)[-1] == (WARN, WARN, "flapping")
    assert changes[-1].flapping
    assert len(changes) < 12
    assert one.seconds([OUT, IN, IN] * 4) == []
    settled = one.seconds([IN] * 40)
    assert steps(settled) == [(WARN, NORMAL, "recovered")]
    assert (settled[0].settled, settled[0].flapping) == (True, False)
    assert "has settled" in explain(settled[0], None, "en")[0]
    assert "se ha estabilizado" in explain(settled[0], None, "es")[0]


def test_flapping_is_told_by_the_usual_policy_too() -> None:
    """What never stays calm for five windows is one alarm; that it goes in and out is told, and its end once."""
    one = sensor()
    up, begun = one.seconds([OUT, IN] * 15)
    assert steps([up, begun]) == [(NORMAL, WARN, "warning_range"), (WARN, WARN, "flapping")]
    assert "goes in and out of its alarm" in title(begun, None, "en")
    assert "entra y sale" in explain(begun, None, "es")[0]
    (graver,) = one.seconds([160.0, IN])
    assert (graver.severity, graver.flapping) == (CRITICAL, True)
    assert "held until it settles" in explain(graver, None, "en")[0]
    marked = [
        Teller("t", 0, "en").tell(change, "a", None, {})[0].lineage.scores for change in (up, begun, graver)
    ]
    assert [FLAPPING in scores for scores in marked] == [False, True, True]
    assert steps(one.seconds([IN] * 40)) == [(CRITICAL, NORMAL, "recovered")]


def test_flapping_that_ends_in_an_alarm_says_so() -> None:
    """Once it stays out of its range, the alarm goes on and flaps no more."""
    one = sensor()
    one.seconds([OUT, IN] * 15)
    (over,) = one.seconds([OUT] * 40)
    assert (over.previous, over.severity, over.cause, over.settled) == (WARN, WARN, "flapping", True)
    assert title(over, None, "en") == "WARNING: The sensor has settled, still in alarm"
    assert "the alarm stays" in explain(over, None, "en")[0]


def test_who_wants_no_flapping_has_none() -> None:
    """A policy turns it off, also for what flaps already."""
    one = sensor(PolicyEntry(ANY_KIND, down_windows=1, flapping=False))
    changes = one.seconds([OUT, IN] * 20)
    assert not any(change.flapping or change.cause == "flapping" for change in changes)
    other = sensor()
    other.seconds([OUT, IN] * 15)
    other.bank.set_policy(0, PolicyEntry(ANY_KIND, flapping=False))
    assert steps(other.seconds([IN] * 6)) == [(WARN, WARN, "flapping"), (WARN, NORMAL, "recovered")]


def test_a_sensor_that_is_calm_again_pays_nothing() -> None:
    """Once its states are all NORMAL and its recovery is long ago, its windows are not looked at."""
    one = sensor()
    one.seconds([OUT] * 3)
    assert one.bank.busy[0]
    one.seconds([IN] * 100)
    assert not one.bank.busy[0]


@given(
    st.lists(st.sampled_from((IN, OUT, 160.0, 97.0)), max_size=120), st.integers(1, 6), st.integers(0, 119)
)
def test_no_flapping_sensor_comes_down_and_a_restored_one_goes_on_the_same(
    values: list[float], down: int, cut: int
) -> None:
    """Whatever comes: while it flaps its severity only rises; begin and end are told in turns; a dump loses nothing."""
    policy = PolicyEntry(ANY_KIND, down_windows=down)
    one, other = sensor(policy), sensor(policy)
    flapping, told = False, list[Change]()
    for index, value in enumerate(values):
        if index == cut:
            restored = sensor(policy)
            restored.bank.load(0, other.bank.dump([0]))
            restored.now = other.now
            other = restored
        changes = one.second(value)
        assert changes == other.second(value)
        for change in changes:
            if flapping and not change.settled:
                assert change.severity > change.previous
            if change.cause == "flapping":
                assert change.severity == change.previous
                assert change.flapping != change.settled
            flapping = change.flapping
        told += changes
    assert [change.sequence for change in told] == list(range(1, len(told) + 1))
    assert all(a.severity == b.previous for a, b in pairwise(told))


# Up after n, down after m -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("up", [2, 3, 7])
def test_ranges_raise_after_so_many_windows_in_a_row(up: int) -> None:
    """One calm window between begins the count again; the event says how many, and which value was out."""
    one = sensor(PolicyEntry(ANY_KIND, up_windows=up))
    assert one.seconds([OUT] * (up - 1) + [IN] + [OUT] * (up - 1)) == []
    (raised,) = one.second(OUT)
    assert steps([raised]) == [(NORMAL, WARN, "warning_range")]
    assert (raised.value, raised.at, raised.in_a_row) == (OUT, one.now, up)
    assert raised.rule == f"warning_range value > 100.0, {up} windows in a row"
    assert f"in {up} windows in a row" in explain(raised, None, "en")[0]
    assert one.seconds([160.0] * (up - 1)) == []
    (graver,) = one.second(-60.0)
    assert (graver.severity, graver.value) == (CRITICAL, -60.0)


def test_learners_raise_after_so_many_windows_in_a_row() -> None:
    """The first of them must be news; a repetition counts on, and a window that is calm ends the run."""
    one = sensor(PolicyEntry(ANY_KIND, up_windows=3), limits=None)
    for surprise, told in ((ODD, True), (ODD, False), (CALM, False), (ODD, False), (ODD, False), (ODD, True)):
        assert one.second(surprise=surprise, told=told) == []
    assert one.second(surprise=ALARMING, told=False) == []
    (raised,) = one.second(surprise=ODD, told=False)
    assert (raised.severity, raised.in_a_row) == (WARN, 3)
    assert raised.rule.endswith(", 3 windows in a row")


@given(st.lists(st.sampled_from((CALM, ODD, ALARMING)), max_size=40), st.integers(2, 5))
def test_no_shorter_run_raises(surprises: list[float], up: int) -> None:
    """By a plain count over the last windows."""
    one = sensor(PolicyEntry(ANY_KIND, up_windows=up), limits=None)
    for index, surprise in enumerate(surprises):
        changes = one.second(surprise=surprise)
        last = surprises[max(0, index + 1 - up) : index + 1]
        for change in changes:
            if change.severity > change.previous and change.cause != "flapping":
                least = ALARMING if change.severity == CRITICAL else ODD
                assert len(last) == up
                assert min(last) >= least


@pytest.mark.parametrize("down", [1, 3, 12])
def test_severities_come_down_after_as_many_windows_as_the_policy_says(down: int) -> None:
    """Ranges, learners and jumps alike."""
    one = sensor(PolicyEntry(ANY_KIND, down_windows=down))
    one.second(OUT)
    assert one.seconds([IN] * (down - 1)) == []
    (over,) = one.second(IN)
    assert over.rule == f"calm for {counted(down, 'window')}"
    other = sensor(PolicyEntry(ANY_KIND, down_windows=down), limits=None)
    other.second(surprise=ALARMING)
    assert other.seconds([IN] * (down - 1)) == []
    assert steps(other.second(IN)) == [(CRITICAL, NORMAL, "recovered")]


def test_an_edit_of_the_policy_counts_from_its_place_on() -> None:
    """What is up stays up, and needs as many calm windows as it says now; without one it is the usual again."""
    one = sensor()
    one.second(OUT)
    one.bank.set_policy(0, PolicyEntry(ANY_KIND, down_windows=8))
    assert one.seconds([IN] * 7) == []
    assert steps(one.second(IN)) == [(WARN, NORMAL, "recovered")]
    other = sensor(PolicyEntry(ANY_KIND, up_windows=4, down_windows=9))
    assert other.seconds([OUT, OUT]) == []
    other.bank.set_policy(0, PolicyEntry(ANY_KIND))
    assert steps(other.second(OUT)) == [(NORMAL, WARN, "warning_range")]
    assert steps(other.seconds([IN] * DOWN_WINDOWS)) == [(WARN, NORMAL, "recovered")]


# As the reference has it --------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.sampled_from((CALM, ODD, ALARMING))), max_size=60))
def test_inside_the_warning_range_learners_make_no_event(seconds: list[tuple[float, float]]) -> None:
    """Whatever they find."""
    one = sensor()
    for value, surprise in seconds:
        assert one.second(value, surprise) == []


@given(
    st.lists(
        st.tuples(st.sampled_from((IN, OUT, 160.0)), st.sampled_from((CALM, ODD, ALARMING))), max_size=80
    ),
    st.booleans(),
)
def test_no_second_event_while_one_is_active(seconds: list[tuple[float, float]], bounded: bool) -> None:
    """Of one severity one event until it is over: another is graver, less grave, or tells that it flaps or has settled."""
    one = sensor(limits=LIMITS if bounded else None)
    changes = [change for value, surprise in seconds for change in one.second(value, surprise)]
    for change in changes:
        assert change.severity != change.previous or change.cause == "flapping"
