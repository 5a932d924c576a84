"""Routing: readings and windows in their order, and events that say where they come from."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import pytest

from streamproc.core.engine import run
from streamproc.core.learners import LearnerBank
from streamproc.core.registry import RegistryLog
from streamproc.records import Range, SensorEntry, Severity, SeverityEvent
from tests.core.oracle import HERE, NOW, OPTIONS, Reading, Record, chunk, feed, new_state, registry

SENSOR, OTHER = HERE[1:3]
ENTRY = SensorEntry(
    SENSOR, name="boiler", unit="°C", warning=Range(0, 50), critical=Range(None, 90), version=7
)


def judged(
    *values: float, entry: SensorEntry | None = ENTRY, cuts: list[int] | None = None
) -> list[SeverityEvent]:
    """The events of a reading each second."""
    records = [
        Record(NOW + 1_000 * i, (Reading(SENSOR, value, NOW + 1_000 * i),)) for i, value in enumerate(values)
    ]
    log = registry(*([entry] if entry else []))
    return events(feed(new_state(), records, cuts or [], log).events.get(SENSOR, []))


def events(told: list[bytes]) -> list[SeverityEvent]:
    """The events of what was told."""
    return [msgspec.convert(msgspec.json.decode(each)[0], SeverityEvent) for each in told]


@pytest.mark.parametrize(
    ("value", "severity"),
    [
        (50.0, None),
        (0.0, None),
        (50.1, Severity.WARN),
        (-0.1, Severity.WARN),
        (90.0, Severity.WARN),
        (90.1, Severity.CRITICAL),
    ],
)
def test_ranges_are_judged_per_reading(value: float, severity: Severity | None) -> None:
    """At once, before any window closes; what equals a bound is inside."""
    made = judged(20, 20, value)
    assert [event.severity for event in made] == ([] if severity is None else [severity])
    for event in made:
        assert (event.at, event.value, event.previous) == (NOW + 2_000, value, Severity.NORMAL)
        assert event.cause == ("critical_range" if severity == Severity.CRITICAL else "warning_range")


def test_an_event_says_where_it_comes_from() -> None:
    """Record, rule and versions of a breach; window and scores of what a window has told."""
    breach, calm = judged(20, 60, *[20] * 12)
    assert (breach.lineage.topic, breach.lineage.partition) == (OPTIONS.topic, OPTIONS.partition)
    assert breach.lineage.first_offset == breach.lineage.last_offset == 1
    assert breach.lineage.window == {}
    assert breach.lineage.versions == {"learners": LearnerBank.VERSION, "registry": "7"}
    assert "50" in breach.lineage.rule
    assert (calm.severity, calm.cause) == (Severity.NORMAL, "recovered")
    assert calm.lineage.window["count"] == 1
    assert calm.lineage.window["mean"] == calm.value == 20
    assert calm.lineage.first_offset == (calm.lineage.window["start"] - NOW) / 1_000
    assert breach.explanation
    assert breach.recommended_action


def test_only_changes_are_told_and_each_has_its_own_id() -> None:
    """In every cut the same ids, however often the same thing happens."""
    values = [20, 60, 61, 62, *[20] * 12, 60, *[20] * 30, 95, 60]
    made = judged(*values)
    assert [event.severity for event in made] == [1, 0, 1, 0, 2]
    assert len({event.event_id for event in made}) == 5
    for cuts in ([1, 2, 3], list(range(len(values))), [17]):
        assert judged(*values, cuts=cuts) == made


def test_a_notification_belongs_to_its_event() -> None:
    """Its id is its own, and derived."""
    ((_, out),) = run(new_state(), chunk([Record(NOW, (Reading(SENSOR, 95.0),))]), registry(ENTRY))
    (event,), (notification,) = out.events, out.notifications
    assert notification.event_id == event.event_id != notification.notification_id
    assert (notification.sensor, notification.severity, notification.at) == (SENSOR, event.severity, event.at)
    assert "boiler" in notification.title
    assert event.explanation in notification.message


def test_an_edited_range_works_from_its_place_on() -> None:
    """Also one that is new, or gone, or of a sensor that comes later."""
    other = msgspec.structs.replace(ENTRY, sensor=OTHER)
    log = RegistryLog()
    for offset, (sensor, entry) in enumerate(((SENSOR, ENTRY), (SENSOR, None), (OTHER, other))):
        log.append(offset, NOW, sensor, entry)
    records = [
        Record(NOW - 1, (Reading(SENSOR, 60.0),)),
        Record(NOW, edit=b"1"),
        Record(NOW, (Reading(SENSOR, 61.0),)),
        Record(NOW, edit=b"2"),
        Record(NOW, (Reading(SENSOR, 1e9), Reading(OTHER, 60.0)), SENSOR),
        Record(NOW, edit=b"3"),
        Record(NOW, (Reading(OTHER, 60.0),), SENSOR),
    ]
    for cuts in (range(0), range(7)):
        told = feed(new_state(), records, cuts, log)
        found = [event.lineage.first_offset for made in told.events.values() for event in events(made)]
        assert found == [2, 6]


def test_a_sensor_keeps_its_severity_when_its_range_changes() -> None:
    """Or an edit would make events of its own: the next windows lower it."""
    log = registry(ENTRY)
    log.append(1, NOW + 1, SENSOR, None)
    readings = [Record(NOW + 1_000 * i, (Reading(SENSOR, 60.0, NOW + 1_000 * i),)) for i in range(12)]
    told = feed(new_state(), [readings[0], Record(NOW + 1, edit=b"2"), *readings[1:]], log=log)
    first, second = events(told.events[SENSOR])
    assert (first.severity, second.severity) == (Severity.WARN, Severity.NORMAL)
    assert second.lineage.versions["registry"] == "0"


@pytest.mark.parametrize("cuts", [[], [30], list(range(100))])
def test_learners_tell_of_a_jump_without_any_range(cuts: list[int]) -> None:
    """Once, with the window's score as its reason."""
    noise = random.Random(4)  # noqa: S311  # made-up data
    values = [noise.gauss(20, 0.2) for _ in range(80)] + [noise.gauss(40, 0.2) for _ in range(4)]
    made = judged(*values, entry=None, cuts=cuts)
    assert made
    first = made[0]
    assert first.at == NOW + 81_000
    assert first.cause in {"level", "difference"}
    assert first.lineage.scores["anomaly"] >= 0.5
    assert first.lineage.window["mean"] == pytest.approx(40, abs=1)
    assert first.lineage.first_offset == first.lineage.last_offset == 80


def test_a_late_reading_is_not_judged() -> None:
    """Its window is history."""
    late = Record(NOW + 9_000, (Reading(HERE[0], 70.0, NOW),))
    told = feed(new_state(), [replace(late, readings=(Reading(HERE[0], 1.0, NOW + 9_000),)), late])
    assert told.late
    assert not told.events
