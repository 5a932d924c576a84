"""Readings whose time is not what it should be, through worker and sink, beside rows and windows worked out by hand.

Each test has a device of its own; a sensor's readings move no other sensor's windows, so they share the processes.
The allowed lateness is 1 s, the allowed skew 60 s. Windows are told as (size, start): (count, mean, minimum, maximum).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import time

import pytest
import pytest_asyncio

from streamproc.settings.connection import Connection
from tests.live.oracle import found
from tests.live.pipeline import Pipeline, Sent, device_in, hour_ago, running_pipeline
from tests.live.processes import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(bootstrap: Connection, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pipeline]:
    """One worker and one sink for all tests here."""
    async with running_pipeline(bootstrap, tmp_path_factory.mktemp("time")) as line:
        yield line


def at(begin: int, *windows: tuple[int, int, tuple[float, ...]]) -> dict[tuple[int, int], tuple[float, ...]]:
    """Windows of (size, start after `begin`, numbers) as the pipeline tells them."""
    return {(size, begin + start): numbers for size, start, numbers in windows}


async def test_late_and_out_of_order(line: Pipeline) -> None:
    """Out of order within the lateness counts; beyond it the reading is a row, told as late, and in no window."""
    t = hour_ago()
    readings = [("late", 1.0, t + 0.5), ("late", 2.0, t + 1.5), ("late", 4.0, t + 3.25)]
    behind = [("late", 8.0, t + 2.5), ("late", 100.0, t + 1.75)]  # windows are closed up to 2 s by now
    closing = [("late", 0.0, t + 20.0)]
    await line.send("late", *readings, *behind, *closing)
    assert await line.windows("late", t) == at(
        t,
        *((1, 0, (1, 1.0, 1.0, 1.0)), (1, 1, (1, 2.0, 2.0, 2.0)), (1, 2, (1, 8.0, 8.0, 8.0))),
        *((1, 3, (1, 4.0, 4.0, 4.0)), (5, 0, (4, 3.75, 1.0, 8.0)), (10, 0, (4, 3.75, 1.0, 8.0))),
    )
    assert await line.late("late", 1) == [(100.0, 250)]
    assert len(await line.rows("late")) == 6


async def test_equal_stamps(line: Pipeline) -> None:
    """Of one time, other values are other readings; the same value is the same reading, and counts once."""
    t = hour_ago()
    await line.send("equal", *(("equal", value, t + 0.5) for value in (1.0, 2.0, 1.0, 6.0, 6.0)))
    await line.send("equal", ("equal", 0.0, t + 20.0))
    numbers = (3, 3.0, 1.0, 6.0)
    assert await line.windows("equal", t) == at(t, (1, 0, numbers), (5, 0, numbers), (10, 0, numbers))
    assert [value for _, value, stamp in await line.rows("equal") if stamp == t * 1000 + 500] == [
        1.0,
        2.0,
        6.0,
    ]


async def test_beyond_the_skew(line: Pipeline) -> None:
    """It is a dead letter that says by how much, no row, and does not move its sensor's time."""
    t = hour_ago()
    await line.send("ahead", ("ahead", 1.0, t + 0.5), ("ahead", 9.0, time() + 120), ("ahead", 2.0, t + 0.6))
    await line.send("ahead", ("ahead", 0.0, t + 20.0))
    numbers = (2, 1.5, 1.0, 2.0)
    assert await line.windows("ahead", t) == at(t, (1, 0, numbers), (5, 0, numbers), (10, 0, numbers))
    (letter,) = (await eventually(line.letters)).values()
    assert "ms ahead of its record" in letter.reason
    assert sorted(value for _, value, _ in await line.rows("ahead")) == [0.0, 1.0, 2.0]


async def test_early_within_the_skew(line: Pipeline) -> None:
    """It counts, and makes its own sensor's earlier readings late, but not another sensor's of the same device."""
    now = int(time()) // 10 * 10
    t = now + 30
    await line.send("early", ("early", 5.0, t + 0.5), ("early", 1.0, now), ("beside", 1.0, now))
    await line.send("early", ("early", 0.0, t + 20.0), ("beside", 0.0, now + 20.0))
    assert (await line.windows("early", t))[1, t] == (1, 5.0, 5.0, 5.0)
    assert (await line.windows("beside", now))[1, now] == (1, 1.0, 1.0, 1.0)
    assert [value for value, _ in await line.late("early", 1)] == [1.0]
    assert await line.late("beside") == []
    assert len(await line.rows("early", "beside")) == 5


async def test_a_device_that_uploads_yesterday(line: Pipeline) -> None:
    """Its windows of yesterday are whole, and so are those of today of another sensor on it, amid the upload."""
    today = hour_ago()
    yesterday = today - 86_400
    # One batch: were there ten seconds between two of them, silence would close what they are to be counted in.
    mixed: list[Sent] = []
    for second in range(12):
        mixed += [
            ("live", float(second), today + second + 0.5),
            ("old", float(-second), yesterday + second + 0.5),
        ]
    await line.send("uploads", *mixed, ("live", 0.0, today + 20.0), ("old", 0.0, yesterday + 20.0))
    for sensor, begin, sign, numbers in (
        ("live", today, 1, (10, 4.5, 0.0, 9.0)),
        ("old", yesterday, -1, (10, -4.5, -9.0, 0.0)),
    ):
        windows = await line.windows(sensor, begin)
        assert windows[10, begin] == numbers
        seconds = range(10)
        assert [windows[1, begin + second][:2] for second in seconds] == [(1, sign * s) for s in seconds]
        assert await line.late(sensor) == []
    assert len(await line.rows("live", "old")) == 26


async def test_a_clock_that_jumps_back_an_hour_and_goes_on(line: Pipeline) -> None:
    """While it is behind, its readings are rows and late; where it goes on, they count again; no window changes."""
    t = hour_ago()
    before = [("jumps", 1.0, t + 0.5), ("jumps", 2.0, t + 1.5)]
    behind = [("jumps", 50.0, t - 3_600 + 2.5), ("jumps", 60.0, t - 3_600 + 3.5)]
    after = [("jumps", 3.0, t + 2.5), ("jumps", 0.0, t + 20.0)]
    await line.send("jumps", *before, *behind, *after)
    assert await line.windows("jumps", t) == at(
        t,
        *((1, 0, (1, 1.0, 1.0, 1.0)), (1, 1, (1, 2.0, 2.0, 2.0)), (1, 2, (1, 3.0, 3.0, 3.0))),
        *((5, 0, (3, 2.0, 1.0, 3.0)), (10, 0, (3, 2.0, 1.0, 3.0))),
    )
    assert await line.late("jumps", 2) == [(50.0, 3_597_500), (60.0, 3_596_500)]
    assert len(await line.rows("jumps")) == 6


async def test_a_silent_sensor_beside_a_busy_one(line: Pipeline) -> None:
    """Its windows are closed by the others' records: of each size one, soon after the lateness and the longest window."""
    device, t = device_in(2), time()
    start = int(t) // 10 * 10
    await line.send(device, ("silent", 7.0, t))

    async def closed() -> bool:
        await line.send(device, ("busy", 1.0, time()))
        return ("silent", 10_000, start * 1000) in (await found(line.reader)).windows

    await eventually(closed)
    windows = await line.windows("silent", start)
    assert windows == {(size, int(t) // size * size): (1, 7.0, 7.0, 7.0) for size in (1, 5, 10)}
    await line.until_settled()
