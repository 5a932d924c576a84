"""Trials: what is tried beside the live judgement tells what it would have told, and changes nothing of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.checkpoint import restore, resume
from streamproc.core.engine import Outputs, PartitionState, run
from streamproc.core.registry import RegistryLog
from streamproc.records import DeltaSpike, NoData, Range, RateOfChange, SensorEntry, Severity, StuckValue
from streamproc.records.alerting import BEGUN, Document, LearnersEntry, PolicyEntry, TrialEntry, TrialEvent
from tests.core.oracle import (
    HERE,
    NOW,
    OPTIONS,
    RULES,
    Reading,
    Record,
    Told,
    chunk,
    new_state,
    registry,
    story,
    whole,
)

#: One of each sort: rules alone, beside and instead, ranges, numbers of alarms, numbers that learners learn by.
TRIALS = (
    TrialEntry("nothing"),
    TrialEntry("rules", kind="pump", rules=RULES[3]),
    TrialEntry("silence", rules=(NoData(1.5), DeltaSpike(absolute=0.3)), instead=True),
    TrialEntry("stuck", rules=(StuckValue(2.0, tolerance=2.0),), warning=Range(19, 21)),
    TrialEntry("alarms", kind="pump", learners={"alarm_surprise": 1.6, "clear_surprise": 1.0}),
    TrialEntry("learners", learners={"level_fading": 0.4, "warm_up": 12, "single_part": 30.0}),
    TrialEntry("one", sensor=HERE[1], learners={"warm_up": 10, "season_part": 0.0}),
)


@dataclass
class Tried(Told):
    """All outputs of a run, and what its trials would have told, by trial and sensor."""

    trials: dict[tuple[str, str], list[TrialEvent]] = field(default_factory=lambda: defaultdict(list))
    begun: dict[tuple[str, str], list[TrialEvent]] = field(default_factory=lambda: defaultdict(list))

    def add(self, state: PartitionState, first_offset: int, out: Outputs) -> None:
        """Take in the outputs of one step."""
        super().add(state, first_offset, out)
        for event in out.trial_events:
            kept = self.begun if event.cause == BEGUN else self.trials
            kept[event.trial, event.sensor].append(event)


def judged(
    state: PartitionState, records: Sequence[Record], log: RegistryLog, cuts: Iterable[int] = ()
) -> Tried:
    """Step through the records that the state has not passed, cut before these offsets."""
    told, at = Tried(), state.next_offset
    for end in sorted({cut for cut in cuts if at < cut < len(records)} | {len(records)}):
        if end > at:
            for part, out in run(state, chunk(records[at:end], at), log):
                told.add(state, int(part.offsets[0]), out)
            at = end
    return told


def restored(state: PartitionState) -> PartitionState:
    """The state again, of its bytes."""
    return resume(OPTIONS, whole(state))


def put(log: RegistryLog, timestamp: int, *documents: Document) -> None:
    """Put documents at a time."""
    for document in documents:
        log.append_document(log.position, timestamp, document.key, document)


def remove(log: RegistryLog, timestamp: int, document: Document) -> None:
    """Take a document away."""
    log.append_document(log.position, timestamp, document.key, None)


def known(timestamp: int = 0) -> RegistryLog:
    """A registry with sensors of two kinds, with ranges and rules of all sorts."""
    log = RegistryLog()
    for index, sensor in enumerate(HERE[:24]):
        kind = ("Pump", "fan", None)[index % 3]
        entry = SensorEntry(sensor, kind=kind, warning=Range(12, 28), rules=RULES[index % len(RULES)])
        log.append(log.position, timestamp, sensor, entry)
    return log


def tried_story(seed: int) -> tuple[list[Record], RegistryLog]:
    """A story amid which trials begin, change and end, and sensors change their kind."""
    records, out, log = story(seed, sensors=24, seconds=115), list[Record](), known()
    edits: dict[int, list[Document | SensorEntry | str]] = {
        40: [TRIALS[0], TRIALS[1], TRIALS[4]],
        120: [TRIALS[2], TRIALS[5], SensorEntry(HERE[0], kind="fan"), SensorEntry(HERE[1], kind="pump")],
        200: [TRIALS[3], TRIALS[6], TRIALS[2].key, LearnersEntry("pump", {"warm_up": 15.0})],
        280: [msgspec.structs.replace(TRIALS[5], version=2, learners={"warm_up": 11.0}), TRIALS[2]],
        360: [SensorEntry(HERE[2], kind="pump"), TRIALS[1].key],
    }
    for index, each in enumerate(records):
        for what in edits.get(index, ()):
            if isinstance(what, SensorEntry):
                log.append(log.position, each.timestamp - 5, what.sensor, what)
            elif isinstance(what, str):
                log.append_document(log.position, each.timestamp - 5, what, None)
            else:
                put(log, each.timestamp - 5, what)
        if index in edits:
            out.append(Record(each.timestamp, edit=b"%d" % log.position))
        out.append(each)
    return out, log


def loud(sensors: int, seconds: int, seed: int = 1) -> list[Record]:
    """Sensors that speak each second, and jump now and then."""
    rng = np.random.default_rng(seed)
    out = []
    for second in range(seconds):
        at = NOW + 1_000 * second
        for sensor in HERE[:sensors]:
            jump = 15.0 if rng.random() < 0.02 else 0.0
            out.append(Record(at, (Reading(sensor, round(20 + rng.normal() + jump, 3), at),)))
    return out


def with_edit(records: list[Record], index: int, log: RegistryLog) -> list[Record]:
    """The records, of which one before `index` names the registry's position."""
    return [
        *records[:index],
        Record(records[index].timestamp, edit=b"%d" % log.position),
        *records[index:],
    ]


def begun_amid(*documents: Document) -> tuple[list[Record], RegistryLog, int]:
    """Loud sensors, and trials that begin amid them; with the offset from which they are judged."""
    records, log = loud(9, 160), known()
    put(log, records[700].timestamp - 1, *documents)
    return with_edit(records, 700, log), log, 700


def test_what_changes_nothing_tells_the_same() -> None:
    """A trial without rules, ranges and numbers would have told what was told, from its place on."""
    records, log, begin = begun_amid(TrialEntry("nothing", begun_at=5))
    whole_story = judged(new_state(), records, log)
    before = judged(new_state(), records[:begin], log)
    told = 0
    for sensor, events in whole_story.events.items():
        since = events[len(before.events.get(sensor, ())) :]
        wanted = [msgspec.json.decode(event)[0] for event in since]
        found = [msgspec.to_builtins(event) for event in whole_story.trials["nothing", sensor]]
        told += len(found)
        for event in (*wanted, *found):
            event["lineage"]["versions"].pop("trial", None)
            for name in ("event_id", "recommended_action", "trial", "trial_version", "begun_at"):
                event.pop(name, None)
        assert found == wanted
    assert told > 10
    (first, *_) = whole_story.trials["nothing", HERE[0]]
    assert (first.trial_version, first.begun_at) == (1, 5)
    assert first.lineage is not None
    assert first.lineage.versions["trial"] == "nothing@1"


@pytest.mark.live
def test_a_learner_of_its_own_goes_on_from_what_the_live_one_knows() -> None:
    """With the usual numbers, but learners of its own, it tells the same as the live one as well."""
    records, log, begin = begun_amid(TrialEntry("own", learners={"level_fading": 0.12}))
    told = judged(new_state(), records, log)
    before = judged(new_state(), records[:begin], log)
    for sensor, events in told.events.items():
        since = [msgspec.json.decode(event)[0] for event in events[len(before.events.get(sensor, ())) :]]
        found = told.trials["own", sensor]
        assert [(event.at, event.severity, event.explanation) for event in found] == [
            (event["at"], event["severity"], event["explanation"]) for event in since
        ]


@pytest.mark.live
def test_trials_change_nothing_that_is_told() -> None:
    """Events, notifications, windows and predictions are the same with trials of all sorts as without any."""
    records, log = loud(9, 120), known()
    plain = judged(new_state(), records, log)
    put(log, 0, *TRIALS)
    with_trials = judged(new_state(), records, log)
    assert {trial for trial, _ in with_trials.trials} >= {"nothing", "rules", "silence", "stuck", "alarms"}
    with_trials.trials.clear()
    with_trials.begun.clear()
    assert with_trials == plain


@pytest.mark.live
@settings(deadline=None, max_examples=5)
@given(st.integers(0, 50), st.lists(st.integers(0, 600), max_size=40), st.lists(st.integers(0, 600)))
def test_cuts_change_nothing(seed: int, cuts: list[int], others: list[int]) -> None:
    """Two ways of cutting the records into chunks give the same trials, to the bit."""
    records, log = tried_story(seed)
    one, other = new_state(), new_state()
    assert judged(one, records, log, cuts) == judged(other, records, log, others)
    assert whole(one) == whole(other)


@pytest.mark.live
@settings(deadline=None, max_examples=5)
@given(st.integers(0, 50), st.integers(0, 600), st.lists(st.integers(0, 600), max_size=20))
def test_restored_anywhere_they_go_on_the_same(seed: int, at: int, cuts: list[int]) -> None:
    """With what their own learners knew, what was held up and what rested."""
    records, log = tried_story(seed)
    state = new_state()
    judged(state, records[:at], log, cuts)
    copy = restored(state)
    assert whole(restored(state)) == whole(restored(copy))
    assert judged(copy, records, log, cuts) == judged(state, records, log)
    copy.dirty[:] = state.dirty[:] = True
    assert whole(copy) == whole(state)


@pytest.mark.live
def test_a_long_story_in_pieces_with_a_restart_in_each() -> None:
    """Each trial of the story tells something, and the same when the state is restored again and again."""
    records, log = tried_story(3)
    wanted = judged(new_state(), records, log)
    state, told = new_state(), Tried()
    for end in (*range(60, len(records), 97), len(records)):
        part = judged(state, records[:end], log)
        for key, events in part.trials.items():
            told.trials[key] += events
        for key, events in part.begun.items():
            told.begun[key] += events
        state = restored(state)
    assert (told.trials, told.begun) == (wanted.trials, wanted.begun)
    assert {trial for trial, _ in wanted.trials} >= {"nothing", "rules", "silence", "stuck", "learners"}


@pytest.mark.live
def test_a_block_from_beyond_the_head_tells_nothing_again() -> None:
    """A block that has seen the end of a trial, and another one's begin, goes on with the one that it is in."""
    records, log = loud(9, 160), known()
    first, second = TrialEntry("a", begun_at=1), TrialEntry("a", begun_at=2, learners={"warm_up": 12})
    put(log, NOW + 20_000, first)
    records = with_edit(records, 300, log)
    remove(log, NOW + 60_000, first)
    put(log, NOW + 60_000, second)
    records = with_edit(records, 700, log)
    state = new_state()
    judged(state, records[:500], log)
    old = whole(state)
    judged(state, records[:900], log)
    new = whole(state)
    copy, _ = restore(OPTIONS, [old.head], {number: [block] for number, block in new.blocks.items()})
    assert copy.next_offset == 500
    again = judged(copy, records[:900], log)
    assert not again.trials
    assert not again.begun
    assert judged(copy, records, log).trials == judged(state, records, log).trials


@pytest.mark.live
def test_a_sensors_begin_is_told_with_what_it_was() -> None:
    """Its severity then, and up to where its windows were judged; of a sensor that comes later, the trial's own begin."""
    records, log, _ = begun_amid(TrialEntry("t", kind="pump", begun_at=77))
    later = [*records, Record(NOW + 160_000, (Reading(HERE[9], 20.0, NOW + 160_000),))]
    told = judged(new_state(), later, log)
    assert {sensor for _, sensor in told.begun} == {*HERE[0:9:3], HERE[9]}
    (begun,), (late,) = told.begun["t", HERE[0]], told.begun["t", HERE[9]]
    before = [
        msgspec.json.decode(event)[0] for event in judged(new_state(), records[:700], log).events[HERE[0]]
    ]
    assert begun.severity == begun.previous == (before[-1]["severity"] if before else 0)
    assert records[700].timestamp - 4_000 < begun.at <= records[700].timestamp
    assert (late.at, late.begun_at) == (77, 77)


def test_rules_come_beside_the_sensors_own_or_instead() -> None:
    """A rule of the same sort stays beside the trial's unless it is tried instead."""
    sensor, records = HERE[0], [Record(NOW + 1_000 * i, (Reading(HERE[0], 20.0 + 3 * i),)) for i in range(9)]
    log = RegistryLog()
    own, other = DeltaSpike(absolute=1.0), DeltaSpike(absolute=2.0, severity=Severity.CRITICAL)
    log.append(0, 0, sensor, SensorEntry(sensor, rules=(own, RateOfChange(0.001, window="1s"))))
    put(log, 0, TrialEntry("beside", rules=(other,)))
    put(log, 0, TrialEntry("instead", rules=(DeltaSpike(absolute=99.0),), instead=True))
    told = judged(new_state(), records, log)
    (live,) = told.events[sensor]
    assert msgspec.json.decode(live)[0]["severity"] == Severity.WARN
    assert [event.severity for event in told.trials["beside", sensor]] == [Severity.CRITICAL]
    assert not told.trials["instead", sensor]


def test_a_silence_that_only_the_trial_waits_for_is_told_by_the_clock() -> None:
    """Its time is when it became one, and the partition knows that a tick is wanted for it."""
    log, state = known(), new_state()
    put(log, 0, TrialEntry("quiet", sensor=HERE[0], rules=(NoData(20.0),)))
    judged(state, [Record(NOW, (Reading(HERE[0], 20.0, NOW),))], log)
    assert state.trials.next_at(state.watermarks) == NOW + 20_000
    records = [Record(NOW), Record(NOW + 30_000, tick=True)]
    told = judged(state, records, log)
    (event,) = told.trials["quiet", HERE[0]]
    assert (event.cause, event.at) == ("silence", NOW + 20_000)
    assert not told.events[HERE[0]]
    assert state.trials.next_at(state.watermarks) is None


@pytest.mark.live
def test_promoted_numbers_are_the_live_learners_from_their_place_on() -> None:
    """What a trial would have told with them, the live learners tell; other kinds go by the usual ones."""
    numbers = {"alarm_surprise": 1.6, "clear_surprise": 1.0, "warm_up": 12.0, "level_fading": 0.2}
    records, tried_log, _ = begun_amid(TrialEntry("t", kind="pump", learners=numbers))
    _, live_log, _ = begun_amid(LearnersEntry("pump", numbers, trial="t"))
    trial, live = judged(new_state(), records, tried_log), judged(new_state(), records, live_log)
    pumps, others = HERE[0:9:3], HERE[1:9:3]
    since = records[700].timestamp
    for sensor in pumps:
        found = [msgspec.json.decode(event)[0] for event in live.events[sensor]]
        now = [(event["at"], event["severity"]) for event in found if event["at"] > since]
        assert now == [(event.at, event.severity) for event in trial.trials["t", sensor] if event.at > since]
    assert any(live.events[sensor] != trial.events[sensor] for sensor in pumps)
    assert all(live.events[sensor] == trial.events[sensor] for sensor in others)


def test_a_sensor_that_comes_later_is_in_the_trial_of_all() -> None:
    """Also one that the registry does not know; one of another kind is not."""
    log, stranger = known(), HERE[400]
    put(log, 0, TrialEntry("all", rules=(DeltaSpike(absolute=0.5),)))
    put(log, 0, TrialEntry("pumps", kind="pump", rules=(DeltaSpike(absolute=0.5),)))
    records = [Record(NOW + 1_000 * i, (Reading(stranger, 20.0 + i),)) for i in range(3)]
    told = judged(new_state(), records, log)
    assert [event.severity for event in told.trials["all", stranger]] == [Severity.WARN]
    assert not told.trials["pumps", stranger]


def test_a_damaged_state_of_a_trial_is_refused() -> None:
    """As any other part of a checkpoint that does not fit."""
    records, log, _ = begun_amid(TrialEntry("t", learners={"warm_up": 12}))
    state = new_state()
    judged(state, records, log)
    (states,) = [state.trials.dump(0, len(state.sensors))]
    for kept in (replace_bytes(states[0].kept, "learnt"), replace_bytes(states[0].kept, "lasts")):
        broken = msgspec.structs.replace(states[0], kept=kept)
        with pytest.raises(ValueError, match="not of 9 sensors"):
            new_state().trials.load(0, len(state.sensors), [broken])
    with pytest.raises(ValueError, match="beyond the block"):
        new_state().trials.load(0, 3, states)


def replace_bytes(kept: object, name: str) -> object:
    """The state with a part that is of no whole number of sensors."""
    return msgspec.structs.replace(kept, **{name: b"123"})  # type: ignore[type-var]


def test_windows_up_and_down_are_tried_as_they_would_be_live() -> None:
    """A policy on trial tells what it would tell as the kind's own, and leaves the live one alone."""
    entry = SensorEntry(HERE[0], kind="pump", warning=Range(high=30, clear_high=25))
    values = [20.0, 31, 20, 31, 31, 31, 20, 20, *[31, 20] * 20, *[20] * 30]
    records = [Record(NOW + 1_000 * i, (Reading(HERE[0], value),)) for i, value in enumerate(values)]
    given: dict[str, Any] = {"up_windows": 3, "down_windows": 2, "flapping": False}
    trial, live = RegistryLog(), RegistryLog()
    for log in (trial, live):
        log.append(0, 0, HERE[0], entry)
    put(trial, 0, TrialEntry("patient", kind="pump", **given))
    put(live, 0, PolicyEntry("pump", **given))
    tried, told = judged(new_state(), records, trial), judged(new_state(), records, live)
    wanted = [msgspec.json.decode(event)[0] for event in told.events[HERE[0]]]
    found = tried.trials["patient", HERE[0]]
    assert [(event.at, event.severity, event.explanation) for event in found] == [
        (event["at"], event["severity"], event["explanation"]) for event in wanted
    ]
    assert found
    assert tried.events == judged(new_state(), records, registry(entry)).events != told.events


def test_clear_levels_are_tried() -> None:
    """A range on trial has its own."""
    entry = SensorEntry(HERE[0], warning=Range(high=30))
    values = [31.0, *[27.0] * 9]
    records = [Record(NOW + 1_000 * i, (Reading(HERE[0], value),)) for i, value in enumerate(values)]
    log = registry(entry)
    put(log, 0, TrialEntry("clear", warning=Range(high=30, clear_high=25)))
    told = judged(new_state(), records, log)
    assert [msgspec.json.decode(event)[0]["severity"] for event in told.events[HERE[0]]] == [1, 0]
    assert [event.severity for event in told.trials["clear", HERE[0]]] == [1]
