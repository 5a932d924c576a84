"""Event time: each sensor's own, and the partition's clock where a sensor is silent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.watermarks import Runs
from streamproc.core.windows import SIZES_MS
from tests.core.oracle import HERE, NOW, Reading, Record, Told, feed, new_state, opened

A, B, C = HERE[1:4]


def at(sensor: str, ts: int, timestamp: int, value: float = 1.0) -> Record:
    """A reading of this time (ms after NOW), in a record of that time."""
    return Record(NOW + timestamp, (Reading(sensor, value, NOW + ts),))


def tick(timestamp: int) -> Record:
    """A tick (ms after NOW)."""
    return Record(NOW + timestamp, tick=True)


def starts(told: Told, sensor: str, size_ms: int = 1_000) -> list[int]:
    """Where the closed windows begin, in ms after NOW."""
    return [int(opened(row).start[0]) - NOW for row in told.windows.get((sensor, size_ms), [])]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-50, 50)), max_size=30))
def test_runs_are_each_sensors_own(rows: list[tuple[int, int]]) -> None:
    """Running maxima and shifts begin anew with each sensor."""
    rows = sorted(rows, key=lambda row: row[0])
    slot, column = (
        np.array([s for s, _ in rows], dtype=np.int64),
        np.array([x for _, x in rows], dtype=np.int64),
    )
    runs = Runs.of(slot)
    assert runs.sensors.tolist() == sorted(set(slot.tolist()))
    highest, shifted, last = [], [], []
    for sensor in runs.sensors.tolist():
        own = [x for s, x in rows if s == sensor]
        highest += [max(own[: i + 1]) for i in range(len(own))]
        shifted += [1_000 + sensor, *own[:-1]]
        last.append(own[-1])
    assert runs.highest(column).tolist() == highest
    assert runs.shifted(column, runs.sensors + 1_000).tolist() == shifted
    assert runs.last(column).tolist() == last


def test_a_window_closes_when_its_end_is_the_lateness_ago() -> None:
    """By the sensor's newest reading, to the millisecond."""
    assert starts(feed(new_state(), [at(A, 500, 0), at(A, 2_999, 0)]), A) == []
    assert starts(feed(new_state(), [at(A, 500, 0), at(A, 3_000, 0)]), A) == [0]


def test_what_comes_after_its_window_is_late() -> None:
    """It changes no window, and tells by how much."""
    told = feed(new_state(), [at(A, 500, 0), at(A, 3_000, 0), at(A, 1_000, 0), at(A, 999, 0), tick(60_000)])
    assert starts(told, A) == [0, 1_000, 3_000]
    assert [int(opened(row).count[0]) for row in told.windows[A, 10_000]] == [3]
    assert b'"late_by_ms":1,' in told.late[A][0]
    assert b'"offset":3' in told.late[A][0]
    assert len(told.late[A]) == 1


def test_history_of_one_sensor_moves_no_other() -> None:
    """A day of it, and a clock that is ahead as far as it may be."""
    told = feed(
        new_state(),
        [
            at(A, 0, 0),
            *(at(B, -86_400_000 + 100 * i, 1) for i in range(300)),
            at(C, 59_000, 1),
            at(A, 900, 2),
            at(A, 100, 3),
        ],
    )
    assert not told.late
    assert starts(told, A) == starts(told, C) == []
    assert len(starts(told, B)) == 27


def test_a_first_reading_is_never_late() -> None:
    """However old it is."""
    told = feed(new_state(), [at(A, 0, 0), at(B, -86_400_000, 10_000), at(C, -1, 20_000)])
    assert not told.late


def test_a_silent_sensors_window_closes_by_the_partitions_clock() -> None:
    """By other sensors' records or by ticks: its time goes on from its last reading."""
    for other in (tick(2_000), at(B, 0, 2_000)):
        state = new_state()
        assert starts(feed(state, [at(A, 1_000, 0)]), A) == []
        assert starts(feed(state, [at(A, 1_000, 0), other]), A) == []
    for other in (tick(3_000), at(B, 0, 3_000)):
        assert starts(feed(new_state(), [at(A, 1_000, 0), other]), A) == [1_000]


def test_silence_makes_nothing_late_that_comes_in_a_new_window() -> None:
    """A sensor that stumbles for less than 12 s goes on in the next second."""
    told = feed(new_state(), [at(A, 1_200, 0), tick(11_900), at(A, 1_900, 11_900), at(A, 2_000, 11_900)])
    assert [len(rows) for rows in told.late.values()] == [1]
    assert b'"ts":%d' % (NOW + 1_900) in told.late[A][0]


def test_a_sensor_that_is_gone_leaves_no_window_open() -> None:
    """After 10 s and the lateness all sizes are closed, and what comes then is in new ones."""
    state = new_state()
    records = [at(A, 11_200, 0), tick(11_999)]
    told = feed(state, records)
    assert [starts(told, A, size) for size in SIZES_MS] == [[11_000], [], []]
    records.append(tick(12_000))
    told = feed(state, records)
    assert [starts(told, A, size) for size in SIZES_MS] == [[], [10_000], [10_000]]
    assert all((size.rows.start < 0).all() for size in state.open)
    records += [at(A, 19_999, 12_000), at(A, 20_000, 12_000)]
    assert len(feed(state, records).late[A]) == 1


def test_a_retry_is_a_sign_of_life() -> None:
    """A device that sends again is not silent."""
    told = feed(new_state(), [at(A, 1_000, 0), at(A, 1_000, 1_500), tick(3_400)])
    assert (starts(told, A), told.duplicates) == ([], 1)


def test_a_clock_that_steps_back_moves_nothing() -> None:
    """The partition's clock is the greatest so far."""
    records = [at(A, 1_000, 5_000), tick(0), at(A, 1_100, 1_000), tick(7_899)]
    assert starts(feed(new_state(), records), A) == []
    assert starts(feed(new_state(), [*records, tick(7_900)]), A) == [1_000]


@pytest.mark.parametrize(("ahead", "rejected"), [(60_000, 0), (60_001, 1)])
def test_a_reading_from_the_future_is_rejected(ahead: int, rejected: int) -> None:
    """It moves no watermark and takes no slot."""
    state = new_state()
    told = feed(state, [at(A, ahead, 0)])
    assert len(told.rejected) == rejected
    assert len(state.sensors) == 1 - rejected


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(0, 20_000), unique=True, min_size=1, max_size=25),
    st.lists(st.integers(0, 2_000), min_size=25, max_size=25),
)
def test_order_within_the_lateness_changes_no_window(stamps: list[int], delays: list[int]) -> None:
    """Each reading comes at most 2 s after its sensor's newest: windows are as if all had come in time."""
    delayed = sorted(zip(stamps, delays, strict=False), key=lambda row: row[0] + row[1])
    ways = []
    for order in (sorted(stamps), [stamp for stamp, _ in delayed]):
        told = feed(new_state(), [*(at(A, ts, 0, ts / 7) for ts in order), tick(60_000)])
        assert not told.late
        rows = {size: [opened(row) for row in told.windows[A, size]] for size in SIZES_MS}
        ways.append(rows)
    for size in SIZES_MS:
        assert sum(int(row.count[0]) for row in ways[0][size]) == len(stamps)
        for one, other in zip(ways[0][size], ways[1][size], strict=True):
            for name in ("start", "count", "min", "max", "first", "last", "time_sum", "time_square"):
                assert getattr(one, name) == getattr(other, name)
            total = [row.shift * row.count + row.value_sum for row in (one, other)]
            assert total[0] == pytest.approx(total[1])
