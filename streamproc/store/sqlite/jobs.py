"""The runs of jobs, in a SQLite file."""

from __future__ import annotations

import sqlite3

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
from streamproc.store.sqlite import old_rows
from streamproc.store.sqlite.store import SqliteStore
from streamproc.store.stamps import ms_of, stamp_of

_RUNS = f"SELECT {RUN_COLUMNS} FROM job_runs WHERE name = ? AND started_by = ? ORDER BY id DESC LIMIT ?"  # noqa: S608  # a constant
_ENROLL = (
    "INSERT INTO job_runs (name, started_by, schedule, due_at, attempt, outcome, began_at)"
    " SELECT ?1, 'schedule', ?2, ?3, 0, 'enrolled', ?4 WHERE ?2 <> COALESCE("
    "(SELECT schedule FROM job_runs WHERE name = ?1 AND started_by = 'schedule' ORDER BY id DESC LIMIT 1), '')"
)
_LOSE = (
    "UPDATE job_runs SET outcome = 'lost', ended_at = ?, last_error = ?"
    " WHERE name = ? AND outcome = 'running' AND lease_until <= ?"
)
_CLAIM = (
    "INSERT INTO job_runs"
    " (name, started_by, schedule, due_at, attempt, outcome, claimed_by, lease_until, began_at)"
    " SELECT ?1, ?2, ?3, ?4, ?5, 'running', ?6, ?7, ?8"
    " WHERE NOT EXISTS (SELECT 1 FROM job_runs WHERE name = ?1 AND outcome = 'running')"
    " AND NOT EXISTS (SELECT 1 FROM job_runs WHERE name = ?1 AND started_by = ?2 AND schedule = ?3"
    " AND due_at = ?4 AND (attempt >= ?5 OR outcome = 'done'))"
)
_RENEW = "UPDATE job_runs SET lease_until = ? WHERE id = ? AND claimed_by = ? AND outcome = 'running'"
_SETTLE = (
    "UPDATE job_runs SET outcome = ?, ended_at = ?, counts = ?, last_error = ?"
    " WHERE id = ? AND claimed_by = ? AND outcome = 'running'"
)


class SqliteJobs(OverStore[SqliteStore]):
    """What jobs ask, over a store."""

    async def runs(self, name: str, started_by: StartedBy, limit: int) -> list[Run]:
        """A job's runs that were started so, newest first."""
        values = (name, started_by, limit)
        rows = await self._store.look(lambda opened: opened.execute(_RUNS, values).fetchall())
        return [run_of(row, ms_of) for row in rows]

    async def enroll_job(self, name: str, schedule: str, due_at: int, now: int) -> None:
        """Record since when a schedule counts, unless it is already the job's newest."""
        values = (name, schedule, stamp_of(due_at), stamp_of(now))
        await self._store.change(lambda opened: opened.execute(_ENROLL, values))

    async def claim_run(self, claim: RunClaim) -> int | None:
        """Claim a job; returns the run's number, or None if another process holds the job or has made this attempt."""
        return await self._store.change(lambda opened: _claim(opened, claim))

    async def renew_run(self, number: int, by: str, until: int) -> bool:
        """Extend the claim; False if another process has it by now."""
        values = (stamp_of(until), number, by)
        return bool(await self._store.change(lambda opened: opened.execute(_RENEW, values).rowcount))

    async def settle_run(self, number: int, by: str, ended: Ended) -> bool:
        """Record how it ended; False if another process has it by now."""
        values = (*ended.values(stamp_of), number, by)
        return bool(await self._store.change(lambda opened: opened.execute(_SETTLE, values).rowcount))

    async def delete_old(self, table: str, before: int, start: int) -> Deleted:
        """Delete what a table has from before a time and no longer needs: a bounded number of rows."""
        limit = stamp_of(before)
        found = await self._store.look(lambda opened: old_rows.find(opened, table, limit, start))
        if found is None:
            return Deleted(0, None)
        rows = await self._store.change(lambda opened: old_rows.delete(opened, found), lasts=False)
        return Deleted(rows, found.go_on)


def _claim(opened: sqlite3.Connection, claim: RunClaim) -> int | None:
    now = stamp_of(claim.now)
    opened.execute(_LOSE, (now, LOST, claim.name, now))
    made = opened.execute(_CLAIM, (*claim.run(stamp_of), claim.by, stamp_of(claim.until), now))
    return made.lastrowid if made.rowcount else None
