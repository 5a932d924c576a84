"""The runs of jobs, on every store: each held by one, each attempt once, and taken over from whoever is gone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from streamproc.errors import StoreUnavailable
from streamproc.store.job_runs import ERROR_CHARACTERS, LOST, Ended, JobStore, Run, RunClaim
from tests.store.builders import START
from tests.store.databases import Database

SCHEDULE = "0 4 * * 0 UTC"
MINUTE = 60_000
CLAIM = RunClaim("cleanup", "schedule", SCHEDULE, START, 1, "me", START + 5, START + 5 + MINUTE)


async def newest(jobs: JobStore) -> Run:
    """The last run by schedule."""
    return (await jobs.runs("cleanup", "schedule", 1))[0]


async def test_a_run_is_held_renewed_and_settled(jobs: JobStore) -> None:
    """By whom it was claimed; what it was and how it ended can be read again."""
    number = await jobs.claim_run(CLAIM)
    assert number is not None
    running = Run(
        number,
        *("cleanup", "schedule", SCHEDULE, START, 1, "running"),
        CLAIM.until,
        CLAIM.now,
        None,
        {},
        None,
    )
    assert await newest(jobs) == running
    assert running.is_held(CLAIM.until - 1)
    assert not running.is_held(CLAIM.until)
    assert not await jobs.renew_run(number, "you", START + 5 * MINUTE)
    assert await jobs.renew_run(number, "me", START + 5 * MINUTE)
    assert (await newest(jobs)).lease_until == START + 5 * MINUTE
    ended = Ended("failed", START + 2 * MINUTE, {"events": 3, "readings": 4_000_000_000}, "broken " * 200)
    assert not await jobs.settle_run(number, "you", ended)
    assert await jobs.settle_run(number, "me", ended)
    assert not await jobs.settle_run(number, "me", replace(ended, outcome="done"))
    assert not await jobs.renew_run(number, "me", START + 9 * MINUTE)
    found = await newest(jobs)
    assert (found.outcome, found.ended_at, found.counts) == ("failed", ended.at, ended.counts)
    assert found.last_error == ("broken " * 200)[:ERROR_CHARACTERS]


async def test_a_job_that_is_held_is_nobody_elses(jobs: JobStore) -> None:
    """Neither by schedule nor by command; other jobs are free."""
    assert await jobs.claim_run(CLAIM)
    later = replace(CLAIM, by="you", due_at=START + MINUTE, now=CLAIM.until - 1, until=CLAIM.until + MINUTE)
    assert await jobs.claim_run(later) is None
    assert await jobs.claim_run(replace(later, started_by="command", schedule="")) is None
    assert await jobs.claim_run(replace(later, name="daily"))


async def test_a_run_whose_lease_is_over_is_lost(jobs: JobStore) -> None:
    """Whoever comes next has the job; who held it can write nothing any more."""
    number = await jobs.claim_run(CLAIM)
    assert number is not None
    second = replace(CLAIM, by="you", attempt=2, now=CLAIM.until, until=CLAIM.until + MINUTE)
    assert await jobs.claim_run(second)
    now, before = await jobs.runs("cleanup", "schedule", 9)
    assert (now.outcome, now.attempt) == ("running", 2)
    assert (before.outcome, before.ended_at, before.last_error) == ("lost", CLAIM.until, LOST)
    assert not await jobs.renew_run(number, "me", CLAIM.until + MINUTE)
    assert not await jobs.settle_run(number, "me", Ended("done", CLAIM.until + 1))


async def test_an_attempt_is_made_once_and_what_is_done_not_again(jobs: JobStore) -> None:
    """Who looked before another was done comes too late, whatever attempt it takes it for."""
    for attempt, outcome in ((1, "failed"), (2, "done")):
        claim = replace(CLAIM, attempt=attempt)
        number = await jobs.claim_run(claim)
        assert number is not None
        assert await jobs.settle_run(number, "me", Ended(outcome, START + MINUTE))  # type: ignore[arg-type]
        assert await jobs.claim_run(replace(claim, by="you")) is None
    assert await jobs.claim_run(replace(CLAIM, attempt=3)) is None
    assert await jobs.claim_run(replace(CLAIM, due_at=START + 1))


async def test_of_all_who_come_at_once_one_has_it(database: Database) -> None:
    """Over connections of their own."""
    stores = [database.jobs() for _ in range(4)]
    try:
        for store in stores:
            await store.open()
        claims = [store.claim_run(replace(CLAIM, by=str(n))) for n, store in enumerate(stores)]
        found = await asyncio.gather(*claims, return_exceptions=True)
        assert len([number for number in found if isinstance(number, int)]) == 1
        # Of a slow server one may be told that others' turns take too long.
        assert all(number is None or isinstance(number, int | StoreUnavailable) for number in found)
    finally:
        for store in stores:
            await store.close()
    assert database.rows("SELECT COUNT(*) FROM job_runs") == [(1,)]


async def test_a_schedule_is_enrolled_when_it_is_new(jobs: JobStore) -> None:
    """Once, until another one comes; what is run by command says nothing of it."""
    await jobs.enroll_job("cleanup", SCHEDULE, START, START + MINUTE)
    await jobs.enroll_job("cleanup", SCHEDULE, START + MINUTE, START + 2 * MINUTE)
    (found,) = await jobs.runs("cleanup", "schedule", 9)
    assert (found.outcome, found.due_at, found.schedule) == ("enrolled", START, SCHEDULE)
    assert await jobs.claim_run(replace(CLAIM, started_by="command", schedule=""))
    await jobs.enroll_job("cleanup", SCHEDULE, START + MINUTE, START + 2 * MINUTE)
    await jobs.enroll_job("cleanup", "0 5 * * * UTC", START, START + 3 * MINUTE)
    await jobs.enroll_job("cleanup", SCHEDULE, START, START + 4 * MINUTE)
    assert [run.schedule for run in await jobs.runs("cleanup", "schedule", 9)] == [
        SCHEDULE,
        "0 5 * * * UTC",
        SCHEDULE,
    ]
    assert len(await jobs.runs("cleanup", "command", 9)) == 1
    assert len(await jobs.runs("cleanup", "schedule", 2)) == 2


async def test_counts_that_somebody_has_spoilt_are_none(jobs: JobStore, database: Database) -> None:
    """What people write into the table stops no job."""
    assert await jobs.claim_run(CLAIM)
    database.execute("UPDATE job_runs SET counts = 'many'")
    assert (await newest(jobs)).counts == {}
