"""Which changes people are told of, and when: the rules by stories, and that cuts and restarts change nothing."""

from __future__ import annotations

import pytest

from streamproc.core.attention.course import Course
from streamproc.core.attention.orders import Orders
from streamproc.core.attention.state import MOST_EVENTS, Attended
from streamproc.core.attention.times import FAR
from streamproc.core.engine import PartitionState
from streamproc.records import Notification, Range, SensorEntry, Severity
from streamproc.records.alerting import Document, HandlingEntry, PolicyEntry, SilenceEntry
from tests.core.attention import (
    CALM,
    FAN,
    HIGH,
    NEAR,
    OUT,
    PUMP,
    Site,
    Story,
    at_ms,
    events,
    notifications,
    shown,
)
from tests.core.oracle import ELSEWHERE, HERE, NOW, OPTIONS, Reading, Record, feed, new_state

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
    story = Story().order(0, SilenceEntry("s", all_sensors=True, up_to=WARN))
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
    story = Story().order(0, SilenceEntry("s", all_sensors=True, maintenance=True, end=at_ms(30)))
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
    story.read(10, 20, HIGH).order(20, SilenceEntry("s", all_sensors=True, end=at_ms(70))).read(20, 80, HIGH)
    assert shown(story.told()) == [
        ("change", "WARN", 10.0),
        ("escalation", "WARN", 70.0),
    ]


def test_what_more_there_is_to_say_is_told_where_nothing_keeps_it_back() -> None:
    """That a sensor that people know as WARN has begun to flap: now or not at all, for a word of it later is stale."""
    for policy, silence, why in (
        (PolicyEntry("*"), None, None),
        (PolicyEntry("*", cooldown_seconds=9.0), None, "cooldown"),
        (PolicyEntry("*"), SilenceEntry("s", all_sensors=True), "silence"),
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


def test_a_device_is_told_of_by_its_name() -> None:
    """Whichever it has at the time; one that has none by its key. A sensor's sentences name it alike."""
    site = Site()
    log = site.story.log
    log.append_device(log.position, at_ms(0), HERE[9], "Pump 7")
    site.story.order(1)
    whole = feed(new_state(), site.speak(1, 10).rest(10, 40).speak(40, 41).story.records, (), log)
    silent, back = (note for notes in whole.devices.values() for note in notes)
    assert silent.title == "WARNING: Device Pump 7 is silent"
    assert silent.message.startswith("Device Pump 7 is silent: none of its 3 sensors")
    assert back.title == "NORMAL: Device Pump 7 is heard again"
    hidden = next(event for event in events(whole) if event.cause == "silence")
    assert "Its whole device Pump 7 is silent." in hidden.explanation


def flickering(*orders: Document) -> Site:
    """A device that is silent, back for 10 s, silent again, and back for 10 s until 90 s."""
    site = Site(*orders).speak(0, 10).rest(10, 40).speak(40, 50)
    return site.rest(50, 80).speak(80, 90)


IN_AND_OUT = [
    ("device", "change", "WARN", 29.0),
    ("device", "change", "NORMAL", 40.0),
    ("device", "change", "WARN", 69.0),
]


def test_a_device_that_comes_and_goes_is_told_a_few_times() -> None:
    """Once it has relapsed its return must last for twice its rule's time, and it counts as silent until then."""
    site = flickering().rest(90, 120).speak(120, 200)
    assert site.told() == [*IN_AND_OUT, ("device", "change", "NORMAL", 160.0)]
    (back,) = [note for note in site.story.told() if note.at == at_ms(160)]
    assert "is heard again at 22:15:20 UTC" in back.message


def test_relapses_of_a_device_stretch_its_return_and_are_forgotten() -> None:
    """Twice, four, eight times its rule's time; one that has stayed for sixteen has settled."""
    site, now, found = Site().speak(0, 10), 10, []
    for stays in (21, 81, 121, 201, 201, 401, 21):
        site.rest(now, now + 30).speak(now + 30, now + 30 + stays)
        found += [now + 19, now + 30]
        now += 30 + stays
    told = site.told()
    waits = [told[n + 1][3] - at for n, at in enumerate(found) if n % 2 == 0]
    assert [at for _, _, severity, at in told if severity == "WARN"] == [float(at) for at in found[::2]]
    assert waits == [11, 51, 91, 171, 171, 171, 11]


def test_a_sensor_that_stands_for_its_device_tells_of_itself_all_the_same() -> None:
    """What it measures while the return of its device has to last is news, and so is its end."""
    told = flickering().speak(90, 100, value=HIGH).speak(100, 200).told()
    names = ["s0", "s1", "s2"]
    assert told[:3] == IN_AND_OUT
    assert told[3:6] == [(name, "change", "WARN", 90.0) for name in names]
    assert told[6] == ("device", "change", "NORMAL", 120.0)
    assert sorted(each[:3] for each in told[7:]) == [(name, "change", "NORMAL") for name in names]


def test_who_looks_after_a_silent_device_does_so_while_it_comes_and_goes() -> None:
    """It is one alarm to people: they are not reminded of it each time."""
    reminds = PolicyEntry("*", remind_seconds=30.0)
    site = flickering(reminds)
    (silent,) = [note for note in site.story.told() if note.at == at_ms(69)]
    site = Site(reminds).speak(0, 10).rest(10, 40).speak(40, 50).rest(50, 75)
    site.story.order(75, HandlingEntry(silent.sensor, silent.event_id, acknowledged=True))
    assert site.rest(76, 80).speak(80, 90).rest(90, 240).told() == IN_AND_OUT


def test_a_sensor_that_leaves_a_device_that_comes_and_goes_is_told_of_by_itself() -> None:
    """Nothing that the device does says anything of it any more."""
    site = flickering()
    entry = SensorEntry(site.names[0], warning=Range(0, 80))
    site.story.log.append(site.story.log.position, at_ms(91), site.names[0], entry)
    site.story.order(91)
    assert site.speak(92, 150).told()[3:] == [("s0", "held", "NORMAL", 91.0)]


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
