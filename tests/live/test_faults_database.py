"""The database locked, read-only, full, gone, or refusing one row, under a real sink: it waits, and catches up."""

from __future__ import annotations

import json
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from streamproc.core.routing import home
from tests.live.oracle import PARTITIONS
from tests.live.pipeline import Pipeline, hour_ago, rows, running_pipeline, select
from tests.live.processes import Stage, eventually

AWAY = "database away, trying again"
#: Readings in a packet of `flood`; a record of 16 KB.
PACKET = 500


@pytest.fixture
async def line(bootstrap: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """A sink alone: what the worker makes is no concern here."""
    async with running_pipeline(bootstrap, tmp_path, "sink") as line:
        yield line


async def flood(line: Pipeline, readings: int, begin: int, first: int = 0) -> None:
    """Put so many readings, each of another time, on all partitions."""
    for number in range(first, first + readings, PACKET):
        device = f"device-{number // PACKET % 20}"
        items = [
            {"sensor_uuid": device, "value": 1.0, "ts": begin + (number + i) / 1000} for i in range(PACKET)
        ]
        body = json.dumps({"device_uuid": device, "readings": items}).encode()
        await line.producer.send(line.topic, body, partition=home(device, PARTITIONS))
    await line.producer.flush()


def stored(line: Pipeline) -> tuple[int, int]:
    """How many rows the database has, and how many different readings they are."""
    query = "SELECT count(*), count(DISTINCT sensor_id || '/' || device_timestamp) FROM sensor_readings"
    ((count, different),) = select(line.site, query)
    return count, different


async def until_stored(line: Pipeline, readings: int) -> None:
    """Wait until the sink has caught up; each reading is a row then, once."""
    await line.until_stored()
    assert stored(line) == (readings, readings)


@contextmanager
def locked(line: Pipeline) -> Iterator[None]:
    """Keep every other writer out, as a program does that forgets its transaction."""
    with closing(sqlite3.connect(line.site.database, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def until_waiting(sink: Stage, tries: int) -> None:
    """Wait until the sink has told so many times more that the database is away."""
    before = len(sink.told(AWAY))

    async def told() -> bool:
        return len(sink.told(AWAY)) >= before + tries

    await eventually(told)


@pytest.mark.timeout(300)
async def test_locked_while_half_a_million_readings_wait(line: Pipeline) -> None:
    """The sink tries less and less often, takes in no more than it can hold, and has each reading once afterwards."""
    (sink,) = line.site.stages
    begin = hour_ago() - 10_000
    await flood(line, 20_000, begin)
    await until_stored(line, 20_000)
    with locked(line):
        await flood(line, 240_000, begin, 20_000)
        await until_waiting(sink, 3)
        half = sink.memory_bytes()
        await flood(line, 240_000, begin, 260_000)
        await until_waiting(sink, 3)
        whole = sink.memory_bytes()
        assert stored(line) == (20_000, 20_000)
    pauses = [line["in_seconds"] for line in sink.told(AWAY)]
    assert max(pauses) > 4 * min(pauses)
    # It has stopped fetching: the second half is 15 MB of JSON, and costs nothing (measured: 110 MB before and after).
    assert whole - half < 8_000_000, (half, whole)
    await until_stored(line, 500_000)
    # Catching up, it holds the chunks of one turn and the rows of one transaction: 90 MB more (measured).
    assert sink.memory_bytes() < half + 150_000_000


@contextmanager
def read_only(line: Pipeline) -> Iterator[None]:
    """Have the header say that only later versions of SQLite may write: root must heed it, unlike a file's mode."""
    with closing(sqlite3.connect(line.site.database)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    written = header(line.site.database, b"\x03")
    yield
    header(line.site.database, written)


def header(database: Path, version: bytes) -> bytes:
    """Write byte 18 of the file, the write version; gives what was there."""
    with database.open("r+b") as file:
        file.seek(18)
        before = file.read(1)
        file.seek(18)
        file.write(version)
    return before


@contextmanager
def full(sink: Stage) -> Iterator[None]:
    """Let no file of the sink's grow beyond a MB: the disk is full for the database, and not for the sink's small log."""
    _, hard = resource.prlimit(sink.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(sink.pid, resource.RLIMIT_FSIZE, (1_000_000, hard))
    yield
    resource.prlimit(sink.pid, resource.RLIMIT_FSIZE, (hard, hard))


async def test_full(line: Pipeline) -> None:
    """Without room the sink waits and says so; with room it goes on, and nothing is missing or twice."""
    (sink,) = line.site.stages
    begin = hour_ago()
    with full(sink):
        await flood(line, 20_000, begin)
        await until_waiting(sink, 2)
        assert sum(stored(line)) < 40_000
    await until_stored(line, 20_000)


async def test_read_only(line: Pipeline) -> None:
    """A sink that is started on it waits and says so, and goes on once it may write."""
    (sink,) = line.site.stages
    begin = hour_ago()
    await flood(line, 1_000, begin)
    await until_stored(line, 1_000)
    assert (await sink.terminate())[0] == 0
    with read_only(line):
        sink = await line.site.start("sink")
        await flood(line, 1_000, begin, 1_000)
        await until_waiting(sink, 2)
        assert "readonly" in sink.told(AWAY)[-1]["reason"]
    await until_stored(line, 2_000)


async def test_taken_away_and_brought_back(line: Pipeline) -> None:
    """The sink ends with an error that says so; the next one writes all that Kafka has, into whichever file is there."""
    (sink,) = line.site.stages
    begin, aside = hour_ago(), line.site.directory / "aside"
    aside.mkdir()
    await flood(line, 1_000, begin)
    await until_stored(line, 1_000)
    move(line.site.database, aside)
    await flood(line, 1_000, begin, 1_000)
    assert await sink.ended() == 1
    assert "StaleOwner" in sink.log.read_text()
    sink = await line.site.sink()
    await until_stored(line, 2_000)
    move(line.site.database, line.site.directory / "discarded")
    move(aside / line.site.database.name, line.site.directory)
    await flood(line, 1_000, begin, 2_000)
    assert await sink.ended() == 1
    await line.site.sink()
    await until_stored(line, 3_000)


async def test_a_database_ahead_of_its_topic(line: Pipeline) -> None:
    """A topic that was made anew, or has lost records: the sink ends with an error, in place of skipping new records."""
    (sink,) = line.site.stages
    await flood(line, 1_000, hour_ago())
    await until_stored(line, 1_000)
    assert (await sink.terminate())[0] == 0
    with closing(sqlite3.connect(line.site.database)) as other, other:
        other.execute("UPDATE stream_offsets SET next_offset = next_offset + 100")
    sink = await line.site.start("sink")
    assert await sink.ended() == 1
    assert "the topic was made anew or has lost records" in sink.log.read_text()


def move(database: Path, folder: Path) -> None:
    """Move the file and what SQLite keeps beside it."""
    folder.mkdir(exist_ok=True)
    for suffix in ("", "-wal", "-shm"):
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.replace(folder / part.name)


async def test_one_refused_row_among_many(line: Pipeline) -> None:
    """It alone is a dead letter, with the database's own reason; all others are rows, once."""
    begin = hour_ago()
    await flood(line, 1_000, begin)
    await until_stored(line, 1_000)
    with closing(sqlite3.connect(line.site.database)) as other:
        other.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON sensor_readings WHEN NEW.value = 666"
            " BEGIN SELECT RAISE(ABORT, 'this reading is not wanted'); END"
        )
    await flood(line, 1_000, begin, 1_000)
    await line.send(
        "refused", ("refused", 1.0, begin), ("refused", 666.0, begin + 1), ("refused", 2.0, begin + 2)
    )
    await flood(line, 1_000, begin, 2_000)
    await until_stored(line, 3_002)
    assert [value for sensor, value, _ in rows(line.site) if sensor == "refused"] == [1.0, 2.0]
    await eventually(partial(line.letters))
    (letter,) = (await line.letters()).values()
    assert (letter.stage, letter.reason) == ("sink", "this reading is not wanted")
    assert json.loads(letter.payload or "")["readings"][0]["value"] == 666.0
