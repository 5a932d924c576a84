"""Which changes people are told of, and when: the rules by stories, and that cuts and restarts change nothing."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.attention.course import Course
from streamproc.core.attention.orders import Orders
from streamproc.core.attention.silences import Silences
from streamproc.core.attention.state import MOST_EVENTS, Attended
from streamproc.core.attention.times import FAR, in_force_until
from streamproc.core.checkpoint import restore
from streamproc.core.engine import PartitionState
from streamproc.records import NoData, Notification, Range, SensorEntry, Severity
from streamproc.records.alerting import Document, HandlingEntry, PolicyEntry, SilenceEntry, Weekly
from tests.core.attention import (
    CALM,
    FAN,
    HIGH,
    NEAR,
    OUT,
    PUMP,
    Model,
    Story,
    at_ms,
    by_sensor,
    events,
    lines,
    notifications,
    shown,
)
from tests.core.oracle import ELSEWHERE, HERE, NOW, OPTIONS, Reading, Record, feed, new_state, whole

WARN, CRITICAL = Severity.WARN, Severity.CRITICAL


def alarm(begin: int = 10, end: int = 100, value: float = HIGH) -> Story:
    """The pump is calm, alarming from `begin` on, and calm again from `end` on: back to NORMAL when 5 windows have closed."""
    return Story().read(0, begin, CALM).read(begin, end, value).read(end, end + 60, CALM)


def present(story: Story) -> str:
    """The event of the story's last change so far."""
    return events(feed(new_state(), story.records, (), story.log))[-1].event_id


def kinds(told: list[Notification]) -> list[tuple[str, str]]:
    """Kind and severity of each."""
    return [(kind, severity) for kind, severity, _ in shown(told)]


# Without orders -----------------------------------------------------------------------------------------------------


def test_without_orders_each_change_is_told_once_and_at_once() -> None:
    """As the event is: of its severity, at its time, under an identity that has no kind."""
    story = alarm().read(160, 170, OUT)
    told = feed(new_state(), story.records, (), story.log)
    assert [(each.kind, each.severity, each.at) for each in notifications(told)] == [
        ("change", event.severity, event.at) for event in events(told)
    ]
    assert len(notifications(told)) == 3
    assert not told.withheld
    assert all("-" not in each.notification_id for each in notifications(told))


# Silences -----------------------------------------------------------------------------------------------------------


def test_what_still_stands_when_a_silence_ends_is_told_then_once() -> None:
    """With the first record after its end, in words that say why so late; the recovery is told as ever."""
    story = Story().order(0, SilenceEntry("s", sensor=PUMP, begin=at_ms(5), end=at_ms(60)))
    story.read(0, 10, CALM).read(10, 100, HIGH).read(100, 160, CALM)
    told = story.told()
    assert kinds(told) == [("held", "WARN"), ("change", "NORMAL")]
    held = told[0]
    assert held.at == at_ms(60)
    assert held.title == "WARNING: Pump is outside its warning limits"
    assert held.message.startswith("Pump is still WARNING: it left its normal state at ")
    assert "since it was silenced" in held.message
    assert held.notification_id.startswith("held-")


def test_what_is_over_before_its_silence_is_never_told() -> None:
    """Neither the alarm nor its end; both are counted."""
    story = Story().order(0, SilenceEntry("s", kind="PUMP", begin=at_ms(5), end=at_ms(200)))
    story.read(0, 10, CALM).read(10, 30, HIGH).read(30, 250, CALM)
    told = feed(new_state(), story.records, (), story.log)
    assert len(events(told)) == 2
    assert not notifications(told)
    assert told.withheld == {"silence": 1, "known": 1}


def test_an_end_within_a_silence_is_told_after_it_where_the_alarm_was() -> None:
    """Who heard of it must not believe for ever that it lasts."""
    story = Story().read(0, 10, CALM).read(10, 50, HIGH)
    story.order(50, SilenceEntry("s", site="North", begin=at_ms(40), end=at_ms(150)))
    told = story.read(50, 60, HIGH).read(60, 160, CALM).told()
    assert kinds(told) == [("change", "WARN"), ("held", "NORMAL")]
    assert told[1].at == at_ms(150)
    assert told[1].message.startswith("Pump has been back to normal since ")


def test_what_is_graver_than_a_silence_allows_is_told() -> None:
    """And so is its easing, for people have heard of it."""
    story = Story().order(0, SilenceEntry("s", up_to=WARN))
    story.read(0, 10, CALM).read(10, 20, HIGH).read(20, 30, OUT).read(30, 60, NEAR).read(60, 90, CALM)
    assert kinds(story.told()) == [("change", "CRITICAL"), ("change", "WARN")]
    assert kinds(story.order(90, without=["silence/s"]).told())[2:] == [("held", "NORMAL")]


def test_an_edit_of_a_silence_counts_from_its_place() -> None:
    """One that comes amid an alarm keeps its end back; one that is taken away lets it be told at once."""
    story = (
        Story().read(0, 10, CALM).order(10, SilenceEntry("s", tenant="acme"), SilenceEntry("t", sensor=PUMP))
    )
    story.read(10, 30, HIGH).order(30, without=["silence/t"]).read(31, 40, HIGH)
    assert shown(story.told()) == [("held", "WARN", 30.0)]


def test_maintenance_is_told_apart() -> None:
    """In counts and in words."""
    story = Story().order(0, SilenceEntry("s", maintenance=True, end=at_ms(30)))
    story.read(0, 10, CALM).read(10, 50, HIGH)
    told = feed(new_state(), story.records, (), story.log)
    assert told.withheld == {"maintenance": 1}
    assert "it was under maintenance" in notifications(told)[0].message


def test_a_sensor_that_joins_a_silenced_site_is_silenced() -> None:
    """By an edit of its entry, as the silence names what it has now; and one that leaves is told of."""
    story = Story().order(0, SilenceEntry("s", site="south")).read(0, 10, CALM)
    moved = SensorEntry(PUMP, kind="pump", site="south", warning=story.log.as_of(9)[PUMP].warning)
    story.log.append(story.log.position, at_ms(10), PUMP, moved)
    story.order(10).read(10, 20, HIGH)
    story.log.append(story.log.position, at_ms(20), PUMP, SensorEntry(PUMP, warning=moved.warning))
    story.order(20).read(20, 30, HIGH)
    assert shown(story.told()) == [("held", "WARN", 20.0)]


@pytest.mark.parametrize(
    ("wall", "until"),
    [
        ("2026-03-28 21:59", None),
        ("2026-03-28 22:00", "2026-03-29 06:00"),
        ("2026-03-29 05:59", "2026-03-29 06:00"),
        ("2026-03-29 06:00", None),
        ("2026-10-25 03:00", "2026-10-25 06:00"),
    ],
)
def test_weekly_times_are_by_the_clock_on_the_wall(wall: str, until: str | None) -> None:
    """Eight hours from 22:00 end at 06:00, in the nights in which clocks are changed as well."""
    entry = SilenceEntry("s", weekly=Weekly((5,), "22:00", 480, "Europe/Madrid"))
    found = in_force_until(entry, _madrid(wall))
    assert found == (None if until is None else _madrid(until))


def _madrid(wall: str) -> int:
    """Two in the morning is when clocks change; these are none of the hours that are lost or come twice."""
    at = datetime.fromisoformat(wall).replace(tzinfo=UTC)
    summer = datetime(2026, 3, 29, 2, tzinfo=UTC) <= at < datetime(2026, 10, 25, 3, tzinfo=UTC)
    return round(1_000 * (at - timedelta(hours=2 if summer else 1)).timestamp())


def test_a_silence_whose_zone_or_time_is_unknown_is_not_in_force() -> None:
    """People are told rather than not; the registry refuses such a silence."""
    for weekly in (Weekly((0,), "25:00", 10), Weekly(tuple(range(7)), "00:00", 1_440, "Mars/Base")):
        assert in_force_until(SilenceEntry("s", weekly=weekly), NOW) is None
    always = SilenceEntry("s", weekly=Weekly(tuple(range(7)), "00:00", 1_440))
    assert in_force_until(always, NOW) == NOW // 86_400_000 * 86_400_000 + 86_400_000
    assert in_force_until(SilenceEntry("s"), NOW) == FAR


def test_of_several_silences_the_one_that_lasts_longest_counts() -> None:
    """A sensor must have all that a silence names."""
    pump = SensorEntry("a", device="D", kind="Pump", site="north")
    made = Silences(
        [
            SilenceEntry("1", device="d", end=5),
            SilenceEntry("2", kind="pump", site="north", end=9, maintenance=True),
            SilenceEntry("3", kind="pump", site="south"),
            SilenceEntry("4", tenant="acme"),
        ]
    )
    hush = made.hush("a", pump, 2, 4)
    assert hush is not None
    assert (hush.silence.silence, hush.until) == ("2", 9)
    assert made.hush("a", None, 2, 4) is None


# Cooldown, reminders, escalation ------------------------------------------------------------------------------------


def test_within_the_cooldown_only_what_is_graver_is_told() -> None:
    """At its end what is then, once; what is again as people know it is not told."""
    story = Story().order(0, PolicyEntry("*", cooldown_seconds=60.0)).read(0, 10, CALM)
    story.read(10, 12, HIGH).read(12, 20, CALM)  # NORMAL at 17 is kept back
    story.read(20, 22, HIGH).read(22, 60, CALM)  # WARN at 20 is what people know
    story.read(60, 65, OUT).read(65, 200, CALM)
    told = story.told()
    assert shown(told) == [("change", "WARN", 10.0), ("change", "CRITICAL", 60.0), ("held", "NORMAL", 120.0)]
    assert "another change was told shortly before" in told[2].message


def test_what_lasts_is_told_again_until_it_ends() -> None:
    """From when people were told last, also where nothing comes of the sensor; what is graver begins anew."""
    story = Story().order(0, PolicyEntry("pump", remind_seconds=30.0)).read(0, 10, CALM)
    story.read(10, 50, HIGH).read(50, 51, OUT).tick(79, 80.5, 95, 120).read(121, 140, CALM)
    told = story.told()
    assert shown(told)[:5] == [
        ("change", "WARN", 10.0),
        ("reminder", "WARN", 40.0),
        ("change", "CRITICAL", 50.0),
        ("reminder", "CRITICAL", 80.5),
        ("reminder", "CRITICAL", 120.0),
    ]
    assert [each.kind for each in told[5:]] == ["change"]
    assert told[1].title == "Reminder: WARNING: Pump is outside its warning limits"
    assert "Nobody has acknowledged it." in told[1].message
    assert len({each.notification_id for each in told}) == len(told)


def test_a_partition_that_stood_still_reminds_once() -> None:
    """Not once for each time that would have been."""
    story = Story().order(0, PolicyEntry("*", remind_seconds=5.0)).read(0, 10, CALM).read(10, 11, HIGH)
    assert shown(story.tick(3_600, 3_601, 3_605).told()) == [
        ("change", "WARN", 10.0),
        ("reminder", "WARN", 3_600.0),
        ("reminder", "WARN", 3_605.0),
    ]


def test_others_are_told_where_nobody_has_acknowledged() -> None:
    """Once for each severity, from when people were told of it."""
    story = Story().order(0, PolicyEntry("*", escalate_seconds=20.0)).read(0, 10, CALM)
    story.read(10, 60, HIGH).read(60, 100, OUT).read(100, 130, CALM)
    told = story.told()
    assert shown(told)[:4] == [
        ("change", "WARN", 10.0),
        ("escalation", "WARN", 30.0),
        ("change", "CRITICAL", 60.0),
        ("escalation", "CRITICAL", 80.0),
    ]
    assert told[1].title.startswith("Escalated: WARNING: ")
    assert kinds(told[4:]) == [("change", "NORMAL")]


def test_nobody_is_reminded_of_what_is_silenced() -> None:
    """What was due is told at the silence's end, once: others and people themselves at a time are one notification."""
    story = Story().order(0, PolicyEntry("*", remind_seconds=20.0, escalate_seconds=25.0)).read(0, 10, CALM)
    story.read(10, 20, HIGH).order(20, SilenceEntry("s", end=at_ms(70))).read(20, 80, HIGH)
    assert shown(story.told()) == [
        ("change", "WARN", 10.0),
        ("escalation", "WARN", 70.0),
    ]


def test_what_more_there_is_to_say_is_told_where_nothing_keeps_it_back() -> None:
    """That a sensor that people know as WARN has begun to flap: now or not at all, for a word of it later is stale."""
    for policy, silence, why in (
        (PolicyEntry("*"), None, None),
        (PolicyEntry("*", cooldown_seconds=9.0), None, "cooldown"),
        (PolicyEntry("*"), SilenceEntry("s"), "silence"),
    ):
        documents: list[Document] = [each for each in (policy, silence) if each is not None]
        orders = Orders.of({each.key: each for each in documents})
        state = Attended(0, level=1, told=1, told_at=NOW, recalled_at=NOW)
        course = Course(state, PUMP, None, orders)
        assert course.change(NOW + 1, more=True) == why
        assert course.change(NOW + 1) == "known"
        assert course.due(NOW + 1) == FAR
        assert state.told_at == (NOW if why else NOW + 1)


# Acknowledge and snooze ---------------------------------------------------------------------------------------------


def test_an_acknowledged_alarm_is_quiet_until_it_is_graver() -> None:
    """Nobody is reminded and nobody else told; what is graver is another matter, and easing from it none."""
    story = Story().order(0, PolicyEntry("*", remind_seconds=30.0, escalate_seconds=45.0)).read(0, 10, CALM)
    story.read(10, 20, HIGH)
    story.order(20, HandlingEntry(PUMP, present(story), acknowledged=True)).read(20, 100, HIGH)
    assert shown(story.told()) == [("change", "WARN", 10.0)]
    story.read(100, 135, OUT)
    assert shown(story.told())[1:] == [("change", "CRITICAL", 100.0), ("reminder", "CRITICAL", 130.0)]


def test_an_acknowledgement_of_another_alarm_is_none() -> None:
    """Of one that is over, or of an event that there never was."""
    story = Story().order(0, PolicyEntry("*", remind_seconds=15.0)).read(0, 10, CALM).read(10, 20, HIGH)
    past = present(story)
    story.read(20, 30, CALM).read(30, 32, HIGH)
    for event_id in (past, "none"):
        handling = HandlingEntry(PUMP, event_id, acknowledged=True)
        story.order(32, handling)
    assert shown(story.read(33, 50, HIGH).told())[-1] == ("reminder", "WARN", 45.0)


def test_one_who_takes_back_an_acknowledgement_is_reminded() -> None:
    """At once, where a reminder was due meanwhile."""
    story = Story().order(0, PolicyEntry("*", remind_seconds=20.0)).read(0, 10, CALM).read(10, 20, HIGH)
    story.order(20, HandlingEntry(PUMP, present(story), acknowledged=True)).read(20, 60, HIGH)
    story.order(60, without=[f"handling/{PUMP}"]).read(61, 70, HIGH)
    assert shown(story.told())[1:] == [("reminder", "WARN", 60.0)]


def test_a_snoozed_alarm_is_told_again_when_the_snooze_is_over() -> None:
    """Where it still stands, without any policy too."""
    story = Story().read(0, 10, CALM).read(10, 20, HIGH)
    story.order(20, HandlingEntry(PUMP, present(story), snoozed_until=at_ms(60))).read(20, 90, HIGH)
    assert shown(story.told()) == [("change", "WARN", 10.0), ("reminder", "WARN", 60.0)]


def test_what_eases_while_it_is_snoozed_is_told_afterwards() -> None:
    """Who snoozed it wants to hear nothing of it; one notification then says how it is."""
    story = Story().read(0, 10, CALM).read(10, 12, OUT)
    story.order(12, HandlingEntry(PUMP, present(story), snoozed_until=at_ms(60))).read(12, 90, NEAR)
    told = feed(new_state(), story.records, (), story.log)
    assert shown(notifications(told)) == [("change", "CRITICAL", 10.0), ("held", "WARN", 60.0)]
    assert told.withheld == {"snooze": 1}


def test_a_snooze_ends_with_its_alarm_and_does_not_hide_what_is_graver() -> None:
    """The end is told, as people know of the alarm; so is that it has become critical."""
    over = Story().read(0, 10, CALM).read(10, 20, HIGH)
    over.order(20, HandlingEntry(PUMP, present(over), snoozed_until=at_ms(600)))
    graver = Story(list(over.records), over.log).read(20, 30, OUT)
    assert kinds(over.read(20, 40, CALM).told()) == [("change", "WARN"), ("change", "NORMAL")]
    assert kinds(graver.told()) == [("change", "WARN"), ("change", "CRITICAL")]


def test_an_event_that_somebody_handles_stays_known_among_many() -> None:
    """Of an alarm that goes up and down without end a bounded number of events is kept."""
    state = Attended(0)
    for number in range(50):
        state.enter(f"e{number}", 1 + number % 2, "e3")
    assert len(state.events) == MOST_EVENTS
    assert state.severity_of("e3") == 2
    assert state.severity_of("e49") == 2
    assert state.severity_of("e4") is None


@pytest.mark.parametrize("entry", [None, SensorEntry(PUMP, device=ELSEWHERE[5])])
def test_nobody_is_reminded_of_a_sensor_that_has_gone(entry: SensorEntry | None) -> None:
    """Out of the registry, or to a device of another partition: here nothing would ever end its alarm."""
    story = Story().order(0, PolicyEntry("*", remind_seconds=30.0)).read(0, 10, CALM).read(10, 45, HIGH)
    story.log.append(story.log.position, at_ms(45), PUMP, entry)
    story.order(45).tick(80, 120)
    assert shown(story.told()) == [("change", "WARN", 10.0), ("reminder", "WARN", 40.0)]


# Devices ------------------------------------------------------------------------------------------------------------


class Site:
    """Three sensors of a device that say that they are silent after 20 s, and a clock that goes on."""

    def __init__(self, *orders: Document) -> None:
        self.story, self.names = Story(), HERE[10:13]
        log = self.story.log
        for name in self.names:
            entry = SensorEntry(name, device=HERE[9], warning=Range(0, 80), rules=(NoData(20.0),))
            log.append(log.position, 0, name, entry)
        self.story.order(0, *orders)

    def speak(self, begin: int, end: int, names: int = 3, value: float = CALM) -> Site:
        """Readings of so many of the sensors each second."""
        for second in range(begin, end):
            rows = tuple(Reading(name, value, at_ms(second)) for name in self.names[:names])
            self.story.records.append(Record(at_ms(second), rows, HERE[9]))
        return self

    def rest(self, begin: int, end: int) -> Site:
        """Nothing but ticks."""
        self.story.tick(*range(begin, end))
        return self

    def told(self) -> list[tuple[str, str, str, float]]:
        """Which sensor or the device, kind, severity and time, in the order of time."""
        found = []
        for each in sorted(self.story.told(), key=lambda note: (note.at, note.sensor)):
            whom = "device" if "evice" in each.title else f"s{self.names.index(each.sensor)}"
            found.append((whom, *shown([each])[0]))
        return found


def test_a_silent_device_is_told_and_reminded_of_once() -> None:
    """Its sensors say nothing; that it is back ends it for all of them."""
    site = Site(PolicyEntry("*", remind_seconds=60.0)).speak(0, 10).rest(10, 100).speak(100, 130)
    assert site.told() == [
        ("device", "change", "WARN", 29.0),
        ("s0", "reminder", "WARN", 89.0),
        ("device", "change", "NORMAL", 100.0),
    ]


def test_a_device_under_maintenance_may_be_silent() -> None:
    """Neither it nor its return is told; and what is silent beyond the maintenance is told then, once."""
    silence = SilenceEntry("s", device=HERE[9].upper(), end=at_ms(150), maintenance=True)
    assert not Site(silence).speak(0, 10).rest(10, 100).speak(100, 200).told()
    late = Site(silence).speak(0, 10).rest(10, 200).speak(200, 230)
    assert late.told() == [("s0", "held", "WARN", 150.0), ("device", "change", "NORMAL", 200.0)]


def test_a_device_that_comes_back_in_a_silence_is_told_after_it() -> None:
    """Where people had heard that it was silent; a sensor of it that stays silent is told as well."""
    site = Site().speak(0, 10).rest(10, 40)
    site.story.order(40, SilenceEntry("s", device=HERE[9], begin=at_ms(40), end=at_ms(100)))
    assert Site.told(site.speak(41, 120, names=2)) == [
        ("device", "change", "WARN", 29.0),
        ("s0", "held", "NORMAL", 100.0),
        ("s2", "held", "WARN", 100.0),
    ]


def test_a_sensor_that_stays_silent_is_told_by_itself() -> None:
    """Its device is back, and so is what stood for it; also where it is the one whose event told of the device."""
    site = Site().speak(0, 10).rest(10, 40)
    for second in range(40, 90):
        row = (Reading(site.names[2], CALM, at_ms(second)),)
        site.story.records.append(Record(at_ms(second), row, HERE[9]))
    assert site.speak(90, 120).told() == [
        ("device", "change", "WARN", 29.0),
        ("device", "change", "NORMAL", 40.0),
        ("s0", "change", "WARN", 60.0),
        ("s1", "change", "WARN", 60.0),
        ("s0", "change", "NORMAL", 90.0),
        ("s1", "change", "NORMAL", 90.0),
    ]


# Time ---------------------------------------------------------------------------------------------------------------


def test_a_silent_sensor_is_reminded_of() -> None:
    """Its own time stands still; the partition's does not."""
    story = Story().order(0, PolicyEntry("fan", remind_seconds=60.0)).read(0, 10, CALM, FAN)
    story.tick(28, 29, 30, 60, 89, 90, 160)
    assert shown(story.told()) == [
        ("change", "WARN", 29.0),
        ("reminder", "WARN", 89.0),
        ("reminder", "WARN", 160.0),
    ]


def test_a_devices_clock_does_not_move_what_is_due() -> None:
    """One that is a day behind is silenced and reminded of as people are told; times ascend all the same."""
    day = 86_400
    story = Story().order(0, PolicyEntry("*", remind_seconds=30.0))
    for second in range(120):
        value = HIGH if 10 <= second < 60 else CALM
        story.records.append(Record(at_ms(second), (Reading(PUMP, value, at_ms(second - day)),)))
    told = story.told()
    assert shown(told)[:2] == [("change", "WARN", 10.0 - day), ("reminder", "WARN", 40.0)]
    assert told[2].kind == "change"
    assert told[2].at == told[1].at + 1


def test_spanish_words() -> None:
    """What is told without a change is in the engine's language."""
    story = Story().order(0, PolicyEntry("*", remind_seconds=30.0)).read(0, 10, CALM).read(10, 50, HIGH)
    state = PartitionState(OPTIONS.__class__(OPTIONS.topic, 0, 2, language="es"))
    reminder = notifications(feed(state, story.records, (), story.log))[1]
    assert reminder.title == "Recordatorio: AVISO: Pump está fuera de sus límites de aviso"
    assert reminder.message.startswith("Pump sigue en AVISO: dejó su estado normal a las ")


# Any story ----------------------------------------------------------------------------------------------------------


def made(seed: int) -> Story:
    """Two sensors that go in and out, fall silent and come back, with orders of all kinds amid."""
    rng = random.Random(seed)  # noqa: S311  # made-up data
    story, clock, level = Story(), 0.0, {PUMP: CALM, FAN: CALM}
    for _ in range(rng.randrange(40, 160)):
        clock += rng.choice((0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 3.0, 12.0))
        if rng.random() < 0.1:
            story.order(clock, *_orders(rng, story, clock), without=_gone(rng))
        elif rng.random() < 0.1:
            story.tick(clock)
        else:
            sensor = rng.choice((PUMP, PUMP, FAN))
            if rng.random() < 0.15:
                level[sensor] = rng.choice((CALM, CALM, CALM, NEAR, HIGH, OUT))
            behind = rng.choice((0.0, 0.0, 0.0, 0.7, 1.9, 5.0, -8.0, 300.0))
            story.records.append(
                Record(at_ms(clock), (Reading(sensor, level[sensor], at_ms(clock - behind)),))
            )
    return story


def _orders(rng: random.Random, story: Story, clock: float) -> list[Document]:
    later = at_ms(clock + rng.choice((-20, 5, 20, 60)))
    kind = rng.randrange(3)
    if kind == 0:
        cooldown, remind, escalate = (rng.choice((0.0, 0.0, 3.0, 10.0, 30.0)) for _ in range(3))
        return [
            PolicyEntry(
                rng.choice(("*", "pump", "fan")),
                cooldown_seconds=3 * cooldown,
                remind_seconds=remind,
                escalate_seconds=escalate,
            )
        ]
    if kind == 1:
        told = events(feed(new_state(), story.records, (), story.log))
        if not told:
            return []
        event = rng.choice(told[-3:])
        until = rng.choice((None, later))
        return [HandlingEntry(event.sensor, event.event_id, rng.random() < 0.5, until)]
    begin = rng.choice((None, at_ms(clock + rng.choice((-5, 0, 10)))))
    weekly = Weekly((0, 1, 2, 3, 4, 5, 6), datetime.fromtimestamp(later / 1000, UTC).strftime("%H:%M"), 1)
    sensor, sort, site = rng.choice(
        ((None, None, None), (PUMP, None, None), (None, "FAN", None), (None, "pump", "north"))
    )
    return [
        SilenceEntry(
            rng.choice("ab"),
            sensor=sensor,
            kind=sort,
            site=site,
            begin=begin,
            end=rng.choice((None, later)),
            weekly=rng.choice((None, None, weekly)),
            up_to=rng.choice((WARN, CRITICAL)),
            maintenance=rng.random() < 0.3,
        )
    ]


def _gone(rng: random.Random) -> list[str]:
    keys = ["silence/a", "silence/b", f"handling/{PUMP}", f"handling/{FAN}", "policy/*"]
    return [rng.choice(keys)] if rng.random() < 0.25 else []


def check(seed: int, cuts: list[int], at: int) -> Counter[str]:
    """One story as the model tells it, as one chunk, cut anyhow, and from a checkpoint anywhere; gives the kinds told."""
    story = made(seed)
    model = Model(story.log)
    model.run(story.records)
    state = new_state()
    told = feed(state, story.records, cuts, story.log)
    assert by_sensor(lines(notifications(told))) == by_sensor(model.lines)
    assert told.withheld == model.withheld
    other = new_state()
    assert feed(other, story.records, (), story.log) == told
    assert whole(other) == whole(state)
    half = new_state()
    feed(half, story.records[: at % len(story.records)], (), story.log)
    mark = whole(half)
    copy, _ = restore(OPTIONS, [mark.head], {number: [block] for number, block in mark.blocks.items()})
    assert feed(copy, story.records, cuts, story.log) == feed(half, story.records, (), story.log)
    copy.dirty[:] = half.dirty[:] = True
    assert whole(copy) == whole(half) == whole(state)
    return Counter(each.kind for each in notifications(told)) + told.withheld


@pytest.mark.live
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 150), max_size=8), st.integers(0, 150))
def test_any_story_is_told_as_the_model_says(seed: int, cuts: list[int], at: int) -> None:
    """However it is cut and wherever it is restored, and as if all were asked anew with each record."""
    check(seed, cuts, at)


def test_one_story_is_told_as_the_model_says() -> None:
    """The same, of one that has all of it, for who changes this and runs the fast tests alone."""
    assert check(4, [20, 50], 40).keys() >= {"change", "held", "escalation", "maintenance", "cooldown"}


@pytest.mark.live
def test_stories_show_everything_there_is() -> None:
    """The stories above are of use: every kind is told, and every reason keeps something back."""
    found: Counter[str] = Counter()
    for seed in range(60):
        found += check(seed, list(range(seed % 7, 160, 7)), seed)
    assert {"change", "held", "reminder", "escalation"} <= set(found)
    assert {"known", "silence", "maintenance", "cooldown"} <= set(found)


def made_site(seed: int) -> Story:
    """A device whose sensors speak, fall silent together or alone, and go in and out, with orders amid."""
    rng = random.Random(seed)  # noqa: S311  # made-up data
    site, clock = Site(), 0.0
    level = dict.fromkeys(site.names, CALM)
    mute: set[str] = set()
    for _ in range(rng.randrange(40, 140)):
        clock += rng.choice((0.0, 0.5, 1.0, 2.0, 5.0, 18.0, 25.0))
        draw = rng.random()
        if draw < 0.08:
            site.story.order(clock, *_site_orders(rng, site, clock), without=_gone(rng))
        elif draw < 0.2:
            site.story.tick(clock)
        else:
            if rng.random() < 0.15:
                mute = set(rng.sample(site.names, rng.choice((0, 0, 1, 2, 3))))
            name = rng.choice(site.names)
            level[name] = rng.choice((level[name], level[name], CALM, HIGH))
            rows = tuple(Reading(each, level[each], at_ms(clock)) for each in site.names if each not in mute)
            record = Record(at_ms(clock), rows, HERE[9]) if rows else Record(at_ms(clock), tick=True)
            site.story.records.append(record)
    return site.story


def _site_orders(rng: random.Random, site: Site, clock: float) -> list[Document]:
    wait = rng.choice((0.0, 10.0, 30.0))
    policy = PolicyEntry("*", cooldown_seconds=wait, remind_seconds=30.0, escalate_seconds=40.0)
    silence = SilenceEntry(
        rng.choice("ab"),
        device=rng.choice((None, HERE[9])),
        sensor=rng.choice((None, None, *site.names)),
        begin=rng.choice((None, at_ms(clock + 10))),
        end=rng.choice((None, at_ms(clock + 60))),
    )
    return [rng.choice((policy, silence))]


@pytest.mark.live
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 100_000), st.lists(st.integers(0, 150), max_size=8), st.integers(0, 150))
def test_any_story_of_a_device_is_the_same_in_every_cut(seed: int, cuts: list[int], at: int) -> None:
    """Silent devices meet silences, cooldowns and reminders; restored anywhere it goes on the same."""
    story = made_site(seed)
    one, other, half = new_state(), new_state(), new_state()
    told = feed(one, story.records, range(len(story.records)), story.log)
    assert told == feed(other, story.records, cuts, story.log)
    assert whole(one) == whole(other)
    feed(half, story.records[: at % len(story.records)], cuts, story.log)
    mark = whole(half)
    copy, _ = restore(OPTIONS, [mark.head], {number: [block] for number, block in mark.blocks.items()})
    assert feed(copy, story.records, cuts, story.log) == feed(half, story.records, (), story.log)
    copy.dirty[:] = True
    one.dirty[:] = True
    assert whole(copy) == whole(one)


@pytest.mark.live
@settings(deadline=None, max_examples=15)
@given(st.integers(0, 100_000), st.booleans(), st.integers(1, 150), st.integers(1, 150))
def test_a_block_from_beyond_the_rest_tells_nothing_again(
    seed: int, device: bool, at: int, later: int
) -> None:
    """A checkpoint whose block is newer than its head: orders that come again find the block knows of them."""
    story = made_site(seed) if device else made(seed)
    count = len(story.records)
    first, second = sorted((1 + at % (count - 1), 1 + later % (count - 1)))
    state = new_state()
    feed(state, story.records[:first], (), story.log)
    old = whole(state)
    feed(state, story.records[:second], (), story.log)
    state.dirty[:] = True
    blocks = [one.blocks[0] for one in (old, whole(state)) if one.blocks]
    if not old.blocks:
        return
    copy, _ = restore(OPTIONS, [old.head], {0: blocks})
    again, rest = feed(copy, story.records, (), story.log), feed(state, story.records, (), story.log)
    assert (again.notifications, again.events) == (rest.notifications, rest.events)
    assert again.withheld == rest.withheld
