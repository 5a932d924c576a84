"""SQLite's file read-only, full or gone, under a real sink: it waits or ends, and nothing is missing or twice afterwards."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from streamproc.settings.connection import Connection
from tests.live.flood import AWAY, flood, stored, until_stored, until_waiting
from tests.live.pipeline import Pipeline, hour_ago, running_pipeline
from tests.live.processes import Stage


@pytest.fixture
async def line(bootstrap: Connection, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """A sink alone: what the worker makes is no concern here."""
    async with running_pipeline(bootstrap, tmp_path, "sink") as line:
        yield line


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


def move(database: Path, folder: Path) -> None:
    """Move the file and what SQLite keeps beside it."""
    folder.mkdir(exist_ok=True)
    for suffix in ("", "-wal", "-shm"):
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.replace(folder / part.name)
