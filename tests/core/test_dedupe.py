"""Retries: known while they can change anything, and the memory of them bounded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core import dedupe
from streamproc.core.dedupe import HORIZON_MS, LIMIT, ReadingLog, RecentPackets
from streamproc.core.registry import RegistryLog
from streamproc.records import Range, SensorEntry, Severity
from tests.core.oracle import (
    ELSEWHERE,
    HERE,
    NOW,
    OPTIONS,
    Oracle,
    Reading,
    Record,
    Told,
    cuttings,
    feed,
    new_state,
    opened,
    registry,
    whole,
)
from tests.core.test_checkpoint import again, dirtied

DEVICE, SENSOR = HERE[9], HERE[1]
#: How long a reading is known at least, whose window stays open.
HORIZON = new_state().recent.horizon_ms
FIRST = Record(NOW, (Reading(SENSOR, 0.5, NOW - 5_000),))
#: Ways to be the same reading: by its time, by its packet, by its packet alone.
SAME = {
    "explicit ts": Record(NOW, (Reading(SENSOR, 1.5, NOW),)),
    "packet with ts": Record(NOW, (Reading(SENSOR, 1.5, NOW), Reading(SENSOR, 1.5, NOW)), DEVICE, "p"),
    "packet alone": Record(NOW, (Reading(SENSOR, 1.5), Reading(SENSOR, 1.5)), DEVICE, "p"),
    "sent on": Record(NOW, (Reading(SENSOR, 1.5),), sent_from=(1, 5, NOW - 9)),
}


def counted(told: Told) -> tuple[int, int]:
    """Readings that count, and retries."""
    return told.readings, told.duplicates


@pytest.mark.parametrize("sent", SAME.values(), ids=SAME)
@pytest.mark.parametrize("cuts", [[], [2], [1, 2, 3]], ids=["one chunk", "two", "each"])
def test_what_comes_again_counts_once(sent: Record, cuts: list[int]) -> None:
    """In the same chunk or a later one; the window has it once."""
    many = len(sent.readings)
    records = [FIRST, sent, replace(sent, timestamp=NOW + 1_900), replace(sent, timestamp=NOW + 1_999)]
    assert counted(feed(new_state(), records, cuts)) == (1 + many, 2 * many)


@pytest.mark.parametrize("sent", SAME.values(), ids=SAME)
def test_what_comes_again_after_a_restart_counts_once(sent: Record) -> None:
    """A checkpoint holds what is needed to know it."""
    state = new_state()
    feed(state, [FIRST, sent])
    told = feed(again(state), [FIRST, sent, replace(sent, timestamp=NOW + 1_900)])
    assert counted(told) == (0, len(sent.readings))


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("sent", SAME.values(), ids=SAME)
def test_a_retry_makes_no_second_event(sent: Record, restart: bool) -> None:
    """The sensor has recovered meanwhile: what comes again, late or by its `packet_id` alone, raises nothing."""
    log = RegistryLog()
    log.append(0, NOW - 1, SENSOR, SensorEntry(SENSOR, critical=Range(high=1.0)))
    calm = [Record(at, (Reading(SENSOR, 0.5, at),)) for at in range(NOW + 500, NOW + 20_000, 500)]
    state = new_state()
    before = feed(state, [sent, *calm], log=log)
    severities = [msgspec.json.decode(made)[0]["severity"] for made in before.events[SENSOR]]
    assert severities[0] == Severity.CRITICAL
    assert severities[-1] == Severity.NORMAL
    again_later = replace(sent, timestamp=NOW + HORIZON_MS)
    told = feed(again(state) if restart else state, [sent, *calm, again_later], log=log)
    assert not told.events
    assert told.duplicates + len(told.late.get(SENSOR, ())) == len(sent.readings)


def test_a_retry_of_what_is_closed_is_late() -> None:
    """Whether its first copy counted is not remembered that long; it counts no second time."""
    sent = SAME["explicit ts"]
    told = feed(new_state(), [sent, Record(NOW + 5_000, tick=True), replace(sent, timestamp=NOW + 5_000)])
    assert counted(told) == (2, 0)
    assert len(told.late[SENSOR]) == 1
    assert len(told.windows[SENSOR, 1_000]) == 1


def test_a_late_reading_is_late_each_time() -> None:
    """Whatever the log still holds: the answer must not hang on when it was swept."""
    for ts in (NOW - 60_000, 0):
        late = Record(NOW, (Reading(SENSOR, 1.0, ts),))
        for cuts in ([], [1, 2, 3]):
            told = feed(new_state(), [SAME["explicit ts"], late, late, late], cuts)
            assert (len(told.late[SENSOR]), told.duplicates) == (3, 0)


def test_readings_without_time_or_packet_are_each_their_own() -> None:
    """The same value in the same millisecond, twice."""
    one = Record(NOW, (Reading(SENSOR, 1.5),))
    assert counted(feed(new_state(), [one, one])) == (2, 0)


def test_others_are_no_retries() -> None:
    """Another value, time, sensor, packet, device or place in the packet."""
    rows = (Reading(SENSOR, 1.5), Reading(HERE[2], 1.5))
    told = feed(
        new_state(),
        [
            Record(NOW, rows, DEVICE, "p"),
            Record(NOW, rows, DEVICE, "q"),
            Record(NOW, rows, HERE[8], "p"),
            Record(NOW, rows[::-1], DEVICE, "p"),
            Record(NOW, (Reading(SENSOR, 1.5, NOW + 1), Reading(SENSOR, 2.5, NOW + 1)), DEVICE, "p"),
            Record(NOW, (Reading(SENSOR, 1.5, NOW - 1), Reading(SENSOR, 2.5, NOW + 1)), DEVICE, "p"),
            Record(NOW, (Reading(SENSOR, 1.5, NOW + 1),)),
            Record(NOW, (Reading(SENSOR, 1.25, NOW + 1),)),
        ],
    )
    assert counted(told) == (13, 1)


def test_the_first_second_of_1970_is_a_time() -> None:
    """Readings at ts 0 are not all one."""
    rows = [Record(NOW, (Reading(name, 1.0, 0),)) for name in HERE[:3]]
    assert counted(feed(new_state(), [*rows, rows[0]])) == (3, 1)


def test_a_packet_is_forgotten_after_its_horizon() -> None:
    """By the partition's clock when each record came, not when its chunk did."""
    sent = SAME["packet alone"]
    for after, repeated in ((HORIZON_MS, 2), (HORIZON_MS + 1, 0)):
        records = [sent, replace(sent, timestamp=NOW + after), Record(NOW + 2 * HORIZON_MS, tick=True)]
        assert feed(new_state(), records).duplicates == repeated


def test_what_belongs_elsewhere_is_not_remembered() -> None:
    """It is judged where it counts."""
    sent = Record(NOW, (Reading(SENSOR, 1.5),), ELSEWHERE[0], "p")
    here = replace(sent, sent_from=(1, 5, NOW - 9))
    told = feed(new_state(), [sent, sent, here, here])
    assert counted(told) == (1, 1)
    assert told.moved == [(0, 1), (1, 1)]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, HORIZON_MS)), max_size=40))
def test_packets_through_bytes(rows: list[tuple[int, int, int]]) -> None:
    """What is dumped and loaded knows the same, and dumps the same."""
    packets, clock = RecentPackets(), 0
    for block, key, wait in rows:
        clock += wait
        copy = RecentPackets()
        for number in (0, 1):
            copy.load(number, *packets.dump(number))
        assert copy.first_time(block, key, clock) == packets.first_time(block, key, clock)
        assert [column.tolist() for column in copy.dump(block)] == [
            column.tolist() for column in packets.dump(block)
        ]


def test_packets_are_bounded() -> None:
    """The oldest of a block go first; other blocks keep theirs."""
    packets = RecentPackets()
    assert packets.first_time(7, 1, 0)
    assert all(packets.first_time(0, key, 0) for key in range(LIMIT + 10))
    keys, _ = packets.dump(0)
    assert (len(keys), keys[0]) == (LIMIT, 10)
    assert packets.first_time(0, 9, 0)
    assert not packets.first_time(0, LIMIT, 0)
    assert not packets.first_time(7, 1, 0)


def test_the_log_of_readings_is_swept() -> None:
    """It holds no more than twice what is in open windows, and the last chunk."""
    state, held = new_state(), 0
    for second in range(30):
        ts = NOW + 1_000 * second
        rows = [Record(ts + i, (Reading(SENSOR, 1.0, ts + i),)) for i in range(1_000)]
        feed(state, [*[rows[0]] * state.next_offset, *rows])
        held = max(held, len(state.recent))
    assert held <= max(dedupe._SWEEP_AT, 2 * 3_000) + 1_000
    state.recent.settle(state.watermarks.closed)
    assert len(state.recent) == 2_000 + 1_000


def standing(seconds: int, values: int) -> list[Record]:
    """A reading a second of a device whose clock stands still, with so many values in turn."""
    return [
        Record(NOW + 1_000 * second, (Reading(SENSOR, float(second % values), NOW),))
        for second in range(seconds)
    ]


def test_a_clock_that_stands_still_fills_no_memory() -> None:
    """Nor checkpoints, though its window stays open; that has counted all when the clock goes on."""
    seconds = 3 * HORIZON // 1_000
    state, records = new_state(), standing(seconds, seconds)
    held = []
    for end in range(300, seconds + 1, 300):
        feed(state, records[:end], range(0, end, 70))
        held.append((len(state.recent), len(whole(state).blocks[0])))
    most = 2 * HORIZON // 1_000
    assert max(readings for readings, _ in held) <= most
    assert max(size for _, size in held) < 13 * most + 2_000
    told = feed(state, [*records, Record(NOW + 4 * HORIZON, tick=True)])
    assert [int(opened(row).count[0]) for row in told.windows[SENSOR, 1_000]] == [seconds]


@pytest.mark.parametrize(("after", "known"), [(HORIZON, True), (2 * HORIZON, False)])
@pytest.mark.parametrize("cuts", [(), range(0, 1_300, 7)], ids=["one chunk", "many"])
def test_of_a_clock_that_stands_still_a_retry_is_known_for_a_while(
    after: int, known: bool, cuts: Iterable[int]
) -> None:
    """For its horizon at least, and not after twice of it: each comes again after so long."""
    first = after // 1_000
    told = feed(new_state(), standing(first + 90, first), cuts)
    assert counted(told) == ((first, 90) if known else (first + 90, 0))


#: Windows of these stay open for long: a few records are hours.
PATIENT = replace(OPTIONS, allowed_lateness_ms=600_000)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from((0, 1_000, 300_000, 600_000)), st.integers(0, 3), st.integers(0, 2)),
        max_size=30,
    ),
    cuttings,
    st.integers(0, 30),
)
def test_clocks_that_stand_still_are_counted_as_the_oracle_does(
    steps: list[tuple[int, int, int]], cuts: list[int], at: int
) -> None:
    """However the records are cut, and restored anywhere."""
    records, clock = list[Record](), NOW
    for wait, value, sensor in steps:
        clock += wait
        records.append(Record(clock, (Reading(HERE[sensor], float(value), NOW),)))
    oracle, state = Oracle(PATIENT), new_state(PATIENT)
    oracle.run(records)
    before = feed(state, records[:at], cuts)
    copy = again(state)
    told = feed(copy, records, cuts)
    assert feed(state, records) == told
    assert whole(dirtied(copy)) == whole(dirtied(state))
    assert before.duplicates + told.duplicates == oracle.duplicates
    assert before.readings + told.readings + oracle.duplicates == oracle.accepted


def test_what_has_no_time_of_its_own_fills_no_memory() -> None:
    """It comes again under another time, so nothing would ever look for it: a flood of it is nothing to remember."""
    state = new_state()
    rows = [
        Record(NOW, (Reading(SENSOR, 1.5), Reading(HERE[2], 2.5)), DEVICE, packet_id)
        for packet_id in (None, "p")
    ]
    told = feed(state, [Record(NOW, (Reading(SENSOR, 1.5),)), *rows, *rows])
    assert (counted(told), len(state.recent)) == ((7, 2), 0)
    feed(state, [SAME["explicit ts"]] * (state.next_offset + 1))
    assert len(state.recent) == 1


@pytest.mark.parametrize("cuts", [[], [1]], ids=["one chunk", "two"])
def test_what_was_refused_in_part_and_sent_again_counts_once(cuts: list[int]) -> None:
    """A record's dead letter is sent again under its first place and time: what counted of it then is known."""
    owned = registry(SensorEntry(HERE[2], device=HERE[8]))
    sent = Record(NOW, (Reading(SENSOR, 1.5), Reading(HERE[2], 2.5)), DEVICE)
    told = feed(new_state(), [sent, replace(sent, sent_from=(0, 0, NOW))], cuts, owned)
    assert (counted(told), len(told.rejected)) == ((1, 1), 2)


@given(st.lists(st.tuples(st.lists(st.integers(0, 60), max_size=9), st.integers(0, 2)), max_size=12))
def test_the_log_knows_what_was_added(steps: list[tuple[list[int], int]]) -> None:
    """However much was added between two looks, and whatever of it was kept."""
    log, held = ReadingLog(), list[int]()
    every = np.arange(60, dtype=np.int64)
    for keys, way in steps:
        column = np.array(keys, dtype=np.int64)
        log.add(column % 4, column, column)
        held += keys
        if way == 1:
            log.keep(log.key[: len(log)] % 3 > 0)
            held = [key for key in held if key % 3]
        if way != 2:
            assert np.flatnonzero(log.has(every)).tolist() == sorted({key for key in held if key < 60})


def test_the_log_is_in_one_order_when_settled() -> None:
    """By slot and as they came, however the chunks brought the sensors together."""
    closed = np.array([5, 5], dtype=np.int64)
    rows = np.array([[0, 9, 3], [1, 7, 2], [0, 6, 1], [0, 4, 8], [0, 6, 0]], dtype=np.int64)
    for order in (rows, rows[[0, 2, 3, 4, 1]], rows[[1, 0, 2, 3, 4]]):
        log = ReadingLog()
        for row in order:
            log.add(*row.reshape(3, 1))
        log.settle(closed)
        held = np.array([log.slot, log.ts, log.key]).T[: len(log)]
        assert held.tolist() == [[0, 9, 3], [0, 6, 1], [0, 6, 0], [1, 7, 2]]
