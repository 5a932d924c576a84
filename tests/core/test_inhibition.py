"""A silent device: told once in place of its sensors, told when it is back, and who stays silent then is told by itself."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.checkpoint import resume, snapshot
from streamproc.core.registry import RegistryLog
from streamproc.core.silent_devices import DAMPING_LIMIT, RELAPSE_TIMES
from streamproc.records import DEVICE_SILENT, NoData, Notification, SensorEntry, Severity, SeverityEvent
from tests.core.oracle import (
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

NORMAL, WARN, CRITICAL = Severity
DEVICE, ALONE = HERE[40], HERE[41]
SENSORS = HERE[:3]
MINUTE = NoData(seconds=60)


def read(at: float, *sensors: str, device: str | None = None) -> Record:
    """A record with a reading of each of these sensors, at so many seconds."""
    now = NOW + round(1_000 * at)
    return Record(now, tuple(Reading(sensor, 20.0, now) for sensor in sensors), device)


def tick(at: float) -> Record:
    """A tick of the partition."""
    return Record(NOW + round(1_000 * at), tick=True)


def site(*rules: NoData, device: str | None = DEVICE) -> RegistryLog:
    """A device with three sensors that have these rules."""
    return registry(
        *(SensorEntry(sensor, device, name=f"Pump {i}", rules=rules) for i, sensor in enumerate(SENSORS))
    )


def each(begin: int, end: int, step: int = 10, sensors: list[str] = SENSORS) -> list[Record]:
    """Readings of each sensor, some milliseconds apart."""
    return [read(at + i / 100, sensor) for at in range(begin, end, step) for i, sensor in enumerate(sensors)]


def told_of(log: RegistryLog, records: list[Record]) -> Told:
    """What is told; each record is a chunk of its own, and all are one chunk: alike."""
    one, other = new_state(), new_state()
    told = feed(one, records, range(len(records)), log)
    assert told == feed(other, records, (), log)
    assert whole(one) == whole(other)
    return told


def notes_of(told: Told) -> list[tuple[int, str, Severity, str]]:
    """What people are told, in its order: seconds, whom it is about (the device, or a sensor), how grave and the title."""
    found = []
    for sensor, events in told.events.items():
        for event, note in map(msgspec.json.decode, events):
            if note is not None:
                assert note["event_id"] == event["event_id"]
                found.append(((note["at"] - NOW) // 1_000, sensor, Severity(note["severity"]), note["title"]))
    for notes in told.devices.values():
        found += [((note.at - NOW) // 1_000, "device", note.severity, note.title) for note in notes]
    return sorted(found)


def events_of(told: Told, sensor: str) -> list[SeverityEvent]:
    """The events of a sensor."""
    return [
        msgspec.convert(msgspec.json.decode(row)[0], SeverityEvent) for row in told.events.get(sensor, [])
    ]


# Stories ------------------------------------------------------------------------------------------------------------


def test_a_device_that_dies_and_returns_with_one_dead_sensor() -> None:
    """Two messages of the device, one of the sensor that stays silent and one of its end; all silences are events."""
    records = [*each(0, 100), tick(200), *each(1_000, 1_200, sensors=SENSORS[:2]), *each(1_200, 1_300)]
    told = told_of(site(MINUTE), records)
    assert notes_of(told) == [
        (150, "device", WARN, f"WARNING: Device {DEVICE} is silent"),
        (1_000, "device", NORMAL, f"NORMAL: Device {DEVICE} is heard again"),
        (1_060, SENSORS[2], WARN, "WARNING: Pump 2 is silent"),
        (1_200, SENSORS[2], NORMAL, "NORMAL: Pump 2 is back to normal"),
    ]
    first, last = events_of(told, SENSORS[0]), events_of(told, SENSORS[2])
    assert [event.severity for event in first] == [WARN, NORMAL]
    assert f"Its whole device {DEVICE} is silent." in first[0].explanation
    assert [event.severity for event in last] == [WARN, WARN, NORMAL]
    assert [DEVICE_SILENT in event.lineage.scores for event in (*first, *last)] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert last[1].explanation.startswith(
        f"Pump 2 is still silent, though its device {DEVICE} is heard again"
    )
    (notes,) = told.devices.values()
    assert "none of its 3 sensors has sent anything since" in notes[0].message
    assert {note.event_id for note in notes} == {first[0].event_id}


def test_the_device_is_told_in_spanish_too() -> None:
    """Both of its messages, and the sensor's that stays silent."""
    records = [*each(0, 50), tick(200), *each(300, 400, sensors=SENSORS[:2])]
    told = feed(new_state(replace(OPTIONS, language="es")), records, (), site(MINUTE))
    silent, back = next(iter(told.devices.values()))
    assert silent.title == f"AVISO: El equipo {DEVICE} no envía datos"
    assert "ninguno de sus 3 sensores" in silent.message
    assert back.message.startswith(f"El equipo {DEVICE} vuelve a enviar datos a las ")
    assert "sigue sin enviar datos" in events_of(told, SENSORS[2])[1].explanation
    assert not any("{" in note.message for note in (silent, back))


def test_a_sensor_that_dies_alone_is_told_at_once() -> None:
    """Its device speaks on."""
    told = told_of(site(MINUTE), [*each(0, 100), *each(100, 400, sensors=SENSORS[:2])])
    assert notes_of(told) == [(150, SENSORS[2], WARN, "WARNING: Pump 2 is silent")]


def test_a_device_of_one_sensor_is_that_sensor() -> None:
    """Its silence is told as it is, and so is its end."""
    log = registry(SensorEntry(SENSORS[0], DEVICE, rules=(MINUTE,)))
    told = told_of(log, [*each(0, 50, sensors=SENSORS[:1]), tick(200), read(300, SENSORS[0])])
    assert [note[:3] for note in notes_of(told)] == [(100, SENSORS[0], WARN), (300, SENSORS[0], NORMAL)]


def test_sensors_that_the_registry_gives_to_none_have_the_device_that_names_them() -> None:
    """And keep it in a checkpoint."""
    log = site(MINUTE, device=None)
    records = [read(at, *SENSORS, device=DEVICE) for at in range(0, 50, 10)]
    again = [read(at, *SENSORS[:2], device=DEVICE) for at in (300, 320, 340)]
    rest = [tick(200), *again, tick(370)]
    assert [note[:3] for note in notes_of(told_of(log, [*records, *rest]))] == [
        (100, "device", WARN),
        (300, "device", NORMAL),
        (360, SENSORS[2], WARN),
    ]
    state = new_state()
    feed(state, records, (), log)
    restored = resume(OPTIONS, snapshot(state))
    assert feed(restored, [*records, *rest], (), log) == feed(state, [*records, *rest], (), log)


def test_a_sensor_is_its_devices_from_the_record_on_that_names_it() -> None:
    """It spoke alone before: neither was its silence the device's then, nor its word."""
    first, *others = SENSORS
    amid = [read(0, *others, device=DEVICE), read(0, first), read(40, first)]
    named = [read(130, first, device=DEVICE), tick(200)]
    told = told_of(site(MINUTE, device=None), [*amid, tick(110), *named])
    assert [note[:3] for note in notes_of(told)] == [
        (60, "device", WARN),
        (100, first, WARN),
        (130, "device", NORMAL),
        (130, first, NORMAL),
        (190, "device", WARN),
    ]


def test_what_is_graver_is_told_of_the_device_too() -> None:
    """An hour's silence is CRITICAL, whoever of its sensors says so first; once."""
    records = [*each(0, 50), tick(200), tick(5_000), *each(6_000, 6_030)]
    told = told_of(site(MINUTE, NoData(3_600, severity=CRITICAL)), records)
    assert [note[:3] for note in notes_of(told)] == [
        (100, "device", WARN),
        (3_640, "device", CRITICAL),
        (6_000, "device", NORMAL),
    ]


def test_what_is_graver_goes_on_with_what_was_told_of_the_device() -> None:
    """Of another sensor's event the notification names the one that told before; of the same there is no need."""
    graver = NoData(120, severity=CRITICAL)
    records = [*each(0, 50), tick(200), tick(5_000), *each(6_000, 6_030)]
    for rules, other in (([(MINUTE,), (graver,)], True), ([(MINUTE, graver), ()], False)):
        entries = [SensorEntry(name, DEVICE, rules=its) for name, its in zip(SENSORS, rules, strict=False)]
        told = told_of(registry(*entries), records)
        notes = sorted((note for notes in told.devices.values() for note in notes), key=lambda note: note.at)
        assert [note.severity for note in notes] == [WARN, CRITICAL, NORMAL]
        assert [note.notification_id[32:] for note in notes] == ["", notes[0].event_id * other, ""]


def test_a_device_that_dies_again_before_its_sensor_is_told() -> None:
    """Hides it once more, and tells of itself once more; that it is back then must last for two minutes."""
    records = [
        *each(0, 50),
        tick(200),
        *each(300, 310, sensors=SENSORS[:2]),
        tick(600),
        *each(700, 900, sensors=SENSORS[:2]),
    ]
    assert [note[:3] for note in notes_of(told_of(site(MINUTE), records))] == [
        (100, "device", WARN),
        (300, "device", NORMAL),
        (360, "device", WARN),
        (760, SENSORS[2], WARN),
        (820, "device", NORMAL),
    ]


def test_the_time_to_tell_of_a_sensor_that_stays_silent_is_known_before() -> None:
    """So that a partition where nothing comes gets a tick then."""
    state, log = new_state(), site(MINUTE)
    records = [*each(0, 50), tick(200), read(300, SENSORS[0])]
    feed(state, records, (), log)
    assert state.inhibition.next_at() == NOW + 360_000
    feed(state, [*records, read(310, SENSORS[0]), tick(330), read(340, SENSORS[0]), tick(370)], (), log)
    assert state.inhibition.next_at() is None


def test_a_sensor_that_others_of_its_device_outlive_is_told_though_they_die_later() -> None:
    """It was told when they spoke, and its end is told too, though theirs are not."""
    records = [*each(0, 50), *each(50, 200, sensors=SENSORS[:2]), tick(400), *each(500, 550)]
    assert [note[:3] for note in notes_of(told_of(site(MINUTE), records))] == [
        (100, SENSORS[2], WARN),
        (250, "device", WARN),
        (500, "device", NORMAL),
        (500, SENSORS[2], NORMAL),
    ]


# Of any records -----------------------------------------------------------------------------------------------------

_GROUPS = (SENSORS, HERE[3:5])
_DEVICES = (DEVICE, ALONE)
_RULES = {
    SENSORS[0]: (NoData(5), NoData(30, severity=CRITICAL)),
    SENSORS[1]: (NoData(8),),
    SENSORS[2]: (),
    HERE[3]: (NoData(5),),
    HERE[4]: (NoData(20),),
}
_DEVICE_OF = {sensor: device for device, group in zip(_DEVICES, _GROUPS, strict=True) for sensor in group}
SITE = registry(*(SensorEntry(sensor, _DEVICE_OF[sensor], rules=_RULES[sensor]) for sensor in _DEVICE_OF))
#: The same where the registry gives no sensor to a device: each is its that first names it.
UNGIVEN = registry(*(SensorEntry(sensor, rules=_RULES[sensor]) for sensor in _DEVICE_OF))


@st.composite
def streams(draw: st.DrawFn) -> list[Record]:
    """Records of some sensors at times, some of which name their devices, with silences of all lengths between."""
    clock, out = 0.0, list[Record]()
    for _ in range(draw(st.integers(1, 40))):
        clock += draw(st.sampled_from((0.0, 0.001, 0.5, 1.0, 2.5, 4.0, 5.0, 9.0, 33.0)))
        sensors = draw(st.lists(st.sampled_from([*_RULES]), max_size=3, unique=True))
        names = draw(st.booleans())
        out += [read(clock, sensor, device=_DEVICE_OF[sensor] if names else None) for sensor in sensors] or [
            tick(clock)
        ]
    return out


@pytest.mark.live
@settings(deadline=None, max_examples=60)
@given(streams(), cuttings, cuttings, st.integers(0, 40), st.sampled_from((SITE, UNGIVEN)))
def test_cuts_and_restarts_change_nothing(
    records: list[Record], cuts: list[int], others: list[int], stop: int, log: RegistryLog
) -> None:
    """Who is told what of devices and of sensors, and what is remembered, to the last bit."""
    one, other = new_state(), new_state()
    assert feed(one, records, cuts, log) == feed(other, records, others, log)
    assert whole(one) == whole(other)
    state = new_state()
    feed(state, records[:stop], cuts, log)
    restored = resume(OPTIONS, snapshot(state))
    assert feed(restored, records, others, log) == feed(state, records, cuts, log)
    assert snapshot(restored) == snapshot(state)


class Plain:
    """One device in the most obvious way: when each of its sensors spoke, and what follows."""

    def __init__(self, group: list[str], records: list[Record]) -> None:
        self.group = group
        self.spoke = {
            sensor: [
                record.timestamp for record in records if any(r.sensor == sensor for r in record.readings)
            ]
            for sensor in group
        }
        self.arrivals = sorted({at for times in self.spoke.values() for at in times})

    def shortest(self, at: int) -> float:
        """The shortest time of the rules of those that have spoken before this time."""
        spoke = [sensor for sensor, times in self.spoke.items() if times and times[0] < at]
        return min((1_000 * rule.seconds for sensor in spoke for rule in _RULES[sensor]), default=2.0**61)

    def last(self, at: int) -> int:
        """When any of it spoke last before this time."""
        return self.arrivals[bisect_left(self.arrivals, at) - 1]

    def hides(self, at: int, rule_ms: float) -> bool:
        """Whether nothing has come for the shortest rule's time, or half of this one's."""
        known = sum(bool(times) and times[0] < at for times in self.spoke.values())
        return known > 1 and at - self.last(at) >= min(self.shortest(at), rule_ms // 2)

    def back(self, at: int) -> int | None:
        """When any of it spoke from this time on."""
        return next((time for time in self.arrivals if time >= at), None)

    def still(self, sensor: str, at: int) -> int | None:
        """When a sensor is told by itself whose silence at this time was hidden; None where it spoke before."""
        rule_ms = round(1_000 * _RULES[sensor][0].seconds)
        while (back := self.back(at)) is not None:
            at = back + rule_ms
            if any(back - rule_ms < time and back <= time < at for time in self.spoke[sensor]):
                return None
            if not self.hides(at, rule_ms):
                return at
        return None

    def returns(self, quiet: int, damping: int, hidden: list[int], end: int) -> tuple[int, int] | None:
        """When it is heard again after this time, and told to be back: once no silence is hidden for long enough."""
        while (heard := self.back(quiet)) is not None:
            told = heard + round(damping * self.shortest(heard)) if damping > 1 else heard
            silent = next((at for at in hidden if heard < at <= told), None) if damping > 1 else None
            if silent is None and damping > 1 and told - self.last(told) >= self.shortest(told):
                silent = told
            if silent is None or silent > end:
                return (heard, told) if told <= end else None
            quiet = silent
        return None

    def notices(self, hidden: list[tuple[int, Severity]], end: int) -> list[tuple[int, Severity]]:
        """What is told of the device until the end, by the silences that were hidden."""
        out: list[tuple[int, Severity]] = []
        times = sorted(at for at, _ in hidden)
        told: tuple[int, Severity] | None = None
        damping, heard, begun = 1, None, 0
        for at, severity in sorted(hidden, key=lambda one: (one[0], -one[1])):
            back = self.returns(begun, damping, times, end) if told else None
            if back is not None and told is not None and back[1] < at:
                # Of one sensor's notes each is later than the one before.
                out.append((max(back[1], told[0] + 1), NORMAL))
                told, heard = None, back[0]
            if told is None:
                relapse = heard is not None and self.last(at) - heard <= RELAPSE_TIMES * self.shortest(at)
                begun, damping = at, min(2 * damping, DAMPING_LIMIT) if relapse else 1
            if told is None or severity > told[1]:
                told = (at, severity)
                out.append(told)
        back = self.returns(begun, damping, times, end) if told else None
        return [*out, (max(back[1], told[0] + 1), NORMAL)] if told and back is not None else out


@pytest.mark.live
@settings(deadline=None, max_examples=100)
@given(streams())
def test_devices_are_told_of_as_a_plain_account_has_it(records: list[Record]) -> None:
    """Which silences are hidden, when devices are told and when sensors that stay silent are."""
    told = feed(new_state(), records, range(0, 40, 7), SITE)
    for group in _GROUPS:
        plain, hidden = Plain(list(group), records), list[tuple[int, Severity]]()
        notes: list[Notification] = []
        for sensor in group:
            notes += told.devices.get(sensor, [])
            waiting: int | None = None
            for event, note in map(msgspec.json.decode, told.events.get(sensor, [])):
                if event["cause"] != "silence" or event["severity"] < event["previous"]:
                    continue
                if "still silent" in event["explanation"]:
                    assert waiting is not None
                    assert event["at"] == plain.still(sensor, waiting)
                    assert note is not None
                    waiting = None
                    continue
                hides = plain.hides(event["at"], 1_000 * event["lineage"]["scores"]["seconds"])
                assert (note is None) == hides
                if hides:
                    hidden.append((event["at"], Severity(event["severity"])))
                    waiting = event["at"]
        end = max(record.timestamp for record in records)
        assert sorted((note.at, note.severity) for note in notes) == sorted(plain.notices(hidden, end))


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_an_edit_of_a_sensors_device_counts_from_its_place_on(cut: int) -> None:
    """A sensor that went to another device is not hidden by the one that it was of."""
    log = site(MINUTE)
    log.append(
        log.position, NOW + 40_000, SENSORS[2], SensorEntry(SENSORS[2], None, name="Pump 2", rules=(MINUTE,))
    )
    edit = Record(NOW + 45_000, edit=b"%d" % log.position)
    records = [*each(0, 45), edit, *each(46, 50), tick(200)]
    one = feed(new_state(), records, range(0, len(records), cut), log)
    assert [note[:3] for note in notes_of(one)] == [(100, SENSORS[2], WARN), (100, "device", WARN)] or [
        note[1] for note in notes_of(one)
    ] == ["device", SENSORS[2]]
