"""`streamproc jobs` over a real database, by a clock that the tests set: run when due, once, and what becomes of it told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from streamproc.errors import RowsRefused, StoreUnavailable
from streamproc.jobs import health
from streamproc.jobs.catalogue import Job, find, jobs
from streamproc.jobs.cleanup import Cleanup
from streamproc.jobs.desk import Desk
from streamproc.jobs.runner import Runner, Times
from streamproc.jobs.schedule import Due, Schedule
from streamproc.jobs.work import Progress, Stopped
from streamproc.monitor.standing import Standing
from streamproc.settings import Settings
from streamproc.store.job_runs import OLD_ROWS, Deleted, JobStore, RunClaim
from streamproc.store.protocol import Batch
from tests.store.builders import GROUP, START, readings
from tests.store.databases import Sqlite

DAY = 86_400_000
#: The first time that the schedule comes after START.
FOUR = START - START % DAY + DAY + 4 * 3_600_000
SCHEDULE = Schedule("0 4 * * *")
RUNS = "SELECT started_by, due_at, attempt, outcome FROM job_runs ORDER BY id"


class Clock:
    """A time that stands still until it is set."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        """The time now."""
        return self.now


class Site:
    """A process of its own over a database, without the waits between its looks."""

    def __init__(self, store: JobStore, clock: Clock, work: Callable[[Progress], Awaitable[None]]) -> None:
        self.stop = asyncio.Event()
        self.job = Job("job", "does a thing", SCHEDULE, work)
        self.runner = Runner(store, self.stop, clock=clock)
        self.desk = Desk([self.job], self.runner)

    def check(self) -> tuple[bool, str]:
        """What `/ready` says of the job."""
        found = {check.name: check for check in health.checks(self.desk)}["job"]
        return found.ok, found.detail


@pytest.fixture
def database(tmp_path: Path) -> Sqlite:
    """A file that is not there yet."""
    return Sqlite(tmp_path / "streamproc.db")


@pytest.fixture
def clock() -> Clock:
    """At START, in the evening."""
    return Clock()


@asynccontextmanager
async def site(
    database: Sqlite, clock: Clock, work: Callable[[Progress], Awaitable[None]]
) -> AsyncIterator[Site]:
    """A process over the database."""
    store = database.jobs()
    try:
        yield Site(store, clock, work)
    finally:
        await store.close()


class Counted:
    """Work that counts how often it is done; each further time it fails with the next of `errors`."""

    def __init__(self, *errors: Exception) -> None:
        self.times = 0
        self._errors = list(errors)

    async def __call__(self, progress: Progress) -> None:
        """Do it once."""
        self.times += 1
        progress.counts["things"] += 7
        if self._errors:
            raise self._errors.pop(0)


async def test_a_job_runs_when_it_is_due_and_once(database: Sqlite, clock: Clock) -> None:
    """Not when the process first comes, and not for the times before; what it did is in the database."""
    work = Counted()
    async with site(database, clock, work) as one:
        assert one.check() == (True, "not looked at yet")
        for now, times in ((START, 0), (FOUR - 1, 0), (FOUR, 1), (FOUR + DAY - 1, 1), (FOUR + DAY, 2)):
            clock.now = now
            await one.desk.look()
            await one.desk.look()
            assert work.times == times, now
        assert one.check() == (True, "done at 2023-11-16T04:00:00Z; next at 2023-11-17T04:00:00Z")
    assert database.rows("SELECT outcome, counts FROM job_runs ORDER BY id") == [
        ("enrolled", "{}"),
        ("done", '{"things":7}'),
        ("done", '{"things":7}'),
    ]


async def test_what_was_missed_while_no_process_ran_is_made_up_once(database: Sqlite, clock: Clock) -> None:
    """After weeks, by the first that comes."""
    work = Counted()
    async with site(database, clock, work) as one:
        await one.desk.look()
    clock.now = FOUR + 30 * DAY + 5
    for _ in range(2):
        async with site(database, clock, work) as another:
            await another.desk.look()
            await another.desk.look()
    assert work.times == 1
    assert database.rows(RUNS)[1:] == [("schedule", "2023-12-15T04:00:00.000Z", 1, "done")]


async def test_a_schedule_that_is_changed_makes_up_nothing(database: Sqlite, clock: Clock) -> None:
    """It counts from when it is first seen; so does the one before, if it comes back."""
    work = Counted()
    async with site(database, clock, work) as one:
        await one.desk.look()
        clock.now = FOUR + 3_600_000
        for expression in ("0 5 * * *", "0 4 * * *"):
            changed = Job("job", "does a thing", Schedule(expression), work)
            await Desk([changed], one.runner).look()
        assert work.times == 0
        clock.now = FOUR + DAY
        await one.desk.look()
        assert work.times == 1


async def test_of_two_processes_one_runs_it(database: Sqlite, clock: Clock) -> None:
    """While it works the other leaves it alone, and afterwards too."""
    begun, go_on, other = asyncio.Event(), asyncio.Event(), Counted()

    async def slow(_: Progress) -> None:
        begun.set()
        await go_on.wait()

    async with site(database, clock, slow) as one, site(database, clock, other) as two:
        await one.desk.look()
        clock.now = FOUR
        looking = asyncio.create_task(one.desk.look())
        await begun.wait()
        await two.desk.look()
        assert two.check() == (True, "running; next at 2023-11-16T04:00:00Z")
        assert await two.runner.run(two.job, "command", Due(FOUR, 1)) is None
        go_on.set()
        await looking
        await two.desk.look()
    assert other.times == 0
    assert [row[3] for row in database.rows(RUNS)] == ["enrolled", "done"]


async def test_a_process_that_stood_still_is_taken_over_and_writes_nothing(
    database: Sqlite, clock: Clock
) -> None:
    """Its lease is over, the other does the work; when it goes on it hears of that."""
    begun, go_on, other = asyncio.Event(), asyncio.Event(), Counted()

    async def stands_still(_: Progress) -> None:
        begun.set()
        await go_on.wait()

    async with site(database, clock, stands_still) as one, site(database, clock, other) as two:
        await one.desk.look()
        clock.now = FOUR
        looking = asyncio.create_task(one.runner.run(one.job, "schedule", Due(FOUR, 1)))
        await begun.wait()
        clock.now = FOUR + 60_000
        await two.desk.look()
        go_on.set()
        assert await looking is None
    assert other.times == 1
    assert [row[2:] for row in database.rows(RUNS)] == [(0, "enrolled"), (1, "lost"), (2, "done")]


async def test_a_job_that_is_another_process_by_now_is_let_go(database: Sqlite, clock: Clock) -> None:
    """Amid its work, as soon as the lease cannot be renewed."""

    async def works_on(progress: Progress) -> None:
        database.execute("UPDATE job_runs SET claimed_by = 'another'")
        await progress.rest(60)

    store = database.jobs()
    try:
        runner = Runner(store, asyncio.Event(), Times(renew_s=0.01), clock)
        assert await runner.run(Job("job", "", SCHEDULE, works_on), "schedule", Due(FOUR, 1)) is None
    finally:
        await store.close()
    assert database.rows("SELECT claimed_by, outcome FROM job_runs") == [("another", "running")]


async def test_a_lease_is_renewed_while_the_work_goes_on(database: Sqlite, clock: Clock) -> None:
    """So a job may take hours."""
    held: list[str] = []

    async def works_on(progress: Progress) -> None:
        clock.now += 50_000
        while len(held) < 2:
            await progress.rest(0.01)
            ((until,),) = database.rows("SELECT lease_until FROM job_runs")
            held.extend([until] if until not in held else [])

    store = database.jobs()
    try:
        runner = Runner(store, asyncio.Event(), Times(renew_s=0.05), clock)
        ended = await runner.run(Job("job", "", SCHEDULE, works_on), "schedule", Due(FOUR, 1))
    finally:
        await store.close()
    assert ended is not None
    assert ended.outcome == "done"
    assert held == ["2023-11-14T22:14:20.000Z", "2023-11-14T22:15:10.000Z"]


async def test_what_fails_is_tried_again_told_and_mended_by_the_next(database: Sqlite, clock: Clock) -> None:
    """/ready names the reason until a run is done, also one by command."""
    work = Counted(RowsRefused("a table of theirs"), ValueError("odd"))
    async with site(database, clock, work) as one:
        await one.desk.look()
        clock.now = FOUR
        await one.desk.look()
        assert one.check() == (False, "failed at 2023-11-15T04:00:00Z: a table of theirs")
        await one.desk.look()
        assert work.times == 1
        clock.now = FOUR + 600_000
        await one.desk.look()
        assert one.check() == (False, "failed at 2023-11-15T04:10:00Z: ValueError: odd")
        ended = await one.runner.run(one.job, "command", Due(clock.now, 1))
        assert ended is not None
        assert ended.outcome == "done"
        clock.now += 1_199_999
        await one.desk.look()
        assert one.check()[0]
        clock.now += 1
        await one.desk.look()
    assert [row[2:] for row in database.rows(RUNS)] == [
        (0, "enrolled"),
        (1, "failed"),
        (2, "failed"),
        (1, "done"),
        (3, "done"),
    ]


async def test_a_process_that_is_asked_to_end_stops_its_job(database: Sqlite, clock: Clock) -> None:
    """Where its work rests; the next process goes on at once."""
    work = Counted()

    async def long(progress: Progress) -> None:
        one.stop.set()
        await progress.rest(600)

    async with site(database, clock, long) as one:
        await one.desk.look()
        clock.now = FOUR
        await asyncio.wait_for(one.desk.run(one.stop), 60)
    async with site(database, clock, work) as two:
        await two.desk.look()
    assert [row[2:] for row in database.rows(RUNS)] == [(0, "enrolled"), (1, "stopped"), (2, "done")]


async def test_a_database_that_is_away_is_waited_for(database: Sqlite, clock: Clock) -> None:
    """And told of by /ready; a run gives it up when its patience is at its end."""
    store = database.jobs()
    await store.open()
    standing, stop = Standing(), asyncio.Event()
    calls = 0

    async def call() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise StoreUnavailable("locked", "locked")
        return "there"

    assert await Progress(store, standing, stop, clock.now).ask(call) == "there"
    assert standing.check().ok
    calls = 0
    with pytest.raises(StoreUnavailable):
        await Progress(store, standing, stop, clock.now, patience_s=-1).ask(call)
    assert not standing.check().ok
    stop.set()
    calls = 0
    with pytest.raises(Stopped):
        await Progress(store, standing, stop, clock.now).ask(call)
    await store.close()


class Refusing:
    """A store of which a table refuses to be emptied; of the others three rows go, in three calls."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []

    async def delete_old(self, table: str, before: int, start: int) -> Deleted:
        """What the store's does."""
        self.asked.append((table, before, start))
        if table == "events":
            raise RowsRefused("another's table refers to it")
        return Deleted(1, start + 1 if start < 2 else None)


async def test_cleanup_goes_table_by_table_and_one_that_fails_keeps_no_other() -> None:
    """In the order that references ask for; those that are kept for ever are not asked."""
    store = Refusing()
    progress = Progress(store, Standing(), asyncio.Event(), START)  # type: ignore[arg-type]
    kept = {"readings": 9 * DAY, "events": 2 * DAY, "notifications": DAY, "windows": None}
    await Cleanup(kept)(progress)
    tables = list(dict.fromkeys(table for table, _, _ in store.asked))
    assert tables == [table for table in OLD_ROWS if table in {*kept, "job_runs"} - {"windows"}]
    assert [(before, start) for table, before, start in store.asked if table == "readings"] == [
        (START - 9 * DAY, start) for start in (0, 1, 2)
    ]
    assert progress.counts == {"notifications": 3, "readings": 3, "job_runs": 3}
    assert progress.faults == ["events: another's table refers to it"]


async def test_cleanup_leaves_what_is_young(database: Sqlite, clock: Clock) -> None:
    """The whole job, by the settings, on a database."""
    store = database.store()
    await store.open()
    rows = [("a", 1.0, 0), ("a", 2.0, DAY), ("a", 3.0, 2 * DAY)]
    await store.write(Batch(GROUP, readings=readings(*rows)))
    await store.close()
    settings = Settings.model_validate({"retention_readings": "1d", "cleanup_schedule": "0 4 * * *"})
    (job,) = jobs(settings)
    clock.now = START + 2 * DAY + 5
    jobs_store = database.jobs()
    try:
        ended = await Runner(jobs_store, asyncio.Event(), clock=clock).run(job, "command", Due(clock.now, 1))
    finally:
        await jobs_store.close()
    assert ended is not None
    assert (ended.outcome, ended.counts) == ("done", {"readings": 1})
    assert database.rows("SELECT value FROM sensor_readings ORDER BY id") == [(2.0,), (3.0,)]


def test_a_job_is_found_by_either_name() -> None:
    """What users of the reference call it goes on to work; its time there is the default here."""
    among = jobs(Settings.model_validate({}))
    assert find("cleanup", among) is find("cleanup_metrics", among) is among[0]
    assert find("nothing", among) is None
    assert str(among[0].schedule) == "0 4 * * 0 UTC"
    off = jobs(Settings.model_validate({"cleanup_schedule": " off"}))
    assert off[0].schedule is None


def test_retention_is_days_or_for_ever() -> None:
    """By default what the reference keeps; measurements go only where somebody says so."""
    kept = Settings.model_validate({}).retentions_ms
    assert {table: ms // DAY for table, ms in kept.items() if ms is not None} == {
        "notifications": 30,
        "events": 30,
        "predictions": 90,
    }
    assert set(kept) | {"job_runs"} == set(OLD_ROWS)
    for wrong in ("0d", "30", "-1d", "1.5d", "", "123456d", "30 d"):
        with pytest.raises(ValidationError):
            Settings.model_validate({"retention_events": wrong})


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("cleanup_schedule", "0 4 * *"),
        ("cleanup_schedule", "0 0 4 * * 0"),
        ("cleanup_schedule", "0 25 * * *"),
        ("cleanup_schedule", "0 0 31 2 *"),
        ("jobs_timezone", "Mars/Olympus"),
        ("jobs_timezone", "/etc/passwd"),
    ],
)
def test_a_schedule_that_never_comes_is_refused(field: str, wrong: str) -> None:
    """When the settings are read."""
    with pytest.raises(ValidationError):
        Settings.model_validate({field: wrong})


async def test_metrics_tell_how_the_jobs_stand(database: Sqlite, clock: Clock) -> None:
    """Whether one runs, when it was last done, and when it comes next."""

    def told(desk: Desk) -> dict[str, float]:
        return {sample.name: sample.value for family in health.gauges(desk) for sample in family.samples}

    async with site(database, clock, Counted()) as one:
        await one.desk.look()
        assert told(one.desk) == {
            "streamproc_jobs_running": 0.0,
            "streamproc_jobs_next_timestamp": FOUR / 1000,
        }
        clock.now = FOUR
        await one.desk.look()
        assert told(one.desk)["streamproc_jobs_done_timestamp"] == FOUR / 1000
        store = one.runner.store
        claim = RunClaim("job", "command", "", FOUR, 1, "another", FOUR, FOUR + 60_000)
        assert await store.claim_run(claim)
        await one.desk.look()
        assert told(one.desk)["streamproc_jobs_running"] == 1.0
        clock.now = FOUR + 60_000
        assert told(one.desk)["streamproc_jobs_running"] == 0.0


async def test_a_run_that_ended_without_a_word_is_told_as_lost(database: Sqlite, clock: Clock) -> None:
    """As soon as its lease is over, also one by command, which nobody takes over."""
    async with site(database, clock, Counted()) as one:
        claim = RunClaim("job", "command", "", START, 1, "killed", START, START + 60_000)
        assert await one.runner.store.claim_run(claim)
        await one.desk.look()
        assert one.check() == (True, "running; next at 2023-11-15T04:00:00Z")
        clock.now = START + 60_000
        ok, detail = one.check()
        assert (ok, detail.partition(":")[0]) == (False, "lost at 2023-11-14T22")


async def test_a_process_tells_of_its_own_run_while_it_is_at_it(database: Sqlite, clock: Clock) -> None:
    """In /ready and in the metrics, which are asked meanwhile."""
    found = list[tuple[object, ...]]()

    async def works(_: Progress) -> None:
        running = next(iter(health.gauges(one.desk))).samples[0].value
        found.append((*one.check(), running))

    async with site(database, clock, works) as one:
        await one.desk.look()
        clock.now = FOUR
        await one.desk.look()
        assert found == [(True, "running; next at 2023-11-16T04:00:00Z", 1.0)]
        assert next(iter(health.gauges(one.desk))).samples[0].value == 0.0
