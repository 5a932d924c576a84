"""The runs of jobs, and the deletion of old rows, on SQL Server."""

from __future__ import annotations

from typing import Any

from streamproc.store.job_runs import (
    LOST,
    RUN_COLUMNS,
    Deleted,
    Ended,
    OverStore,
    Run,
    RunClaim,
    StartedBy,
    run_of,
)
from streamproc.store.sqlserver.store import SqlServerStore
from streamproc.store.sqlserver.times import ms_of, time_of
from streamproc.store.sqlserver.turns import take_turn

#: Transactions of at most 4,000 rows each that a call of a procedure makes: about a second in all, so that whoever asks the
#: process to end need not wait.
BATCHES = 5

_RUNS = f"SELECT TOP (?) {RUN_COLUMNS} FROM dbo.job_runs WHERE name = ? AND started_by = ? ORDER BY id DESC"
#: Two who look at the same moment would both see nobody.
_TURN = ("streamproc-jobs", 5_000, "another process looks who is to run which job")
_NEWEST = (
    "SELECT TOP (1) schedule FROM dbo.job_runs WHERE name = ? AND started_by = N'schedule' ORDER BY id DESC"
)
_ENROLL = (
    "INSERT INTO dbo.job_runs (name, started_by, schedule, due_at, attempt, outcome, began_at)"
    " VALUES (?, N'schedule', ?, ?, 0, N'enrolled', ?)"
)
_LOSE = (
    "UPDATE dbo.job_runs SET outcome = N'lost', ended_at = ?, last_error = ?"
    " WHERE name = ? AND outcome = N'running' AND lease_until <= ?"
)
_TAKEN = (
    "SELECT COUNT(*) FROM dbo.job_runs WHERE name = ? AND (outcome = N'running'"
    " OR started_by = ? AND schedule = ? AND due_at = ? AND (attempt >= ? OR outcome = N'done'))"
)
_CLAIM = (
    "INSERT INTO dbo.job_runs"
    " (name, started_by, schedule, due_at, attempt, outcome, claimed_by, lease_until, began_at)"
    " OUTPUT inserted.id VALUES (?, ?, ?, ?, ?, N'running', ?, ?, ?)"
)
_RENEW = (
    "UPDATE dbo.job_runs SET lease_until = ? WHERE id = ? AND claimed_by = ? AND outcome = N'running';"
    " SELECT @@ROWCOUNT"
)
_SETTLE = (
    "UPDATE dbo.job_runs SET outcome = ?, ended_at = ?, counts = ?, last_error = ?"
    " WHERE id = ? AND claimed_by = ? AND outcome = N'running'; SELECT @@ROWCOUNT"
)
_OLD = "EXEC dbo.streamproc_delete_old @p_{}_before = ?, @p_max_batches = ?"
_OLD_TRIALS = "EXEC dbo.streamproc_delete_old_trials @p_before = ?, @p_max_batches = ?"
#: They are a few a week: no more than one statement takes.
_OLD_RUNS = (
    "SET NOCOUNT ON; DELETE TOP (4000) o FROM dbo.job_runs AS o WHERE o.began_at < ? AND o.outcome <> N'running'"
    " AND EXISTS (SELECT 1 FROM dbo.job_runs AS l WHERE l.name = o.name AND l.id > o.id AND l.started_by = N'schedule');"
    " SELECT @@ROWCOUNT, 0"
)


class SqlServerJobs(OverStore[SqlServerStore]):
    """What jobs ask, over a store."""

    async def runs(self, name: str, started_by: StartedBy, limit: int) -> list[Run]:
        """A job's runs that were started so, newest first."""
        async with self._store.cursor(commits=False) as cursor:
            await cursor.execute(_RUNS, limit, name, started_by)
            return [run_of(row, ms_of) for row in await cursor.fetchall()]

    async def enroll_job(self, name: str, schedule: str, due_at: int, now: int) -> None:
        """Record since when a schedule counts, unless it is already the job's newest."""
        async with self._store.cursor() as cursor:
            await take_turn(cursor, *_TURN)
            newest = await _row(cursor, _NEWEST, name)
            if newest is None or newest[0] != schedule:
                await cursor.execute(_ENROLL, name, schedule, time_of(due_at), time_of(now))

    async def claim_run(self, claim: RunClaim) -> int | None:
        """Claim a job; returns the run's number, or None if another process holds the job or has made this attempt."""
        now = time_of(claim.now)
        async with self._store.cursor() as cursor:
            await take_turn(cursor, *_TURN)
            await cursor.execute(_LOSE, now, LOST, claim.name, now)
            what = claim.run(time_of)
            if (await _row(cursor, _TAKEN, *what))[0]:
                return None
            number: int = (await _row(cursor, _CLAIM, *what, claim.by, time_of(claim.until), now))[0]
            return number

    async def renew_run(self, number: int, by: str, until: int) -> bool:
        """Extend the claim; False if another process has it by now."""
        async with self._store.cursor() as cursor:
            return bool((await _row(cursor, _RENEW, time_of(until), number, by))[0])

    async def settle_run(self, number: int, by: str, ended: Ended) -> bool:
        """Record how it ended; False if another process has it by now."""
        async with self._store.cursor() as cursor:
            return bool((await _row(cursor, _SETTLE, *ended.values(time_of), number, by))[0])

    async def delete_old(self, table: str, before: int, start: int) -> Deleted:
        """Delete what a table has from before a time and no longer needs, by the database's own procedures."""
        at = time_of(before)
        async with self._store.statements() as connection:
            if table == "job_runs":
                found = await _result(connection, _OLD_RUNS, at)
            elif table == "trial_events":
                found = await _result(connection, _OLD_TRIALS, at, BATCHES)
            else:
                found = await _result(connection, _OLD.format(table), at, BATCHES)
        *rows, unfinished = found
        return Deleted(sum(rows), start if unfinished else None)


async def _result(connection: Any, statement: str, *values: object) -> Any:
    cursor = await connection.execute(statement, *values)
    try:
        return await cursor.fetchone()
    finally:
        await cursor.close()


async def _row(cursor: Any, query: str, *values: object) -> Any:
    await cursor.execute(query, *values)
    return await cursor.fetchone()
