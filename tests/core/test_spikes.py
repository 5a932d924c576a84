"""Delta spikes: which readings are a pair, which pairs are too far apart, and how a jump is told and forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.sensor_state import SensorState
from streamproc.core.severity import DOWN_WINDOWS
from streamproc.core.spikes import NEAR, SpikeRules, words_of
from streamproc.core.watermarks import Runs
from streamproc.core.windows import NEVER
from streamproc.records import DeltaSpike, Range, Rule, SensorEntry, Severity, SeverityEvent
from tests.core.oracle import HERE, NOW, Reading, Record, cuttings, feed, new_state, registry, whole

SENSOR = HERE[1]
NORMAL, WARN, CRITICAL = Severity
JUMP = DeltaSpike(absolute=10.0)


def told(
    *readings: tuple[float, float],
    rules: tuple[Rule, ...] = (JUMP,),
    warning: Range | None = None,
    critical: Range | None = None,
    cuts: tuple[int, ...] = (),
) -> list[SeverityEvent]:
    """The events of readings (seconds, value) of one sensor, a record each that comes in time."""
    entry = SensorEntry(
        SENSOR, name="Pump", unit="bar", warning=warning, critical=critical, rules=rules, version=4
    )
    records = [
        Record(
            NOW + round(1_000 * max(at for at, _ in readings[: i + 1])),
            (Reading(SENSOR, value, NOW + round(1_000 * at)),),
        )
        for i, (at, value) in enumerate(readings)
    ]
    made = feed(new_state(), records, cuts, registry(entry)).events.get(SENSOR, [])
    return [msgspec.convert(msgspec.json.decode(each)[0], SeverityEvent) for each in made]


def steady(begin: int, count: int, value: float = 20.0) -> list[tuple[float, float]]:
    """A reading of the same value in each second."""
    return [(float(at), value) for at in range(begin, begin + count)]


@pytest.mark.parametrize(
    ("rule", "before", "after", "seconds", "jumps"),
    [
        (DeltaSpike(absolute=10.0), 20.0, 30.0, 1.0, False),
        (DeltaSpike(absolute=10.0), 20.0, 30.1, 1.0, True),
        (DeltaSpike(absolute=10.0), 20.0, 9.9, 1.0, True),
        (DeltaSpike(absolute=0.0), 20.0, 20.0, 1.0, False),
        (DeltaSpike(absolute=0.0), 20.0, 20.5, 1.0, True),
        (DeltaSpike(percent=50.0), -20.0, -30.0, 1.0, False),
        (DeltaSpike(percent=50.0), -20.0, -30.5, 1.0, True),
        (DeltaSpike(percent=50.0), 0.0, 0.001, 1.0, True),
        (DeltaSpike(absolute=10.0, percent=50.0), 100.0, 115.0, 1.0, False),
        (DeltaSpike(absolute=10.0, percent=50.0), 1.0, 5.0, 1.0, False),
        (DeltaSpike(absolute=10.0, percent=50.0), 100.0, 151.0, 1.0, True),
        (DeltaSpike(absolute=10.0, within_seconds=2.0), 20.0, 40.0, 2.0, True),
        (DeltaSpike(absolute=10.0, within_seconds=2.0), 20.0, 40.0, 2.001, False),
        (DeltaSpike(absolute=10.0), 20.0, 40.0, 86_400.0, True),
        (DeltaSpike(), 20.0, 1e9, 1.0, False),
    ],
)
def test_a_change_beyond_all_bounds_of_a_rule_is_a_jump(
    rule: DeltaSpike, before: float, after: float, seconds: float, jumps: bool
) -> None:
    """What equals a bound is allowed; where both bounds are given both must be passed; time is a bound too."""
    events = told((0.0, before), (seconds, after), rules=(rule,))
    assert [event.cause for event in events] == ["delta_spike"] * jumps


def test_a_jump_says_from_what_to_what() -> None:
    """With the records of both readings, the numbers that it was judged by, the rule and the registry's version."""
    (event,) = told((0.0, 20.0), (0.5, 21.0), (0.9, 61.0))
    assert (event.severity, event.previous, event.at, event.value) == (WARN, NORMAL, NOW + 900, 61.0)
    assert event.explanation.startswith("Pump went from 21 bar to 61 bar in 0.4 s, at ")
    assert "a change of 40 bar, where 10 bar is the most allowed" in event.explanation
    assert event.recommended_action
    lineage = event.lineage
    assert (lineage.first_offset, lineage.last_offset, lineage.window) == (1, 2, {})
    assert lineage.scores == {"previous": 21.0, "change": 40.0, "allowed": 10.0, "seconds": 0.4}
    assert lineage.rule == words_of(JUMP) == "delta_spike change > 10.0"
    assert lineage.versions["registry"] == "4"


def test_the_gravest_rule_that_is_broken_is_told() -> None:
    """Whatever their order; of two as grave the first."""
    rules = (JUMP, DeltaSpike(absolute=30.0, severity=CRITICAL), DeltaSpike(percent=10.0))
    small, great = told((0.0, 20.0), (1.0, 35.0), (2.0, 70.0), rules=rules)
    assert (small.severity, small.lineage.rule) == (WARN, "delta_spike change > 10.0")
    assert (great.severity, great.lineage.rule) == (CRITICAL, "delta_spike change > 30.0")
    assert great.previous == WARN


def test_a_jump_is_heard_inside_the_ranges_too() -> None:
    """The rule is the user's own word, as the ranges are; a jump out of a range makes one event, the graver one's."""
    grave = (DeltaSpike(absolute=10.0, severity=CRITICAL),)
    for rules, value, severity, cause in (
        ((JUMP,), 40.0, WARN, "delta_spike"),
        ((JUMP,), 60.0, WARN, "warning_range"),
        ((JUMP,), 95.0, CRITICAL, "critical_range"),
        (grave, 60.0, CRITICAL, "delta_spike"),
        (grave, 95.0, CRITICAL, "critical_range"),
    ):
        (event,) = told((0, 20), (1, value), rules=rules, warning=Range(0, 50), critical=Range(-10, 90))
        assert (event.severity, event.cause) == (severity, cause)


def test_calm_windows_alone_end_a_jump() -> None:
    """DOWN_WINDOWS that began after it; the way back is a jump too, and so begins the count again."""
    back, calm = told(*steady(0, 3), (3.0, 60.0), *steady(4, 20))
    assert (back.cause, calm.cause, calm.severity) == ("delta_spike", "recovered", NORMAL)
    assert calm.at == NOW + 1_000 * (5 + DOWN_WINDOWS)
    assert calm.lineage.rule == f"calm for {DOWN_WINDOWS} windows"


def test_what_comes_near_to_a_jump_holds_it_up() -> None:
    """Or a sensor that stumbles at the edge of the rule would be told of again and again; alone it raises nothing."""
    nearly = [(float(at), 20.0 + 9.9 * (at % 2)) for at in range(4, 60)]
    assert len(told((0.0, 20.0), (1.0, 40.0), (2.0, 20.0), (3.0, 29.9), *nearly)) == 1
    less = [(float(at), 20.0 + 9.4 * (at % 2)) for at in range(4, 60)]
    assert len(told((0.0, 20.0), (1.0, 40.0), (2.0, 20.0), *less)) == 2
    assert not told(*nearly)


def test_a_range_outlasts_a_jump() -> None:
    """Each evidence comes down by itself: what is CRITICAL by a jump stays WARN while it is out of the warning range."""
    rules = (DeltaSpike(absolute=10.0, severity=CRITICAL),)
    up, eased = told((0, 20), (1, 80), *steady(2, 20, 80.0), rules=rules, warning=Range(0, 50))
    assert (up.severity, eased.severity, eased.cause) == (CRITICAL, WARN, "warning_range")


def test_a_jump_outlasts_a_range() -> None:
    """A WARN of a jump stays where the range is at peace already."""
    jumps = [(float(at), 20.0 + 15.0 * (at % 2)) for at in range(2, 12)]
    events = told((0, 20), (1, 80), *jumps, *steady(12, 20), critical=Range(0, 50))
    assert [(event.severity, event.cause) for event in events] == [
        (CRITICAL, "critical_range"),
        (WARN, "delta_spike"),
        (NORMAL, "recovered"),
    ]
    assert "changed too fast a short while ago" in events[1].explanation


def test_a_reading_out_of_order_is_no_part_of_a_pair() -> None:
    """It fills a gap: neither it nor the next one is compared with the other."""
    assert not told((0.0, 20.0), (2.0, 20.0), (1.0, 80.0), (3.0, 20.0))
    assert len(told((0.0, 20.0), (2.0, 80.0), (1.0, 20.0))) == 1


def test_readings_of_one_time_are_in_the_order_of_their_records() -> None:
    """A device may stamp whole seconds."""
    (event,) = told((1.0, 20.0), (1.0, 40.0))
    assert event.lineage.scores["seconds"] == 0
    assert "with the same time stamp" in event.explanation


def test_retries_and_late_readings_are_no_jump() -> None:
    """They count in nothing."""
    again = [(0.0, 20.0), (1.0, 25.0), (0.0, 20.0), (1.0, 25.0), (2.0, 25.0)]
    assert not told(*again)
    assert not told((0.0, 20.0), (9.0, 20.0), (0.0, 90.0), (10.0, 20.0))


def test_a_rule_works_from_its_edit_on() -> None:
    """The reading before it is the first half of the pair; without the rule nothing is told."""
    log = registry(SensorEntry(SENSOR, version=1))
    log.append(1, NOW + 500, SENSOR, SensorEntry(SENSOR, rules=(JUMP,), version=2))
    log.append(2, NOW + 2_500, SENSOR, SensorEntry(SENSOR, version=3))
    records = [
        Record(NOW, (Reading(SENSOR, 0.0, NOW - 10),)),
        Record(NOW, (Reading(SENSOR, 50.0, NOW),)),
        Record(NOW + 500, edit=b"2"),
        Record(NOW + 1_000, (Reading(SENSOR, 90.0, NOW + 1_000),)),
        Record(NOW + 2_500, edit=b"3"),
        Record(NOW + 3_000, (Reading(SENSOR, 0.0, NOW + 3_000),)),
    ]
    for cuts in ((), range(6)):
        ((made,),) = feed(new_state(), records, cuts, log).events.values()
        event = msgspec.convert(msgspec.json.decode(made)[0], SeverityEvent)
        assert (event.lineage.first_offset, event.lineage.last_offset) == (1, 3)
        assert event.lineage.versions["registry"] == "2"


# Against a plain one ------------------------------------------------------------------------------------------------


@dataclass
class Plain:
    """One sensor's rules in the most obvious way."""

    rules: tuple[DeltaSpike, ...]
    last: tuple[float, float] | None = None

    def take(self, at: int, value: float) -> int:
        """The severity of the step to this reading."""
        if self.last is not None and at < self.last[0]:
            return 0
        before, self.last = self.last, (at, value)
        return (
            0
            if before is None
            else max((self._of(rule, before, at, value) for rule in self.rules), default=0)
        )

    @staticmethod
    def _of(rule: DeltaSpike, before: tuple[float, float], at: int, value: float) -> int:
        change = abs(value - before[1])
        bounds = [] if rule.absolute is None else [rule.absolute]
        bounds += [] if rule.percent is None else [rule.percent / 100 * abs(before[1])]
        late = rule.within_seconds is not None and at - before[0] > 1_000 * rule.within_seconds
        return 0 if late or not bounds or any(change <= bound for bound in bounds) else int(rule.severity)


rules = st.lists(
    st.builds(
        DeltaSpike,
        absolute=st.sampled_from((None, 0.0, 2.0, 10.0)),
        percent=st.sampled_from((None, 0.0, 50.0, 300.0, 1e300)),
        within_seconds=st.sampled_from((None, 0.0, 0.5, 3.0)),
        severity=st.sampled_from((WARN, CRITICAL)),
    ),
    max_size=3,
).map(tuple)
rows = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(-3_000, 9_000),
        st.sampled_from((0.0, 1.0, 3.0, -4.0, 12.0, 1e100, -1e100)),
    )
)


@settings(deadline=None)
@given(st.lists(rules, min_size=4, max_size=4), rows, st.lists(st.integers(0, 30), max_size=4))
def test_columns_say_what_a_plain_rule_says(
    each: list[tuple[DeltaSpike, ...]], readings: list[tuple[int, int, float]], cuts: list[int]
) -> None:
    """For each reading of several sensors, however they are cut; and the state is that of the last in event order."""
    judged, state, plain = SpikeRules(), SensorState(), [Plain(rule) for rule in each]
    judged.grow(4)
    state.grow(4)
    for number, its in enumerate(each):
        judged.put(number, its)
    found = dict.fromkeys(range(len(readings)), 0)
    ends = sorted({cut for cut in cuts if cut < len(readings)} | {len(readings)})
    for begin, end in zip([0, *ends], ends, strict=False):
        order = sorted(range(begin, end), key=lambda i: readings[i][0])
        slot, ts = (np.array([readings[i][k] for i in order], dtype=np.int64) for k in (0, 1))
        value = np.array([readings[i][2] for i in order])
        steps = state.advance(Runs.of(slot), ts, value, np.array(order, dtype=np.int64), judged.ruled)
        if steps is not None:
            verdicts = judged.judge(slot[steps.at], steps.previous, value[steps.at], steps.lapse_ms)
            assert (verdicts.near | (verdicts.severity == 0)).all()
            found |= dict(zip((order[i] for i in steps.at.tolist()), verdicts.severity.tolist(), strict=True))
    assert found == {i: plain[row[0]].take(*row[1:]) for i, row in enumerate(readings)}
    for number, one in enumerate(plain):
        wanted = (float(NEVER), 0.0) if one.last is None else one.last
        assert (float(state.ts[number]), float(state.value[number])) == wanted


@given(st.lists(st.tuples(st.integers(0, 20), rules), max_size=60))
def test_rules_come_and_go_with_their_sensors(edits: list[tuple[int, tuple[DeltaSpike, ...]]]) -> None:
    """Each sensor has those that it was given last, and places are used again."""
    judged, wanted = SpikeRules(), dict[int, tuple[DeltaSpike, ...]]()
    judged.grow(21)
    for slot, its in edits:
        judged.put(slot, its)
        wanted[slot] = its
    ruled = [slot for slot, its in sorted(wanted.items()) if its]
    assert np.flatnonzero(judged.ruled).tolist() == ruled
    assert bool(judged) == bool(ruled)
    for slot in ruled:
        one = np.array([slot])
        verdict = judged.judge(one, np.array([1.0]), np.array([9.0]), np.array([0]))
        assert verdict.severity[0] == Plain(wanted[slot], (0, 1.0)).take(0, 9.0)


stories = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from((0, 200, 1_000, 1_000, 4_000, -700)),
        st.sampled_from((20.0, 20.0, 29.6, 45.0)),
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(stories, cuttings, cuttings)
def test_cuts_change_nothing(story: list[tuple[int, int, float]], cuts: list[int], others: list[int]) -> None:
    """Pairs reach over chunks: events and state are the same bits."""
    log = registry(
        SensorEntry(HERE[0], rules=(JUMP, DeltaSpike(percent=100.0, severity=CRITICAL))),
        SensorEntry(
            HERE[1],
            rules=(DeltaSpike(absolute=9.0, within_seconds=1.0),),
            warning=Range(0, 40, clear_high=25),
        ),
    )
    records, clock = [], NOW
    for sensor, step, value in story:
        clock += max(step, 0)
        records.append(Record(clock, (Reading(HERE[sensor], value, clock + min(step, 0)),)))
    one, other = new_state(), new_state()
    assert feed(one, records, cuts, log) == feed(other, records, others, log)
    assert whole(one) == whole(other)


def test_near_is_below_one() -> None:
    """Or a jump would not be near to one; and a rule that bounds nothing is never near."""
    assert 0 < NEAR < 1
    judged = SpikeRules()
    judged.grow(1)
    judged.put(0, (DeltaSpike(within_seconds=1.0),))
    verdict = judged.judge(np.array([0]), np.array([0.0]), np.array([1e100]), np.array([0]))
    assert not verdict.near[0]
    assert verdict.allowed[0] in {0.0, inf}


def test_relapses_by_jumps_are_damped() -> None:
    """A sensor that jumps again soon after its recovery must be calm for twice as long."""
    first = [*steady(0, 3), (3.0, 60.0), *steady(4, 10)]
    second = [(14.0, 60.0), *steady(15, 20)]
    events = told(*first, *second)
    assert [event.severity for event in events] == [WARN, NORMAL, WARN, NORMAL]
    assert events[3].lineage.rule == f"calm for {2 * DOWN_WINDOWS} windows"
