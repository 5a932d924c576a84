"""A trial's own rules `no_data`: silent devices hide its sensors' silences as they do the live ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.registry import RegistryLog
from streamproc.records import DEVICE_SILENT, Expression, NoData, SensorEntry, Severity
from streamproc.records.alerting import TrialEntry
from tests.core.oracle import HERE, Record, new_state, registry, whole
from tests.core.test_inhibition import DEVICE, MINUTE, SENSORS, each, events_of, read, site, tick
from tests.core.test_trials import Tried, judged, put, restored

HOUR = NoData(seconds=3_600, severity=Severity.CRITICAL)
#: The device dies and comes back without its last sensor, which is heard again later, and dies once more.
STORY = [
    *each(0, 100),
    tick(200),
    *each(1_000, 1_200, sensors=SENSORS[:2]),
    *each(1_200, 1_300),
    tick(1_400),
    tick(6_000),
    *each(6_100, 6_400, sensors=SENSORS[1:]),
    tick(6_900),
]


def trial(*rules: NoData, sensor: str | None = None) -> TrialEntry:
    """A trial of these rules in place of the sensors' own."""
    return TrialEntry("quiet", sensor=sensor, rules=rules, instead=True)


def tried(entry: TrialEntry, *rules: NoData) -> RegistryLog:
    """A device whose sensors have these rules, and the trial from before the first record on."""
    log = site(*rules)
    put(log, 0, entry)
    return log


def both(told: Tried, sensor: str) -> tuple[list[Any], list[Any]]:
    """What was told of a sensor's silences, and what the trial would have told."""
    ours = [
        (event.at, event.severity, event.previous, event.cause, event.explanation, event.lineage)
        for event in told.trials["quiet", sensor]
    ]
    versions = [event.lineage.versions for event in told.trials["quiet", sensor] if event.lineage]
    theirs: list[Any] = [
        (event.at, event.severity, event.previous, event.cause, event.explanation, event.lineage)
        for event in events_of(told, sensor)
    ]
    for (*_, lineage), its in zip(theirs, versions, strict=False):
        lineage.versions.update(its)
    return theirs, ours


@pytest.mark.parametrize("rules", [(MINUTE,), (MINUTE, HOUR)])
def test_the_rules_that_are_live_tell_what_is_told(rules: Sequence[NoData]) -> None:
    """Silences that the device hides, the sensor that is still silent when it is back, and the ends, however cut."""
    log, live = tried(trial(*rules), *rules), site(*rules)
    at_once = judged(new_state(), STORY, log)
    assert at_once == judged(new_state(), STORY, log, range(len(STORY)))
    assert at_once.events == judged(new_state(), STORY, live).events
    for sensor in SENSORS:
        theirs, ours = both(at_once, sensor)
        assert ours == theirs
        assert ours
    last = [event.lineage.scores for event in at_once.trials["quiet", SENSORS[2]] if event.lineage]
    assert [DEVICE_SILENT in scores for scores in last][:3] == [True, False, False]


def test_rules_that_only_the_trial_has_tell_what_they_would_live() -> None:
    """Promoted, they tell the same of each silence."""
    promoted = judged(new_state(), STORY, site(MINUTE))
    told = judged(new_state(), STORY, tried(trial(MINUTE)))
    assert not any(told.events.values())
    for sensor in SENSORS:
        wanted = [(event.at, event.severity, event.explanation) for event in events_of(promoted, sensor)]
        assert [
            (event.at, event.severity, event.explanation) for event in told.trials["quiet", sensor]
        ] == wanted


def test_the_rules_of_a_devices_other_sensors_count_as_they_are_live() -> None:
    """A trial of one sensor: the device hides it by the shortest of all of its sensors' rules."""
    log, records = RegistryLog(), [*each(0, 100, 5), tick(200)]
    for sensor in SENSORS:
        log.append(log.position, 0, sensor, SensorEntry(sensor, DEVICE, rules=(NoData(10.0),)))
    put(log, 0, trial(MINUTE, sensor=SENSORS[0]))
    (event,) = judged(new_state(), records, log).trials["quiet", SENSORS[0]]
    assert event.lineage is not None
    assert DEVICE_SILENT in event.lineage.scores
    # Of its own rule half a minute counts: what another had said 20 s before is less.
    records = [*each(0, 100, 5), *[read(at, SENSORS[1]) for at in range(100, 135, 5)], tick(200)]
    (event,) = judged(new_state(), records, log).trials["quiet", SENSORS[0]]
    assert event.lineage is not None
    assert DEVICE_SILENT in event.lineage.scores


def test_the_end_of_what_a_device_hid_is_waited_for_by_the_clock() -> None:
    """The sensor that stays silent once the device is back is due, and a tick tells of it."""
    state, log = new_state(), tried(trial(MINUTE))
    judged(state, [*each(0, 100), tick(200), read(1_000, *SENSORS[:2])], log)
    due = state.watermarks.clock + 60_000
    assert state.trials.next_at(state.watermarks) == due
    state = restored(state)
    told = judged(state, [*([Record(0)] * state.next_offset), read(1_050, SENSORS[0]), tick(1_060)], log)
    assert "still silent" in told.trials["quiet", SENSORS[2]][0].explanation


def test_a_trial_begins_where_the_live_judgement_stands() -> None:
    """What a silent device hides when the trial begins, it goes on to hide there."""
    log = site(MINUTE)
    put(log, read(500).timestamp, trial(MINUTE))
    records = [*each(0, 100), tick(200), *STORY[STORY.index(tick(200)) + 1 :]]
    at = records.index(tick(200)) + 1
    records.insert(at, Record(read(600).timestamp, edit=b"%d" % log.position))
    told = judged(new_state(), records, log)
    for sensor in SENSORS:
        since = told.begun["quiet", sensor][0].at
        theirs, ours = both(told, sensor)
        assert len(ours) < len(theirs)
        assert [event[:4] for event in theirs if event[0] > max(since, read(600).timestamp)] == [
            event[:4] for event in ours
        ]


@settings(max_examples=30)
@given(st.sets(st.integers(1, len(STORY) - 1), min_size=1, max_size=4), st.sampled_from(HERE[5:9]))
def test_restored_anywhere_it_goes_on_the_same(marks: set[int], other: str) -> None:
    """Which silences wait is in the checkpoint; a sensor that goes to another device waits no more."""
    log = tried(trial(MINUTE, HOUR))
    log.append(log.position, read(1_100).timestamp, SENSORS[1], SensorEntry(SENSORS[1], device=other))
    state, told = new_state(), Tried()
    for end in (*sorted(marks), len(STORY)):
        for key, events in judged(state, STORY[:end], log).trials.items():
            told.trials[key] += events
        state = restored(state)
    at_once = new_state()
    assert told.trials == judged(at_once, STORY, log).trials
    assert whole(state) == whole(at_once)


def test_a_damaged_wait_is_refused() -> None:
    """As any other part of a checkpoint that does not fit."""
    state = new_state()
    judged(state, [*each(0, 100), tick(200)], tried(trial(MINUTE)))
    (states,) = [state.trials.dump(0, len(state.sensors))]
    assert states[0].kept.waiting
    broken = msgspec.structs.replace(
        states[0], kept=msgspec.structs.replace(states[0].kept, waiting={len(SENSORS): 0})
    )
    with pytest.raises(ValueError, match="beyond its 3 sensors"):
        new_state().trials.load(0, len(state.sensors), [broken])


def test_a_larger_window_that_closes_alone_is_judged() -> None:
    """By a tick, in a chunk in which nothing else comes of the trial's sensors: as where the chunk has more."""
    log = registry(SensorEntry(SENSORS[0]), SensorEntry(SENSORS[1]))
    rule = Expression("max_10s > 10", clear_windows=1)
    put(log, 0, TrialEntry("t", sensor=SENSORS[0], rules=(rule,)))
    records = [read(at, SENSORS[0]) for at in range(5)] + [tick(at) for at in range(5, 30)]
    at_once = judged(new_state(), records, log)
    assert [event.cause for event in at_once.trials["t", SENSORS[0]]] == ["expression"]
    assert judged(new_state(), records, log, range(len(records))) == at_once
