"""The database locked, refusing one row, or left by a killed sink within a transaction: each reading is a row, once.

On SQLite's file, and on a server that speaks T-SQL where there is one. What only one of them can do to a sink is in
test_faults_sqlite and test_faults_sqlserver.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from streamproc.settings.connection import Connection
from tests.live.databases import HALT, Disturbed, Server
from tests.live.flood import AWAY, PACKET, flood, stored, until_stored, until_waiting
from tests.live.pipeline import Pipeline, hour_ago, pipeline_on, rows
from tests.live.processes import eventually


@pytest.fixture
async def line(bootstrap: Connection, held: Disturbed, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """A sink alone: what the worker makes is no concern here. By its name the next one takes its partitions at once."""
    one = {"STREAMPROC_GROUP_INSTANCE_ID": "s"}
    async with pipeline_on(held, bootstrap, tmp_path, "sink", **one) as line:
        yield line


@pytest.mark.timeout(600)
async def test_locked_while_very_many_readings_wait(line: Pipeline, held: Disturbed) -> None:
    """The sink tries less and less often, takes in no more than it can hold, and has each reading once afterwards."""
    (sink,) = line.site.stages
    # Of 500,000 a T-SQL server has its rows on two cores in minutes.
    half = 50_000 if isinstance(held, Server) else 240_000
    begin = hour_ago() - 10_000
    await flood(line, 20_000, begin)
    await until_stored(line, 20_000)
    with held.locked():
        await flood(line, half, begin, 20_000)
        await until_waiting(sink, 3)
        before = sink.memory_bytes()
        await flood(line, half, begin, 20_000 + half)
        await until_waiting(sink, 3)
        after = sink.memory_bytes()
        assert stored(line) == (20_000, 20_000)
    told = sink.told(AWAY)
    assert {line["code"] for line in told} == {"locked"}
    pauses = [line["in_seconds"] for line in told]
    assert max(pauses) > 4 * min(pauses)
    # It has stopped fetching: the second half is 15 MB of JSON, and costs nothing (measured: 110 MB before and after).
    assert after - before < 8_000_000, (before, after)
    await until_stored(line, 20_000 + 2 * half)
    # Catching up, it holds the chunks of one turn and the rows of one transaction: 90 MB more (measured).
    assert sink.memory_bytes() < before + 150_000_000


async def test_killed_between_rows_and_commit(line: Pipeline, held: Disturbed) -> None:
    """Thrice: nothing of the transaction is there, and the next sink has each of its rows once, and goes on."""
    (sink,) = line.site.stages
    begin, there = hour_ago(), PACKET
    await flood(line, there, begin)
    await until_stored(line, there)
    for _ in range(3):
        async with held.halted() as reached:
            await flood(line, 4 * PACKET, begin, there, HALT)
            await reached()
            sink.kill()
            assert await sink.ended() == -9
        assert stored(line) == (there, there)
        sink = await line.site.sink()
        there += 4 * PACKET
        await until_stored(line, there)


async def test_a_database_ahead_of_its_topic(line: Pipeline, held: Disturbed) -> None:
    """A topic that was made anew, or has lost records: the sink ends with an error, in place of skipping new records."""
    (sink,) = line.site.stages
    await flood(line, 1_000, hour_ago())
    await until_stored(line, 1_000)
    assert (await sink.terminate())[0] == 0
    held.execute("UPDATE stream_offsets SET next_offset = next_offset + 100")
    sink = await line.site.start("sink")
    assert await sink.ended() == 1
    assert "the topic was made anew or has lost records" in sink.log.read_text()


async def test_one_refused_row_among_many(line: Pipeline, held: Disturbed) -> None:
    """It alone is a dead letter, with the database's own reason; all others are rows, once."""
    begin = hour_ago()
    await flood(line, 1_000, begin)
    await until_stored(line, 1_000)
    held.refuse(666.0)
    await flood(line, 1_000, begin, 1_000)
    await line.send(
        "refused", ("refused", 1.0, begin), ("refused", 666.0, begin + 1), ("refused", 2.0, begin + 2)
    )
    await flood(line, 1_000, begin, 2_000)
    await until_stored(line, 3_002)
    assert [value for sensor, value, _ in rows(line.site) if sensor == "refused"] == [1.0, 2.0]
    await eventually(partial(line.letters))
    (letter,) = (await line.letters()).values()
    assert letter.stage == "sink"
    assert "this value is not wanted" in letter.reason
    assert json.loads(letter.payload or "")["readings"][0]["value"] == 666.0
