"""Sensors: their slots, and the partitions that they belong to."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core import sensors as core_sensors
from streamproc.core.identity import seed
from streamproc.core.sensors import BLOCK, FOREIGN, Sensors
from streamproc.records import SensorEntry
from tests.core.oracle import ELSEWHERE, HERE, NOW, Reading, Record, feed, new_state, opened


def found(sensors: Sensors, names: list[str], offset: int = 0, device: str | None = None) -> list[int]:
    """The slots of sensors that come in records from this offset on."""
    offsets = np.arange(offset, offset + len(names), dtype=np.int64)
    slots: list[int] = sensors.find(names, [device] * len(names), offsets, None).tolist()
    return slots


def test_slots_are_given_in_order() -> None:
    """And kept; seeds stand beside them."""
    sensors = Sensors(0, 2)
    assert found(sensors, [HERE[3], HERE[1], HERE[3]]) == [0, 1, 0]
    assert found(sensors, [HERE[0], HERE[1]]) == [2, 1]
    assert sensors.names == [HERE[3], HERE[1], HERE[0]]
    assert sensors.seeds[:3].tolist() == [seed(name) for name in sensors.names]
    assert (sensors.slot_of(HERE[0]), sensors.slot_of("?")) == (2, None)


def test_a_device_decides_where_a_sensor_belongs() -> None:
    """Its own in the record, else the registry's, else the sensor's name."""
    sensors = Sensors(0, 2)
    assert found(sensors, [ELSEWHERE[0]]) == [-2]
    assert found(sensors, [ELSEWHERE[0]], device=HERE[0]) == [0]
    assert found(sensors, [HERE[0]], device=ELSEWHERE[0]) == [-2]
    assert found(sensors, [ELSEWHERE[0]]) == [-2]
    sensors.entries = {ELSEWHERE[0]: SensorEntry(ELSEWHERE[0], device=HERE[0].upper())}
    assert found(sensors, [ELSEWHERE[0]]) == [-2]
    sensors.edit(ELSEWHERE[0], sensors.entries[ELSEWHERE[0]])
    assert found(sensors, [ELSEWHERE[0]]) == [0]


def test_who_names_itself_anew_each_time_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sensor that ever more devices name is found all the same, here and elsewhere, and moves with its entry."""
    monkeypatch.setattr(core_sensors, "DEVICES", 10)
    monkeypatch.setattr(core_sensors, "HOMES", 10)
    sensors = Sensors(0, 2)
    for device in [*HERE[:50], *HERE[:50]]:
        assert found(sensors, ["s", "t"], device=device) == [0, 1]
    for device in [*ELSEWHERE[:50], *ELSEWHERE[:50]]:
        assert found(sensors, ["s"], device=device) == [-2]
    assert len(sensors._aliases) == 2 * 10
    assert len(sensors._homes) <= 10
    sensors.entries = {"s": SensorEntry("s", device=HERE[0])}
    sensors.edit("s", sensors.entries["s"])
    assert len(sensors._aliases) == 10
    assert [found(sensors, ["s"], device=device)[0] for device in HERE[:3]] == [0, FOREIGN, FOREIGN]


def test_a_free_slot_is_given_to_who_had_it() -> None:
    """Records read again name sensors in the order that they were first named in."""
    sensors = Sensors(0, 2)
    sensors.put(HERE[0])
    while len(sensors) < BLOCK:
        sensors.put(None)
    sensors.put(HERE[1])
    sensors.block_next = [10, 50]
    assert found(sensors, [HERE[2], HERE[1], HERE[3]], offset=10) == [1, BLOCK, 2]
    assert sensors.fresh == [0, BLOCK, 1, 2]
    assert sensors.seeds[1] == seed(HERE[2])


def test_a_block_from_beyond_takes_no_new_sensor() -> None:
    """It has seen all of its own: a sensor that it lacks goes to a later block, and later ones to what is left free."""
    sensors = Sensors(0, 2)
    sensors.put(HERE[0])
    sensors.block_next = [50]
    assert found(sensors, [HERE[1], HERE[2]], offset=49) == [BLOCK, 1]


@pytest.mark.parametrize("cuts", [[], [1], [2], [1, 2, 3]])
def test_what_belongs_elsewhere_is_told_once(cuts: list[int]) -> None:
    """Each record once, whatever it holds, with its partition; nothing of it counts here."""
    rows = (Reading(HERE[0], 1.0), Reading(HERE[1], 2.0, NOW + 99_000), Reading(HERE[1], 2.0))
    records = [
        Record(NOW, rows, ELSEWHERE[0]),
        Record(NOW, (Reading(ELSEWHERE[1], 1.0),)),
        Record(NOW, rows, HERE[2]),
        Record(NOW, rows, ELSEWHERE[0]),
    ]
    state = new_state()
    told = feed(state, records, cuts)
    assert told.moved == [(0, 1), (1, 1), (3, 1)]
    assert told.readings == 2
    assert state.sensors.names == [HERE[0], HERE[1]]
    assert [offset for offset, *_ in told.rejected] == [2]


def test_what_was_sent_on_counts_where_it_is() -> None:
    """Even where this partition would send it elsewhere; the sensor's other records still go there."""
    plain = Record(NOW, (Reading(ELSEWHERE[1], 1.0, NOW),))
    sent = Record(NOW, plain.readings, sent_from=(1, 4, NOW))
    for cuts in ([], [1, 2]):
        state = new_state()
        told = feed(state, [sent, Record(NOW, (Reading(HERE[0], 1.0),)), plain, sent], cuts)
        assert (told.readings, told.duplicates, told.moved) == (2, 1, [(2, 1)])
        assert state.sensors.names == [ELSEWHERE[1], HERE[0]]


@pytest.mark.parametrize(
    "record",
    [
        Record(NOW, tick=True),
        Record(NOW),
        Record(NOW, body=b"{"),
        Record(NOW, body=b'{"device_uuid":"d","readings":[]}'),
        Record(NOW, (Reading(ELSEWHERE[0], 1.0),)),
        Record(NOW, (Reading(HERE[0], 1.0, NOW + 99_000),)),
    ],
    ids=["tick", "null", "broken", "empty packet", "misplaced", "too early"],
)
def test_chunks_without_readings_are_taken(record: Record) -> None:
    """First of all and later."""
    state = new_state()
    assert feed(state, [record]).readings == 0
    late = [record, Record(NOW, (Reading(HERE[0], 1.0, NOW),)), record]
    assert feed(state, late, [2]).readings == 1
    assert state.next_offset == 3


def test_a_chunk_of_late_readings_alone_is_taken() -> None:
    """Nothing is in a window."""
    records = [
        Record(NOW, (Reading(HERE[0], 1.0, NOW),)),
        *[Record(NOW, (Reading(HERE[0], 1.0, NOW - 9_000),))] * 2,
    ]
    told = feed(new_state(), records, [1])
    assert (len(told.late[HERE[0]]), told.readings) == (2, 3)


def test_more_sensors_than_sixteen_bits_can_number_are_told_apart() -> None:
    """The last ones' slots are those of the first ones, less what 16 bits cannot hold."""
    state = new_state()
    for i in range(2**16 + 8):
        state.sensors.put(f"s{i}")
    rows = [Reading(f"s{i}", float(i), NOW) for i in (0, 2**16, 1, 2**16 + 1)]
    told = feed(state, [Record(NOW, tuple(rows), HERE[0]), Record(NOW + 60_000, tick=True)])
    assert told.readings == 4
    for row in rows:
        (window,) = told.windows[row.sensor, 1_000]
        assert opened(window).first[0] == row.value
