"""Edits of the registry have their place among the records: however these are cut, read again or restored."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.checkpoint import restore, resume
from streamproc.core.engine import PartitionState, run
from streamproc.core.registry import Edit, RegistryLog
from streamproc.records import ActionEntry, DeltaSpike, NoData, Range, SensorEntry, Severity
from tests.core.oracle import (
    ELSEWHERE,
    HERE,
    NOW,
    OPTIONS,
    Reading,
    Record,
    Told,
    chunk,
    cuttings,
    edited,
    feed,
    new_state,
    registry,
    story,
    streams,
    whole,
)

RULES = (DeltaSpike(absolute=4.0, within_seconds=3.0), DeltaSpike(percent=900.0, severity=Severity.CRITICAL))
SENSORS = (*HERE[:3], ELSEWHERE[0])


@st.composite
def edits(draw: st.DrawFn) -> tuple[list[Record], RegistryLog]:
    """Records, some of which name positions, right and wrong ones, and the registry as it was in the end."""
    log, records, clock = RegistryLog(), list[Record](), NOW
    for each in draw(streams(20)):
        clock = max(clock, each.timestamp)
        for _ in range(draw(st.integers(0, 2))):
            sensor = draw(st.sampled_from(SENSORS))
            warning = draw(st.sampled_from((None, Range(-4, 6, -1, 2), Range(0.5, 1.5), Range(100, 200))))
            device = draw(st.sampled_from((None, HERE[3], HERE[3].upper(), HERE[9], ELSEWHERE[3])))
            rules = draw(st.sampled_from(((), RULES, RULES[1:])))
            entry = SensorEntry(sensor, device, warning=warning, rules=rules, version=log.position)
            log.append(log.position, clock, sensor, draw(st.sampled_from((entry, entry, None))))
        records.append(each)
        if draw(st.booleans()):
            position = max(log.position + draw(st.sampled_from((0, 0, -1, -3, 1, 3))), 0)
            records.append(Record(each.timestamp, edit=draw(st.sampled_from((b"%d" % position, b"", b"-1")))))
    return records, log


def read_until(log: RegistryLog, clock: int) -> RegistryLog:
    """The registry as it could be read when the broker's clock showed this."""
    read = RegistryLog()
    for edit in log.between(0, log.position):
        if edit.timestamp <= clock:
            read.append(*edit)
    return read


@pytest.mark.live
@settings(deadline=None, max_examples=70)
@given(edits(), cuttings, cuttings)
def test_cuts_change_nothing(
    made: tuple[list[Record], RegistryLog], cuts: list[int], others: list[int]
) -> None:
    """Two ways of cutting records and edits into chunks give the same bits."""
    records, log = made
    one, other = new_state(), new_state()
    assert feed(one, records, cuts, log) == feed(other, records, others, log)
    assert whole(one) == whole(other)


@pytest.mark.live
@settings(deadline=None, max_examples=70)
@given(edits(), cuttings)
def test_what_is_read_later_changes_nothing(made: tuple[list[Record], RegistryLog], cuts: list[int]) -> None:
    """A replay, which has all of the registry, judges as was judged with what there was at the time."""
    records, log = made
    live, told, at = new_state(), Told(), 0
    for end in sorted({cut for cut in cuts if 0 < cut < len(records)} | {len(records)}):
        clock = max(each.timestamp for each in records[:end])
        for part, out in run(live, chunk(records[at:end], at), read_until(log, clock)):
            told.add(live, int(part.offsets[0]), out)
        at = end
    again = new_state()
    assert told == feed(again, records, log=log)
    assert whole(live) == whole(again)


@pytest.mark.live
@settings(deadline=None, max_examples=50)
@given(edits(), st.integers(0, 30), cuttings)
def test_restored_anywhere_it_goes_on_the_same(
    made: tuple[list[Record], RegistryLog], at: int, cuts: list[int]
) -> None:
    """By the ranges and devices of the checkpoint's place, not of the registry as it is by then."""
    records, log = made
    state = new_state()
    feed(state, records[:at], cuts, log)
    snapshot = whole(state)
    copy, _ = restore(
        OPTIONS, [snapshot.head], {number: [block] for number, block in snapshot.blocks.items()}
    )
    assert feed(copy, records, cuts, log) == feed(state, records, (), log)
    copy.dirty[:] = state.dirty[:] = True
    assert whole(copy) == whole(state)


def assert_goes_on_the_same(records: list[Record], at: int, log: RegistryLog) -> Told:
    """A state that is restored before the record `at` tells and remembers what it would have; gives what is told then."""
    state = new_state()
    feed(state, records[:at], (), log)
    copy = resume(OPTIONS, whole(state))
    told = feed(copy, records, (), log)
    assert told == feed(state, records, (), log)
    copy.dirty[:] = state.dirty[:] = True
    assert whole(copy) == whole(state)
    return told


def test_an_alarm_of_a_sensor_that_has_gone_outlives_a_restore() -> None:
    """It is of a reading that was sent on here before its device was another partition's: a restore is no further edit."""
    log = registry(SensorEntry(HERE[1], ELSEWHERE[3], warning=Range(0.5, 1.5)))
    high = Record(NOW, (Reading(HERE[1], 9.0),), sent_from=(1, 7, NOW))
    assert_goes_on_the_same([high, Record(NOW + 90_000, tick=True)], 1, log)


def renamed_and_silent() -> tuple[list[Record], RegistryLog]:
    """Two sensors that a device names, edited at 1 to be another's, which is silent at 10 and heard again at 11."""
    first, second, sensors = HERE[40], HERE[41], HERE[:2]
    log = RegistryLog()
    for sensor in sensors:
        log.append(log.position, NOW + 2, sensor, SensorEntry(sensor, second, rules=(NoData(seconds=60),)))
    readings = tuple(Reading(sensor, 20.0) for sensor in sensors)
    records = [
        Record(NOW, readings, first),
        Record(NOW + 3, edit=b"2"),
        *(Record(NOW + ms, readings, second) for ms in range(1_000, 9_000, 1_000)),
        Record(NOW + 200_000, tick=True),
        Record(NOW + 300_000, readings, second),
    ]
    return records, log


def test_a_sensor_of_another_device_than_first_named_it_stands_for_that_after_a_restore() -> None:
    """It told of its device's silence, and tells of its end: a restore does not take it from the device that named it."""
    records, log = renamed_and_silent()
    told = assert_goes_on_the_same(records, 11, log)
    assert [note.severity for notes in told.devices.values() for note in notes] == [Severity.NORMAL]


def test_a_block_from_beyond_an_edit_has_seen_it() -> None:
    """The edit comes again where the rest of the state goes on, and takes no sensor of the block from its device."""
    records, log = renamed_and_silent()
    state = new_state()
    feed(state, records[:1], (), log)
    early = whole(state)
    feed(state, records[:11], (), log)
    copy, _ = restore(OPTIONS, [early.head], {0: [whole(state).blocks[0]]})
    assert copy.next_offset == 1
    assert feed(copy, records, (), log).devices == feed(state, records, (), log).devices
    copy.dirty[:] = state.dirty[:] = True
    assert whole(copy) == whole(state)


def test_a_long_story_with_edits_is_the_same_in_every_cut() -> None:
    """With events of each edited range, and sensors that come and go with their devices."""
    records, log = edited(5, story(5, sensors=24, seconds=60))
    one, other = new_state(), new_state()
    told = feed(one, records, range(0, len(records), 7), log)
    assert told == feed(other, records, [], log)
    assert whole(one) == whole(other)
    versions = {
        msgspec.json.decode(event)[0]["lineage"]["versions"]["registry"]
        for made in told.events.values()
        for event in made
    }
    assert len(versions) > 20
    assert {name for name, _ in told.windows} & set(ELSEWHERE)
    moved = {offset for offset, _ in told.moved}
    assert any(records[offset].readings[0].sensor in HERE for offset in moved)


def test_a_state_begins_with_the_registry_of_its_first_record() -> None:
    """Not with that of today: what was edited later comes at its place."""
    log = RegistryLog()
    log.append(3, NOW, HERE[0], SensorEntry(HERE[0], warning=Range(0, 50)))
    log.append(4, NOW + 1, HERE[0], None)
    state = new_state()
    assert feed(state, [Record(NOW, (Reading(HERE[0], 60.0, NOW),))], log=log).events
    assert state.registry_position == 4
    late = PartitionState(replace(OPTIONS))
    assert not feed(late, [Record(NOW + 1, (Reading(HERE[0], 60.0, NOW),))], log=log).events


def test_a_registry_that_ends_before_the_checkpoint_is_taken_as_of_the_time() -> None:
    """Its topic was made anew: better today's ranges than none for ever."""
    state = new_state()
    state.registry_position = 900
    log = RegistryLog()
    log.append(0, NOW, HERE[0], SensorEntry(HERE[0], warning=Range(0, 50)))
    assert feed(state, [Record(NOW, (Reading(HERE[0], 60.0, NOW),))], log=log).events
    assert state.registry_position == 1


@pytest.mark.parametrize("position", [b"", b"x", b"-1", b"1.0", b"9" * 19, "٣".encode(), b"1\n"])
def test_a_position_that_is_no_number_is_a_tick(position: bytes) -> None:
    """Whoever wrote it: the clock moves, and nothing else."""
    log = RegistryLog()
    log.append(0, NOW + 1, HERE[0], None)
    state = new_state()
    records = [Record(NOW, (Reading(HERE[0], 1.0, NOW),)), Record(NOW + 60_000, edit=position)]
    told = feed(state, records, log=log)
    assert len(told.windows[HERE[0], 1_000]) == 1
    assert not told.rejected
    assert (state.registry_position, state.watermarks.clock) == (0, NOW + 60_000)


def test_what_to_do_is_as_of_the_records_place() -> None:
    """Edits of recommended actions amid readings: in force from their place on, in every cut, restored and replayed."""
    records, log = edited(5, story(5, sensors=24, seconds=60))
    mixed, places = RegistryLog(), dict[int, str]()
    for edit in log.all_between(0, log.position):
        if edit.offset % 40 == 39:
            entry = ActionEntry("*", "warning_range", en=f"Look {edit.offset}.")
            places[edit.offset] = entry.en or ""
            mixed.append_document(edit.offset, edit.timestamp, entry.key, entry)
        elif isinstance(edit, Edit):
            mixed.append(*edit)
    one, other = new_state(), new_state()
    told = feed(one, records, range(0, len(records), 7), mixed)
    assert told == feed(other, records, [], mixed)
    half = new_state()
    first = feed(half, records[: len(records) // 2], [], mixed)
    snapshot = whole(half)
    copy, _ = restore(OPTIONS, [snapshot.head], {n: [block] for n, block in snapshot.blocks.items()})
    rest = feed(copy, records, [], mixed)
    assert {
        name: [*first.events.get(name, []), *rest.events.get(name, [])] for name in told.events
    } == told.events
    found = [msgspec.json.decode(event)[0] for made in told.events.values() for event in made]
    said = {event["recommended_action"] for event in found if event["cause"] == "warning_range"}
    assert len(said & set(places.values())) > 2
    assert said - set(places.values())  # streamproc's own, before the first edit
