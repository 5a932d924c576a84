"""The rules over windows and silence: what raises, what lowers, and that cuts, restarts and columns change nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.checkpoint import resume, snapshot
from streamproc.core.rules.rests import LEAST_READINGS, Rests
from streamproc.core.severity import DOWN_WINDOWS
from streamproc.core.windows import Moments
from streamproc.records import (
    DeltaSpike,
    Expression,
    NoData,
    Range,
    RateOfChange,
    Rule,
    SensorEntry,
    Severity,
    SeverityEvent,
    StuckValue,
)
from tests.core.oracle import (
    ELSEWHERE,
    HERE,
    NOW,
    OPTIONS,
    Reading,
    Record,
    Told,
    cuttings,
    feed,
    new_state,
    registry,
    whole,
)

SENSOR, OTHER = HERE[1], HERE[2]
NORMAL, WARN, CRITICAL = Severity


def events_of(told: Told, sensor: str = SENSOR) -> list[SeverityEvent]:
    """The events of a sensor."""
    return [
        msgspec.convert(msgspec.json.decode(each)[0], SeverityEvent) for each in told.events.get(sensor, [])
    ]


def read(at: float, value: float, sensor: str = SENSOR) -> Record:
    """A reading that comes in time, at so many seconds."""
    now = NOW + round(1_000 * at)
    return Record(now, (Reading(sensor, value, now),))


def tick(at: float) -> Record:
    """A tick of the partition."""
    return Record(NOW + round(1_000 * at), tick=True)


#: Learners say nothing of windows inside of it.
WIDE = Range(-1_000, 1_000)


def judged(*rules: Rule, records: list[Record], warning: Range = WIDE) -> list[SeverityEvent]:
    """The events of one sensor with these rules; each record is a chunk of its own, and all are one chunk: alike."""
    log = registry(SensorEntry(SENSOR, name="Pump", unit="bar", rules=rules, warning=warning, version=4))
    one, other = new_state(), new_state()
    told = feed(one, records, range(len(records)), log)
    assert told == feed(other, records, (), log)
    assert whole(one) == whole(other)
    return events_of(told)


def changes(events: list[SeverityEvent]) -> list[tuple[Severity, str]]:
    """What became of the sensor, and why."""
    return [(event.severity, event.cause) for event in events]


# Rate of change -----------------------------------------------------------------------------------------------------


def ramp(begin: int, end: int, slope: float, base: float = 20.0) -> list[Record]:
    """Two readings a second of a value that goes up."""
    return [read(at / 2, base + slope * (at / 2 - begin)) for at in range(2 * begin, 2 * end)]


@pytest.mark.live
@pytest.mark.parametrize(("window", "at"), [("1s", 21), ("5s", 25), ("10s", 30)])
def test_a_slope_beyond_the_rule_raises_when_its_window_closes(window: str, at: int) -> None:
    """Up or down, by windows of the rule's size; and calm windows of that size lower it."""
    rule = msgspec.convert({"rule": "rate_of_change", "per_second": 0.9, "window": window}, RateOfChange)
    for sign in (1, -1):
        records = [*ramp(0, 20, 0.1 * sign), *ramp(20, 40, sign), *ramp(40, 140, 0.0)]
        up, down = judged(rule, records=records)
        assert (up.severity, up.cause, up.at) == (WARN, "rate_of_change", NOW + 1_000 * at)
        assert up.lineage.rule == f"rate_of_change abs(trend_{window}) > 0.9"
        assert up.lineage.scores[f"trend_{window}"] == pytest.approx(sign)
        assert up.lineage.window["size_ms"] == 1_000 * int(window[:-1])
        assert f"Pump {'rose' if sign > 0 else 'fell'} by 1 bar a second" in up.explanation
        assert "0.9 bar a second is the most allowed" in up.explanation
        assert (down.severity, down.cause) == (NORMAL, "recovered")


def test_a_slope_as_great_as_allowed_is_allowed() -> None:
    """The bound is no breach."""
    assert not judged(RateOfChange(per_second=1.5, window="1s"), records=ramp(0, 30, 1.0))


def test_up_after_n_windows_down_after_m() -> None:
    """In a row: one window between begins the count again."""
    rule = RateOfChange(per_second=0.9, window="1s", for_windows=3, clear_windows=2)
    short = [*ramp(0, 4, 0.0), *ramp(4, 6, 1.0), *ramp(6, 8, 0.0), *ramp(8, 10, 1.0), *ramp(10, 20, 0.0)]
    assert not judged(rule, records=short)
    long = [*ramp(0, 4, 0.0), *ramp(4, 8, 1.0), *ramp(8, 9, 0.0), *ramp(9, 10, 1.0), *ramp(10, 20, 0.0)]
    up, down = judged(rule, records=long)
    assert (up.at, down.at) == (NOW + 7_000, NOW + 12_000)


# Silence ------------------------------------------------------------------------------------------------------------


def test_silence_is_told_by_the_partitions_clock_and_ends_with_a_reading() -> None:
    """At the time that it became one, whatever record shows it: another sensor's, a tick, or the sensor's next one."""
    for between in ([tick(70)], [tick(60)], [read(61, 5.0, OTHER)], []):
        records = [read(0, 20.0), *between, read(90, 21.0), read(91, 21.0)]
        begun, ended = judged(NoData(seconds=60), records=records)
        assert (begun.severity, begun.cause, begun.at) == (WARN, "silence", NOW + 60_000)
        assert begun.value == 20.0
        assert begun.lineage.first_offset == begun.lineage.last_offset == 0
        assert begun.lineage.scores == {"seconds": 60.0, "since": float(NOW)}
        assert begun.explanation.startswith("Pump has sent nothing for 60 s, up to ")
        assert (ended.severity, ended.cause, ended.at, ended.value) == (
            NORMAL,
            "recovered",
            NOW + 90_000,
            21.0,
        )


def test_no_silence_is_told_before_its_time() -> None:
    """Nor of a sensor without the rule, nor of one that was never heard."""
    assert not judged(
        NoData(seconds=60), records=[read(0, 20.0), tick(59.999), read(59.999, 20.0), tick(119)]
    )
    assert not judged(records=[read(0, 20.0), tick(500)])
    assert not judged(NoData(seconds=60), records=[tick(0), tick(500)])


def test_the_next_silence_is_known_before_it_comes() -> None:
    """So that a partition where nothing comes gets a tick then, and not all the time."""
    log = registry(SensorEntry(SENSOR, rules=(NoData(60.0), NoData(600.0))), SensorEntry(OTHER))
    state = new_state()
    assert state.router.silence_rules.next_at(state.watermarks, state.router.severity.silence_at) is None
    for records, wanted in (
        ([tick(0)], None),
        ([read(1, 20.0), read(9, 20.0, OTHER)], 61),
        ([tick(60)], 61),
        ([tick(70)], 601),
        ([tick(700)], None),
        ([read(710, 20.0)], 770),
    ):
        before = [Record(NOW, tick=True)] * state.next_offset
        feed(state, [*before, *records], (), log)
        at = state.router.silence_rules.next_at(state.watermarks, state.router.severity.silence_at)
        assert at == (None if wanted is None else NOW + 1_000 * wanted)


def test_a_longer_silence_may_be_graver() -> None:
    """Each rule has its time; one reading ends both."""
    rules = (NoData(seconds=600, severity=CRITICAL), NoData(seconds=60))
    records = [read(0, 20.0), tick(100), tick(200), tick(700), read(800, 20.0)]
    assert changes(judged(*rules, records=records)) == [
        (WARN, "silence"),
        (CRITICAL, "silence"),
        (NORMAL, "recovered"),
    ]


def test_late_readings_and_retries_are_heard() -> None:
    """The sensor lives, whatever its clock says."""
    late = Record(NOW + 90_000, (Reading(SENSOR, 3.0, NOW - 50_000),))
    begun, ended = judged(NoData(seconds=60), records=[read(0, 20.0), tick(70), late, tick(100)])
    assert (begun.severity, ended.severity, ended.value) == (WARN, NORMAL, 3.0)


def test_a_sensor_that_stutters_is_told_once() -> None:
    """One that speaks a little more seldom than its rule allows is no alarm and recovery each time."""
    records = [read(61.0 * i, 20.0) for i in range(12)] + [read(61.0 * 11 + i, 20.0) for i in range(1, 30)]
    told = changes(judged(NoData(seconds=60), records=records))
    assert told == [(WARN, "silence"), (NORMAL, "recovered")] * 2


def test_a_reading_out_of_range_ends_a_silence_and_keeps_the_alarm() -> None:
    """No recovery is told that is none."""
    records = [read(0, 20.0), tick(70), read(80, 90.0), *(read(81 + i, 20.0) for i in range(20))]
    assert changes(judged(NoData(seconds=60), records=records, warning=Range(high=50))) == [
        (WARN, "silence"),
        (NORMAL, "recovered"),
    ]


def test_a_sensor_that_has_moved_to_another_partition_is_not_silent_here() -> None:
    """Its readings come elsewhere from then on."""
    log = registry(SensorEntry(SENSOR, rules=(NoData(seconds=60),)))
    log.append(1, NOW + 500, SENSOR, SensorEntry(SENSOR, ELSEWHERE[0], rules=(NoData(seconds=60),)))
    records = [read(0, 20.0), Record(NOW + 1_000, edit=b"2"), tick(100)]
    assert not feed(new_state(), records, (), log).events


# Stuck values -------------------------------------------------------------------------------------------------------


def test_a_value_that_stays_is_stuck_after_the_time() -> None:
    """Of the window whose last reading shows it; and no more once it moves."""
    records = [read(i, 20.0 + i % 2) for i in range(5)]
    records += [read(i, 7.0) for i in range(5, 40)] + [read(i, 20.0 + i % 2) for i in range(40, 60)]
    up, down = judged(StuckValue(seconds=30), records=records)
    assert (up.severity, up.cause, up.at, up.value) == (WARN, "stuck_value", NOW + 36_000, 7.0)
    assert up.lineage.scores == {"seconds": 30.0, "low": 7.0, "high": 7.0}
    assert up.explanation.startswith("Pump has not moved for 30 s, up to ")
    assert (down.cause, down.at) == ("recovered", NOW + 1_000 * (40 + DOWN_WINDOWS))


@pytest.mark.parametrize(("tolerance", "told"), [(0.0, 0), (0.9, 0), (1.0, 1)])
def test_what_moves_within_the_tolerance_does_not_move(tolerance: float, told: int) -> None:
    """All values of the time lie within it of each other."""
    records = [read(i, 20.0 + i % 2) for i in range(40)]
    assert len(judged(StuckValue(seconds=30, tolerance=tolerance), records=records)) == told


def test_two_readings_are_no_rest() -> None:
    """Of what was between them nobody knows."""
    assert not judged(StuckValue(seconds=30), records=[read(0, 20.0), read(100, 20.0), tick(120)])


# Expressions --------------------------------------------------------------------------------------------------------


def test_an_expression_that_is_true_raises() -> None:
    """With the numbers that it was judged by, in words too."""
    rule = Expression("max_1s - min_1s > 3 or mean_1s > 80 and count_1s >= 2", severity=CRITICAL)
    records = [*ramp(0, 5, 0.0), read(5, 20.0), read(5.5, 24.0), *ramp(6, 20, 0.0)]
    up, down = judged(rule, records=records)
    assert (up.severity, up.cause, up.at) == (CRITICAL, "expression", NOW + 6_000)
    assert up.lineage.scores == {"max_1s": 24.0, "min_1s": 20.0, "mean_1s": 22.0, "count_1s": 2.0}
    assert up.lineage.rule == f"expression {rule.expression}"
    assert "“max_1s - min_1s > 3 or mean_1s > 80 and count_1s >= 2”" in up.explanation
    assert "the highest of 1 s is 24 bar" in up.explanation
    assert down.cause == "recovered"


def test_an_expression_over_several_sizes_takes_the_last_of_each() -> None:
    """It is judged with each window of its smallest size; before there is one of another size it says nothing."""
    rule = Expression("mean_10s > 50 and last_1s > 50")
    (up, *_) = judged(rule, records=[read(i, 60.0) for i in range(40)])
    # The window of 10 s that began with the first reading closes with the window of 1 s that ends when it does.
    first = NOW - NOW % 10_000 + 10_000
    assert up.at == first
    assert not judged(Expression("mean_10s > 50 and last_1s > 50"), records=[read(i, 60.0) for i in range(6)])


def test_what_is_no_number_is_not_true() -> None:
    """A division by zero, also under `not`."""
    for text in (
        "1 / trend_1s > 0",
        "not 1 / trend_1s > 0",
        "mean_1s / (count_1s - 1) != 0",
        "min(9, 1/trend_1s) > 0",
    ):
        assert not judged(Expression(text), records=[read(i, 20.0) for i in range(20)])


def test_an_alarm_tells_nothing_a_second_time() -> None:
    """Two rules of one severity are one event; a graver one is another."""
    rules = (
        Expression("mean_1s > 50"),
        Expression("max_1s > 50"),
        Expression("max_1s > 90", severity=CRITICAL),
    )
    values = [20.0] * 5 + [60.0] * 5 + [95.0] * 3 + [60.0] * 10 + [20.0] * 10
    assert changes(judged(*rules, records=[read(i, value) for i, value in enumerate(values)])) == [
        (WARN, "expression"),
        (CRITICAL, "expression"),
        (WARN, "expression"),
        (NORMAL, "recovered"),
    ]


def test_rules_are_heard_inside_the_warning_range() -> None:
    """They are the user's own word; learners are not heard there."""
    records = [read(i, 60.0) for i in range(20)]
    assert changes(judged(Expression("mean_1s > 50"), records=records, warning=Range(0, 100))) == [
        (WARN, "expression")
    ]


def test_of_rules_as_grave_the_first_is_told_after_an_edit_too() -> None:
    """Of the entry, whatever was edited before: a worker that was restored since, or a replay, knows of no edit."""
    rules = tuple(Expression(f"mean_1s > {bound}") for bound in (30, 31, 32))
    entry = SensorEntry(SENSOR, rules=rules, warning=WIDE)
    log, records = registry(entry), [read(at, 20.0) for at in range(3)]
    log.append(log.position, NOW + 2_000, SENSOR, msgspec.structs.replace(entry, name="Pump"))
    edit, rest = Record(NOW + 3_000, edit=b"%d" % log.position), [read(at, 40.0) for at in range(4, 9)]
    state = new_state()
    feed(state, [*records, edit], (), log)
    restored = resume(OPTIONS, snapshot(state))
    for one in (state, restored):
        (event,) = events_of(feed(one, [*records, edit, *rest], (), log))
        assert event.lineage.rule == "expression mean_1s > 30"


def test_an_edit_takes_a_rule_away_and_its_alarm_ends() -> None:
    """After calm windows, though nothing judges it any more; from the edit on."""
    log = registry(SensorEntry(SENSOR, rules=(Expression("mean_1s > 50"),)))
    log.append(1, NOW + 9_500, SENSOR, SensorEntry(SENSOR, version=2))
    records = [read(i, 60.0) for i in range(10)]
    records += [Record(NOW + 9_900, edit=b"2"), *(read(i, 60.0) for i in range(10, 30))]
    up, down = events_of(feed(new_state(), records, (), log))
    assert (up.cause, down.cause) == ("expression", "recovered")
    assert down.at > NOW + 9_900


def test_an_expressions_numbers_are_as_exact_as_its_own() -> None:
    """What is above 113.25 is not told as 113.3."""
    up, *_ = judged(Expression("mean_1s > 113.25"), records=[read(at, 113.279) for at in range(4)])
    assert "the mean of 1 s is 113.279 bar" in up.explanation


@pytest.mark.parametrize(
    ("rule", "values", "words"),
    [
        (
            RateOfChange(0.9, window="1s"),
            [20.0, 21.0] * 4,
            "Bomba subió 2 bar por segundo en el intervalo de 1 s hasta las ",
        ),
        (
            RateOfChange(0.9, window="1s"),
            [21.0, 20.0] * 4,
            "Bomba bajó 2 bar por segundo en el intervalo de 1 s ",
        ),
        (NoData(60.0), [20.0] * 2, "Bomba no ha enviado nada en 60 s, hasta las "),
        (NoData(5_400.0), [20.0] * 2, "Bomba no ha enviado nada en 1 h 30 min, hasta las "),
        (NoData(266_400.0), [20.0] * 2, "Bomba no ha enviado nada en 3 días 2 h, hasta las "),
        (StuckValue(2.0), [20.0] * 9, "Bomba no se ha movido en 2,5 s, hasta las "),
        (
            Expression("mean_1s > 19 and count_1s > 1"),
            [20.0] * 2,
            "Bomba cumple la regla «mean_1s > 19 and count_1s > 1» en el intervalo de 1 s hasta las ",
        ),
    ],
)
def test_rules_are_told_in_spanish_too(rule: Rule, values: list[float], words: str) -> None:
    """With numbers, unit and what to do."""
    log = registry(SensorEntry(SENSOR, name="Bomba", unit="bar", rules=(rule,)))
    records = [*(read(index / 2, value) for index, value in enumerate(values)), tick(300_000)]
    told = feed(new_state(replace(OPTIONS, language="es")), records, (), log)
    event = events_of(told)[0]
    assert event.explanation.startswith(words)
    assert event.recommended_action
    assert not any(wrong in event.explanation for wrong in ("{", "nan", " None"))


# Against plain ones -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from((1, 900, 3_000, 5_000, 5_001, 61_000)), st.booleans()), max_size=30),
    st.sampled_from((3, 5)),
)
def test_silences_are_those_of_a_plain_clock(steps: list[tuple[int, bool]], seconds: int) -> None:
    """Each gap of so long, by readings or ticks, is one, from its time on; windows that were calm long enough are between."""
    clock, heard, wanted = NOW, NOW, list[int]()
    records = [read(0, 20.0)]
    for step, is_reading in steps:
        clock += step
        if clock - heard >= 1_000 * seconds and wanted[-1:] != [heard + 1_000 * seconds]:
            wanted.append(heard + 1_000 * seconds)
        heard = clock if is_reading else heard
        now = (clock - NOW) / 1_000
        records.append(read(now, 20.0) if is_reading else tick(now))
    begun = [event.at for event in judged(NoData(seconds=seconds), records=records) if event.severity]
    # All are silences; of those that come soon after another one only the first is told.
    assert set(begun) <= set(wanted)
    assert begun[:1] == wanted[:1]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(1, 3),
            st.lists(st.sampled_from((1.0, 1.4, 2.0)), min_size=1, max_size=4),
        ),
        max_size=40,
    ),
    st.lists(st.sampled_from((0.0, 0.5, 1.0)), min_size=3, max_size=3),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_rests_are_those_of_a_plain_count(
    story: list[tuple[int, int, list[float]]], tolerances: list[float], cuts: list[int]
) -> None:
    """Window by window of each sensor, however many come at once."""
    rests, plain, clocks = Rests(), [Plain(), Plain(), Plain()], [0, 0, 0]
    rests.grow(3)
    made: list[tuple[int, list[tuple[int, float]]]] = []
    for slot, step, values in story:
        clocks[slot] += step
        made.append((slot, [(1_000 * clocks[slot] + 100 * i, value) for i, value in enumerate(values)]))
    ends = sorted({cut for cut in cuts if cut < len(made)} | {len(made)})
    for begin, end in zip([0, *ends], ends, strict=False):
        part = sorted(made[begin:end], key=lambda window: window[0])
        rows = Moments.empty(len(part))
        for index, (_, readings) in enumerate(part):
            put(rows, index, readings)
        slots = np.array([slot for slot, _ in part], dtype=np.int64)
        rested = rests.advance(slots, rows, np.array(tolerances)[slots])
        wanted = [plain[slot].take(readings, tolerances[slot]) for slot, readings in part]
        assert (
            list(zip(rested.rested_ms.tolist(), rested.low.tolist(), rested.high.tolist(), strict=True))
            == wanted
        )


@dataclass
class Plain:
    """One sensor's rest in the most obvious way."""

    rest: list[tuple[int, float]] = field(default_factory=list)

    def take(self, readings: list[tuple[int, float]], tolerance: float) -> tuple[int, float, float]:
        """How long it has rested, and between which values, after one more window."""
        for rest in ([*self.rest, *readings], readings, readings[-1:]):
            values = [value for _, value in rest]
            if max(values) - min(values) <= tolerance:
                self.rest = rest
                break
        values = [value for _, value in self.rest]
        rested = self.rest[-1][0] - self.rest[0][0] if len(self.rest) >= LEAST_READINGS else 0
        return rested, min(values), max(values)


def put(rows: Moments, index: int, readings: list[tuple[int, float]]) -> None:
    """Make a row what a window of these readings is."""
    values = [value for _, value in readings]
    rows.count[index], rows.min[index], rows.max[index] = len(values), min(values), max(values)
    rows.first_ts[index], rows.last_ts[index], rows.last[index] = readings[0][0], readings[-1][0], values[-1]


@pytest.mark.live
@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from((500, 1_000, 4_000, 11_000)), st.sampled_from((1.0, 5.0, 9.0))), max_size=40
    ),
    st.sampled_from((Expression("mean_1s > 4 and max_5s > 8"), Expression("last_5s - min_10s > 3"))),
)
def test_expressions_hold_where_plain_windows_say_so(
    steps: list[tuple[int, float]], rule: Expression
) -> None:
    """Made of all readings, with the last windows of each size that had ended by then."""
    records, clock = [read(0, 1.0)], NOW
    readings = [(NOW, 1.0)]
    for step, value in steps:
        clock += step
        readings.append((clock, value))
        records.append(Record(clock, (Reading(SENSOR, value, clock),)))
    records.append(Record(clock + 60_000, tick=True))
    wanted = None
    by_size: dict[int, dict[int, list[float]]] = {1_000: {}, 5_000: {}, 10_000: {}}
    for at, value in readings:
        for size, ended in by_size.items():
            ended.setdefault(at // size * size + size, []).append(value)
    smallest = 1_000 if "_1s" in rule.expression else 5_000
    for end in sorted(by_size[smallest]):
        last = {
            size: next((windows[e] for e in sorted(windows, reverse=True) if e <= end), None)
            for size, windows in by_size.items()
        }
        one, five, ten = last[1_000], last[5_000], last[10_000]
        if smallest == 1_000:
            holds = one and five and sum(one) / len(one) > 4 and max(five) > 8
        else:
            holds = five and ten and five[-1] - min(ten) > 3
        if holds:
            wanted = end
            break
    events = judged(rule, records=records)
    assert [event.at for event in events][:1] == ([] if wanted is None else [wanted])


# Cuts and restarts --------------------------------------------------------------------------------------------------

_RULES: tuple[Rule, ...] = (
    RateOfChange(per_second=5.0, window="1s"),
    RateOfChange(per_second=1.0, window="5s", severity=CRITICAL, clear_windows=2),
    NoData(seconds=3),
    NoData(seconds=13, severity=CRITICAL),
    StuckValue(seconds=4, tolerance=0.5),
    StuckValue(seconds=20, tolerance=0.5, severity=CRITICAL, for_windows=2),
    Expression("mean_10s > 40 and max_1s > mean_5s"),
    Expression("deviation_5s > 3", for_windows=2, clear_windows=1),
    DeltaSpike(absolute=30.0),
)
_steps = st.tuples(
    st.sampled_from((SENSOR, OTHER, None)),
    st.sampled_from((0, 200, 1_000, 1_000, 2_000, 4_000, 15_000)),
    st.sampled_from((0, 0, 0, 700, 2_500, 5_000)),
    st.sampled_from((20.0, 20.0, 20.4, 29.6, 45.0)),
)


def _story(steps: list[tuple[str | None, int, int, float]]) -> list[Record]:
    records, clock = [], NOW
    for number, (sensor, step, behind, value) in enumerate(steps):
        clock += step
        records.append(
            Record(clock, tick=True)
            if sensor is None
            else Record(clock, (Reading(sensor, value, clock - behind),))
        )
        if number % 15 == 14:
            records.append(Record(clock, edit=b"%d" % (2 + number // 15)))
    return records


@pytest.mark.live
@settings(deadline=None, max_examples=100)
@given(
    st.lists(_steps, min_size=1, max_size=60),
    st.lists(st.lists(st.sampled_from(_RULES), unique=True, max_size=9), min_size=4, max_size=4),
    cuttings,
    st.integers(0, 70),
)
def test_cuts_and_restarts_change_nothing(
    steps: list[tuple[str | None, int, int, float]], edits: list[list[Rule]], cuts: list[int], stop: int
) -> None:
    """Windows, silences, edits and late readings: the same bits, however it is cut and taken up again."""
    records = _story(steps)
    log = registry(SensorEntry(SENSOR, rules=tuple(edits[0])), SensorEntry(OTHER, rules=_RULES))
    for number, rules in enumerate(edits[1:], 1):
        log.append(log.position, NOW - 1, SENSOR, SensorEntry(SENSOR, rules=tuple(rules), version=number))
    one, other = new_state(), new_state()
    everything = feed(one, records, (), log)
    first = feed(other, records[:stop], cuts, log)
    other = resume(OPTIONS, snapshot(other)) if other.next_offset else other
    rest = feed(other, records, cuts, log)
    for sensor in (SENSOR, OTHER):
        assert everything.events.get(sensor, []) == first.events.get(sensor, []) + rest.events.get(sensor, [])
    assert whole(one) == whole(other)
