"""A T-SQL server away, in a deadlock, or lost within a commit, under a real sink: it goes on, each reading is a row, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from streamproc.process import CUT_SHORT
from streamproc.settings.connection import Connection
from streamproc.store.sqlserver import driver
from tests.live.databases import Server, server
from tests.live.flood import AWAY, flood, stored, until_stored, until_waiting
from tests.live.pipeline import Pipeline, hour_ago, pipeline_on
from tests.live.processes import Stage, eventually
from tests.slowness import in_time
from tests.store.tsql import dsn, on_a_server
from tests.store.wire import Fault

pytestmark = on_a_server

#: How errors tell that a lock was not had in time, and that a transaction was the victim of a deadlock.
_LOCKED, _DEADLOCK = "(1222)", "(1205)"


@pytest.fixture
async def held() -> AsyncIterator[Server]:
    """The database, and the wire to it."""
    async with server() as there:
        yield there


@pytest.fixture
async def line(bootstrap: Connection, held: Server, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """A sink alone: what the worker makes is no concern here. By its name the next one takes its partitions at once."""
    one = {"STREAMPROC_GROUP_INSTANCE_ID": "s"}
    async with pipeline_on(held, bootstrap, tmp_path, "sink", **one) as line:
        yield line


def codes(sink: Stage) -> set[str]:
    """Why the sink has had to wait so far."""
    return {line["code"] for line in sink.told(AWAY)}


@pytest.mark.timeout(600)
async def test_away_for_a_while(line: Pipeline, held: Server) -> None:
    """Twice in the midst of readings: the sink says so, tries on, and logs in again once it can."""
    (sink,) = line.site.stages
    begin = hour_ago()
    await flood(line, 1_000, begin)
    await until_stored(line, 1_000)
    for first in (1_000, 11_000):
        await flood(line, 5_000, begin, first)
        held.wire.cut()
        await flood(line, 5_000, begin, first + 5_000)
        await until_waiting(sink, 2)  # the driver itself tries to log in for 15 s
        held.wire.mend()
        await until_stored(line, first + 10_000)
    assert codes(sink) <= {"connection_lost", "cannot_open"}
    assert (await sink.terminate())[0] == 0


@pytest.mark.timeout(600)
async def test_away_at_the_start(line: Pipeline, held: Server) -> None:
    """A sink that is started meanwhile waits and says so, for longer than a request to Kafka may take, and reads on."""
    (sink,) = line.site.stages
    begin = hour_ago()
    await flood(line, 1_000, begin)
    await until_stored(line, 1_000)
    assert (await sink.terminate())[0] == 0
    held.wire.cut()
    await flood(line, 1_000, begin, 1_000)
    sink = await line.site.start("sink")
    await until_waiting(sink, 4)  # 15 s each
    assert codes(sink) == {"cannot_open"}
    held.wire.mend()
    await until_stored(line, 2_000)
    assert (await sink.terminate())[0] == 0


async def test_it_can_be_stopped_while_the_server_is_away(line: Pipeline, held: Server) -> None:
    """In time, though a login is under way; the next one has all that this one has not."""
    (sink,) = line.site.stages
    begin = hour_ago()
    held.wire.cut()
    await flood(line, 1_000, begin)
    await until_waiting(sink, 1)
    code, seconds = await sink.terminate()
    assert code in (0, CUT_SHORT)
    assert in_time(seconds, 5)
    held.wire.mend()
    await line.site.sink()
    await until_stored(line, 1_000)


async def test_a_commit_whose_answer_is_lost(line: Pipeline, held: Server) -> None:
    """The server has it, the sink does not know: it looks, finds its own offsets, and goes on without a restart."""
    (sink,) = line.site.stages
    begin = hour_ago()
    for number in range(2):
        held.wire.fail_commit(Fault.UNANSWERED)
        await flood(line, 1_000, begin, 1_000 * number)
        await held.until_failed()
        await until_stored(line, 1_000 * (number + 1))
    assert codes(sink) <= {"connection_lost", "cannot_open"}
    assert (await sink.terminate())[0] == 0


async def test_a_commit_that_does_not_arrive(line: Pipeline, held: Server) -> None:
    """The connection is gone with the rows written and not committed: they are written again, once."""
    (sink,) = line.site.stages
    begin = hour_ago()
    for number in range(2):
        held.wire.fail_commit(Fault.UNSENT)
        await flood(line, 1_000, begin, 1_000 * number)
        await held.until_failed()
        held.wire.cut()
        await until_waiting(sink, 1)
        held.wire.mend()
        await until_stored(line, 1_000 * (number + 1))
    assert (await sink.terminate())[0] == 0


async def test_a_deadlock(line: Pipeline, held: Server) -> None:
    """Another takes the same locks in the other order until the sink was the victim: its batch is written afterwards."""
    (sink,) = line.site.stages
    begin, sent = hour_ago(), 10_000  # of all devices
    await flood(line, sent, begin)
    await until_stored(line, sent)

    async def seen() -> bool:
        return "deadlock" in codes(sink) or stored(line)[0] == sent

    enough = Event()
    crossing = asyncio.create_task(asyncio.to_thread(cross, held.name, enough))
    try:
        while "deadlock" not in codes(sink):
            await flood(line, 10_000, begin, sent)
            sent += 10_000
            await eventually(seen)
    finally:
        enough.set()
        await crossing
    await until_stored(line, sent)
    assert codes(sink) <= {"deadlock", "locked"}
    assert (await sink.terminate())[0] == 0


def cross(database: str, enough: Event) -> None:
    """Have locks in the other order than the sink, again and again: first what its transactions end with."""
    with closing(driver.pyodbc().connect(dsn(Database=database), autocommit=False)) as other:
        # Where a server has such priorities, it is the sink's transaction that is undone. Elsewhere it is who has waited
        # longest of those that still wait: the sink, for this one gives up after 0.1 s, and asks again.
        other.execute("SET DEADLOCK_PRIORITY HIGH")
        while not enough.is_set():
            try:
                other.execute("SET LOCK_TIMEOUT 30000")
                other.execute("UPDATE dbo.sensor_readings_latest SET latest_value = latest_value")
                other.execute("SET LOCK_TIMEOUT 100")
                while not enough.is_set() and not locked_offsets(other):
                    pass
            except driver.pyodbc().Error as error:
                if _DEADLOCK not in str(error):
                    raise
            with suppress(driver.pyodbc().Error):  # a victim has no transaction left
                other.rollback()


def locked_offsets(connection: Any) -> bool:
    """Lock what the sink's transactions begin with; whether that was to be had in time."""
    try:
        connection.execute("UPDATE dbo.stream_offsets SET next_offset = next_offset")
    except driver.pyodbc().Error as error:
        if _LOCKED not in str(error):
            raise
        return False
    return True


async def test_a_schema_that_is_not_its_own_is_left_alone(line: Pipeline, held: Server) -> None:
    """Behind: the sink ends, and says what to run; newer: it ends. Neither writes a row."""
    (sink,) = line.site.stages
    assert (await sink.terminate())[0] == 0
    await flood(line, 1_000, hour_ago())
    last = max(version for (version,) in held.rows("SELECT version FROM schema_migrations"))
    for version, words in ((99, "the database has schema 99"), (None, "run `streamproc db migrate`")):
        held.execute(
            f"UPDATE schema_migrations SET version = {version} WHERE version = {last}"  # noqa: S608  # numbers
            if version
            else "DELETE FROM schema_migrations WHERE version = 99"
        )
        sink = await line.site.start("sink")
        assert await sink.ended() == 1
        assert words in sink.log.read_text()
    assert held.rows("SELECT count(*) FROM sensor_readings") == [(0,)]


async def test_a_wrong_password_ends_it(line: Pipeline) -> None:
    """Waiting would not mend it; the log says which settings are meant, and no password."""
    secret = "Not-the-Password-1"  # noqa: S105  # it opens nothing
    (running,) = line.site.stages
    assert (await running.terminate())[0] == 0
    sink = await line.site.start("sink", DB_PASSWORD=secret)
    assert await sink.ended() == 1
    told = sink.log.read_text()
    assert "see DB_USER and DB_PASSWORD" in told
    assert secret not in told
