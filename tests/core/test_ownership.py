"""A sensor belongs to the device that the registry names, as of each record's place: others' readings count in nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from streamproc.core.chunk import LETTER, REDRIVEN, Chunk
from streamproc.core.codec import decode
from streamproc.core.ownership import Owners, foreign, foreign_faults
from streamproc.core.registry import RegistryLog, parts
from streamproc.core.routing import home
from streamproc.core.windows import SIZES_MS
from streamproc.records import Range, SensorEntry
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
    feed,
    new_state,
    registry,
    whole,
)
from tests.core.test_edits import edits, read_until

MINE, THEIRS, FREE = HERE[0], HERE[1], HERE[2]
DEVICE, OTHER = HERE[10], HERE[11]
LOG = registry(SensorEntry(MINE, device=DEVICE), SensorEntry(THEIRS, device=OTHER))


def packet(*sensors: str, device: str = DEVICE, at: int = NOW) -> Record:
    """A packet with a reading of each of these sensors."""
    return Record(at, tuple(Reading(name, 1.0, at) for name in sensors), device)


def test_a_foreign_reading_is_rejected_and_its_packets_others_count() -> None:
    """With its field and reason; no slot, window, clock or key is made of it."""
    state = new_state()
    told = feed(state, [packet(MINE, THEIRS, FREE, THEIRS), packet(at=NOW, device=DEVICE)], log=LOG)
    reason = f"sensor {THEIRS} is registered to device {OTHER}, not to {DEVICE}"
    assert told.rejected[:2] == [(0, f"readings[{index}].sensor_uuid", reason) for index in (1, 3)]
    assert (told.readings, told.duplicates) == (2, 0)
    assert state.sensors.names == [MINE, FREE]
    alone = new_state()
    feed(alone, [packet(MINE, FREE), packet(at=NOW, device=DEVICE)], log=LOG)
    assert whole(state) == whole(alone)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"device_uuid": DEVICE.upper(), "sensor_uuid": THEIRS.upper(), "value": 1}, "sensor_uuid"),
        ({"device_uuid": DEVICE, "sensor_id": THEIRS, "value": 1}, "sensor_id"),
        ({"device_uuid": OTHER.upper(), "sensor_uuid": THEIRS.upper(), "value": 1}, None),
        ({"sensor_uuid": THEIRS, "value": 1}, None),
        ({"device_uuid": DEVICE, "sensor_uuid": FREE, "value": 1}, None),
    ],
)
def test_a_single_reading_that_names_a_device_is_checked_too(
    body: dict[str, object], field: str | None
) -> None:
    """Names are the same in any case; who names no device, and whose sensor is unknown, is taken as ever."""
    told = feed(new_state(), [Record(NOW, body=json.dumps(body).encode())], log=LOG)
    assert [each for _, each, _ in told.rejected] == ([] if field is None else [field])
    assert told.readings == (field is None)


def test_a_device_of_no_entry_may_send_any_free_sensor() -> None:
    """An entry without a device leaves its sensor free as well."""
    log = registry(SensorEntry(MINE, name="no device"))
    assert (
        feed(new_state(), [packet(MINE, FREE, device=device) for device in (DEVICE, OTHER)], log=log).rejected
        == []
    )


def test_what_belongs_elsewhere_is_told_where_it_belongs() -> None:
    """A packet in a wrong partition is sent on whole, and its own partition finds what is foreign in it."""
    sent = packet(THEIRS, FREE, device=ELSEWHERE[10])
    told = feed(new_state(), [sent], log=LOG)
    assert (told.moved, told.rejected) == ([(0, 1)], [])
    there = new_state(replace(OPTIONS, partition=1))
    told = feed(there, [replace(sent, sent_from=(0, 0, NOW))], log=LOG)
    assert [field for _, field, _ in told.rejected] == ["readings[0].sensor_uuid"]
    assert (told.readings, there.sensors.names) == (1, [FREE])


def test_what_was_sent_on_is_checked_though_it_counts_where_it_is() -> None:
    """Be it of a device of another partition: the mark of having been sent on is no word about whose a sensor is."""
    sent = replace(packet(THEIRS, FREE, device=ELSEWHERE[10]), sent_from=(1, 4, NOW))
    told = feed(new_state(), [sent], log=LOG)
    assert [field for _, field, _ in told.rejected] == ["readings[0].sensor_uuid"]
    assert told.readings == 1


def test_a_sensor_that_moves_is_its_new_devices_from_there_on() -> None:
    """And free once its entry is gone; whoever was known to name it is looked up anew."""
    log = RegistryLog()
    for offset, device in enumerate((None, DEVICE, OTHER)):
        log.append(offset, NOW, FREE, SensorEntry(FREE, device=device))
    log.append(3, NOW, FREE, None)
    records = []
    for position in range(4):
        records += [Record(NOW, edit=b"%d" % (position + 1)), packet(FREE), packet(FREE, device=OTHER)]
    records = [
        packet(FREE, at=NOW - 1),
        *[replace(each, timestamp=NOW + i) for i, each in enumerate(records)],
    ]
    for cuts in ((), range(20)):
        told = feed(new_state(), records, cuts, log)
        assert [offset for offset, *_ in told.rejected] == [6, 8]


def test_a_sensors_number_is_its_devices_too() -> None:
    """The database takes a number for the sensor that has it: whose that is, is asked as of each place in the registry."""
    log = RegistryLog()
    log.append(0, NOW, MINE, SensorEntry(MINE, device=DEVICE))
    log.append(1, NOW, MINE, SensorEntry(MINE, device=DEVICE, sensor_id=41))
    log.append(2, NOW, "41", SensorEntry("41"))  # a name goes before a number
    log.append(3, NOW, "41", None)
    log.append(4, NOW, MINE, SensorEntry(MINE, device=DEVICE, sensor_id=7))
    records = []
    for position in range(1, 6):
        records += [Record(NOW, edit=b"%d" % position), packet("41"), packet("41", "041", device=OTHER)]
    records = [
        packet(FREE, at=NOW - 1),
        *[replace(each, timestamp=NOW + i) for i, each in enumerate(records)],
    ]
    for cuts in ((), range(20)):
        told = feed(new_state(), records, cuts, log)
        assert [(offset, field) for offset, field, _ in told.rejected] == [
            (6, "readings[0].sensor_uuid"),
            (12, "readings[0].sensor_uuid"),
        ]
        assert f"registered to device {DEVICE}, not to {OTHER}" in told.rejected[0][2]
        found = left_out(records, log, list(cuts))
        assert [(offset, sensor) for offset, sensor, _ in found] == [(6, "41"), (12, "41")]


@pytest.mark.parametrize("cuts", [(), range(20)], ids=["one chunk", "each"])
@pytest.mark.parametrize("device", [DEVICE, None])
def test_a_sensors_number_stands_for_it(device: str | None, cuts: Iterable[int]) -> None:
    """As of each place in the registry: it counts in the sensor's windows and by its limits; sent by both names, once."""
    log = RegistryLog()
    entry = SensorEntry(MINE, device=device, critical=Range(high=10.0))
    log.append(0, NOW, MINE, entry)
    log.append(1, NOW, MINE, msgspec.structs.replace(entry, sensor_id=41))
    log.append(2, NOW, FREE, SensorEntry(FREE, sensor_id=43))
    log.append(3, NOW, "41", SensorEntry("41"))  # a name goes before a number
    records = [Record(NOW - 1, (Reading(FREE, 1.0, NOW),), DEVICE)]
    for position in range(1, 5):
        sent = [Reading(name, 20.0 + position, NOW + position) for name in ("41", MINE)]
        one = [Record(NOW + position, (reading,), device, sent_from=(1, 5, NOW)) for reading in sent]
        records += [Record(NOW + position, edit=b"%d" % position), *one]
    told = feed(new_state(), [*records, Record(NOW + 60_000, tick=True)], cuts, log)
    assert (told.readings, told.duplicates) == (1 + 2 + 1 + 1 + 2, 2)
    counts = {name: len(rows) for (name, size), rows in told.windows.items() if size == SIZES_MS[0]}
    assert counts == {FREE: 1, MINE: 1, "41": 1}
    assert set(told.events) == {MINE}


def test_two_faults_of_a_packet_are_both_told() -> None:
    """One too far ahead, one foreign: each with its own field."""
    rows = (Reading(MINE, 1.0, NOW + 99_000), Reading(THEIRS, 1.0, NOW))
    told = feed(new_state(), [Record(NOW, rows, DEVICE)], log=LOG)
    assert [field for _, field, _ in told.rejected] == ["readings[1].sensor_uuid", "ts"]


def expected(records: list[Record], log: RegistryLog) -> list[tuple[int, str]]:
    """The fields of foreign readings by record, in the most obvious way."""
    found: list[tuple[int, str]] = []
    position = log.position_at(records[0].timestamp)
    for offset, each in enumerate(records):
        if each.edit is not None and each.edit.isdigit():
            named = int(each.edit)
            if position < named <= log.position_at(each.timestamp):
                position = named
        entries = log.as_of(position)
        if each.device is None or (home(each.device, 2) != 0 and each.sent_from is None):
            continue
        stamp = each.sent_from[2] if each.sent_from else each.timestamp
        for index, reading in enumerate(each.readings):
            entry = entries.get(reading.sensor)
            early = reading.ts is not None and reading.ts - stamp > OPTIONS.allowed_skew_ms
            if entry and entry.device and entry.device.lower() != each.device and not early:
                found.append((offset, f"readings[{index}].sensor_uuid"))
    return found


@pytest.mark.live
@settings(deadline=None, max_examples=100)
@given(edits())
def test_each_reading_is_checked_by_the_registry_of_its_place(made: tuple[list[Record], RegistryLog]) -> None:
    """Whatever edits there are, right and wrong positions, and packets of every kind."""
    records, log = made
    told: Told = feed(new_state(), records, log=log)
    found = [
        (offset, field) for offset, field, reason in told.rejected if "is registered to device" in reason
    ]
    wanted = expected(records, log)
    assert set(wanted) <= set(found)
    # Of two readings of one sensor in a packet, one that is early is foreign as well.
    extra = set(found) - set(wanted)
    for offset, _ in extra:
        names = [reading.sensor for reading in records[offset].readings]
        assert len(set(names)) < len(names)


def left_out(records: list[Record], log: RegistryLog, cuts: list[int]) -> list[tuple[int, str, float]]:
    """Offset, sensor and value of what the sink leaves out; started anew at each cut, with no more than its position.

    It has read the registry as far as there was one by then.
    """
    found: list[tuple[int, str, float]] = []
    at, position = 0, -1
    for end in sorted({cut for cut in cuts if 0 < cut < len(records)} | {len(records)}):
        read = read_until(log, max(each.timestamp for each in records[:end]))
        owners, whole_chunk = Owners(read), chunk(records[at:end], at)
        position = read.begin(position, int(whole_chunk.timestamps[0]))
        for part, judged_by in parts(whole_chunk, position, read):
            position = judged_by
            rows = decode(part, OPTIONS.allowed_skew_ms, for_sink=True)
            found += [
                (int(part.offsets[rows.record[i]]), rows.sensor[i], float(rows.value[i]))
                for i in foreign(part, rows, position, owners)
            ]
        at = end
    return found


@pytest.mark.live
@settings(deadline=None, max_examples=100)
@given(edits(), cuttings)
def test_the_sink_leaves_out_what_the_engine_refuses(
    made: tuple[list[Record], RegistryLog], cuts: list[int]
) -> None:
    """However its chunks are cut and often it is restarted; what belongs elsewhere, the engine refuses there alone."""
    records, log = made
    told = feed(new_state(), records, log=log)
    refused = {offset for offset, _, reason in told.rejected if "is registered to device" in reason}
    elsewhere = {offset for offset, _ in told.moved}
    found = left_out(records, log, cuts)
    assert {offset for offset, *_ in found} - elsewhere == refused
    assert found == left_out(records, log, [])


def test_who_owns_what_is_the_same_in_whatever_order_it_is_asked_for() -> None:
    """Each position by itself, after those before and after it, and where more are asked for than are kept."""
    log = RegistryLog()
    for offset in range(60):
        device = (None, DEVICE, DEVICE.upper(), OTHER)[offset * 7 % 4]
        entry = None if offset % 9 == 8 else SensorEntry(HERE[offset % 3], device=device)
        log.append(offset, NOW, HERE[offset % 3], entry)
    alone = [dict(Owners(log).as_of(position)) for position in range(61)]
    assert {} in alone
    assert len({str(each) for each in alone}) > 5
    owners = Owners(log)
    for position in [*range(61), *range(60, -1, -1), *range(0, 61, 7)]:
        assert owners.as_of(position) == alone[position]


def test_a_record_sent_again_for_the_database_is_judged_by_its_first_time() -> None:
    """The engine has judged it then: what has changed hands since is stored all the same, and what was foreign is not."""
    log = RegistryLog()
    log.append(0, NOW, MINE, SensorEntry(MINE, device=DEVICE))
    log.append(1, NOW + 100, MINE, SensorEntry(MINE, device=OTHER))
    for first, device, wanted in (
        (NOW + 50, DEVICE, []),
        (NOW + 50, OTHER, [0]),
        (NOW + 150, DEVICE, [0]),
        (NOW - 50, OTHER, []),
    ):
        sent = chunk([packet(MINE, device=device, at=NOW), packet(MINE, device=DEVICE, at=NOW)])
        headers = {0: ((REDRIVEN, b"0:7:%d" % first), (LETTER, b"sink:1:0:3"))}
        again = Chunk(sent.topic, 0, sent.offsets, sent.timestamps + 200, sent.values, headers)
        readings = decode(again, OPTIONS.allowed_skew_ms, for_sink=True)
        assert foreign(again, readings, 2, Owners(log)) == [*wanted, 1]
        # By the engine's own words for the same reading, whatever it sees of the record.
        assert len(foreign_faults(again, readings, np.array([1]), Owners(log).as_of(2).get)) == 1
