"""`streamproc jobs` as a process: killed and stopped amid its work, beside a sink that writes, and asked how it is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from streamproc.kafka.broker import free_port
from streamproc.records import SensorEntry
from streamproc.settings.connection import Connection
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.store import SqliteStore
from tests.live.processes import SOON_S, Site, Stage, eventually, running
from tests.slowness import in_time
from tests.store.builders import GROUP, START, readings, save_entries

#: How long a process may take to end.
STOP_S = 5.0
OLD, YOUNG = 100_000, 50
#: Each stretch of old rows takes a tenth of a second of CPU time, and a rest as long: seven seconds in all, and as many times
#: more as the machine is busy. Without, all were gone within two, before a busy machine had seen that some were.
SLOW = (
    "CREATE VIEW many AS WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 500000) SELECT i FROM n",
    "CREATE TRIGGER slow AFTER DELETE ON sensor_readings WHEN OLD.id % 2000 = 0 BEGIN SELECT count(*) FROM many; END",
)
COUNT = "SELECT COUNT(*) FROM sensor_readings"
OUTCOMES = "SELECT outcome FROM job_runs ORDER BY id"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Site]:
    """A database with old readings and young ones, where the cleanup was missed; and no broker: none is needed."""
    async with running(Connection("127.0.0.1:1"), "none-", tmp_path) as site:
        store = SqliteStore(site.database, auto_register=True)
        await store.open()
        await save_entries(store, [SensorEntry("s")])
        site.held.execute(
            "INSERT INTO sensor_readings (sensor_id, value, timestamp)"  # noqa: S608  # the number above
            f" WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {OLD})"
            " SELECT 1, i, '2023-01-01T00:00:00.000Z' FROM n"
        )
        ms = round(time.time() * 1000) - START
        young = [("s", float(number), ms + number) for number in range(YOUNG)]
        await store.write(Batch(GROUP, readings=readings(*young)))
        await store.close()
        for statement in SLOW:
            site.held.execute(statement)
        missed = f"{datetime.now(UTC) - timedelta(days=30):%Y-%m-%dT%H:%M:%S.000Z}"
        site.variables["STREAMPROC_CLEANUP_SCHEDULE"] = schedule = days_away()
        site.held.execute(
            "INSERT INTO job_runs (name, started_by, schedule, due_at, attempt, outcome, began_at)"  # noqa: S608  # as above
            f" VALUES ('cleanup', 'schedule', '{schedule} UTC', '{missed}', 0, 'enrolled', '{missed}')"
        )
        yield site


def days_away() -> str:
    """A weekly schedule whose times are days away: none comes amid a test."""
    return f"0 4 * * {(datetime.now(UTC) + timedelta(days=3)).isoweekday() % 7}"


async def started(site: Site, **variables: str) -> Stage:
    """A process that keeps readings for 30 days, and works."""
    stage = await begun(site, **variables)
    await stage.until_told("jobs")
    return stage


async def begun(site: Site, **variables: str) -> Stage:
    """The same, as soon as there is such a process."""
    return await site.start("jobs", STREAMPROC_RETENTION_READINGS="30d", **variables)


def count(site: Site) -> int:
    """How many readings there are."""
    ((rows,),) = site.held.rows(COUNT)
    return int(rows)


async def until_amid(site: Site) -> None:
    """Wait until some of the old readings are gone, and more of them there."""

    async def amid() -> bool:
        return count(site) < OLD + YOUNG

    await eventually(amid)
    assert count(site) > YOUNG


async def until_done(site: Site) -> None:
    """Let it go on as fast as it can, and wait until the last run is done."""
    site.held.execute("DROP TRIGGER IF EXISTS slow")

    async def done() -> bool:
        return bool(site.held.rows(OUTCOMES)[-1] == ("done",))

    await eventually(done)


async def test_killed_amid_its_work_another_goes_on(place: Site) -> None:
    """Once the lease is over; a missed run was made up, and of the young readings none is gone."""
    first = await started(place)
    await until_amid(place)
    first.kill()
    await first.ended()
    assert place.held.rows(OUTCOMES) == [("enrolled",), ("running",)]
    place.held.execute(
        "UPDATE job_runs SET lease_until = '2023-01-01T05:00:00.000Z' WHERE outcome = 'running'"
    )
    await started(place)
    await until_done(place)
    assert place.held.rows(OUTCOMES) == [("enrolled",), ("lost",), ("done",)]
    assert place.held.rows("SELECT value FROM sensor_readings ORDER BY value") == [
        (float(n),) for n in range(YOUNG)
    ]


async def test_it_ends_in_time_amid_its_work_and_the_next_goes_on(place: Site) -> None:
    """With code 0, and the run written down as stopped."""
    first = await started(place)
    await until_amid(place)
    code, seconds = await first.terminate()
    assert code == 0
    assert in_time(seconds, STOP_S)
    assert count(place) > YOUNG
    assert place.held.rows(OUTCOMES) == [("enrolled",), ("stopped",)]
    second = await started(place)
    await until_done(place)
    ended = await second.until_told("job ended")
    assert ended["outcome"] == "done"
    assert ended["readings"] > 0
    assert count(place) == YOUNG


async def test_two_processes_do_it_once_beside_a_sink(place: Site) -> None:
    """Nothing of what is written meanwhile is lost, and nothing is done twice."""
    both = [await begun(place), await begun(place)]
    await until_amid(place)
    store = SqliteStore(place.database, auto_register=True, busy_ms=60_000)
    await store.open()
    ms = round(time.time() * 1000) - START
    for n in range(100):
        await store.write(Batch(GROUP, readings=readings(("t", float(n), ms + n))))
    await store.close()
    await until_done(place)
    for stage in both:
        await stage.until_told("jobs")
        await stage.terminate()
    assert place.held.rows(OUTCOMES) == [("enrolled",), ("done",)]
    assert count(place) == YOUNG + 100
    assert sum(len(stage.told("job began")) for stage in both) == 1


async def test_it_tells_how_it_is(place: Site) -> None:
    """Ready once it has looked; the metrics have what was deleted and when it was done."""
    port = free_port()
    stage = await started(place, STREAMPROC_JOBS_PORT=str(port))
    await until_done(place)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SOON_S)) as client:

        async def told() -> str:
            async with client.get(f"http://127.0.0.1:{port}/metrics") as answer:
                text = await answer.text()
            return text if "streamproc_jobs_done_timestamp{" in text else ""

        text = await eventually(told)
        assert f'streamproc_jobs_deleted_rows_total{{table="readings"}} {OLD:.1f}' in text
        assert 'streamproc_jobs_runs_total{job="cleanup",outcome="done"} 1.0' in text
        async with client.get(f"http://127.0.0.1:{port}/ready") as answer:
            body = await answer.json()
        assert (answer.status, [check["name"] for check in body["checks"]]) == (200, ["database", "cleanup"])
    code, seconds = await stage.terminate()
    assert code == 0
    assert in_time(seconds, STOP_S)
