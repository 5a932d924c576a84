"""What `jobs` asks of a database: the runs of scheduled jobs, and the deletion of old rows bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import msgspec

StartedBy = Literal["schedule", "command"]
#: `stopped`: its process was asked to end. `lost`: its process ended or stood still without a word. `enrolled` is no run.
Outcome = Literal["enrolled", "running", "done", "failed", "stopped", "lost"]
Ending = Literal["done", "failed", "stopped"]

#: The tables that old rows are taken out of, in this order: what refers to others goes before them. `alerts` are those of
#: SQL Server's trigger; SQLite has none.
OLD_ROWS = (
    "notifications",
    "alerts",
    "events",
    "predictions",
    "windows",
    "readings",
    "audit",
    "trial_events",
    "job_runs",
)
#: What a run is read of.
RUN_COLUMNS = "id, name, started_by, schedule, due_at, attempt, outcome, lease_until, began_at, ended_at, counts, last_error"
#: Longest error that is kept; both databases hold it.
ERROR_CHARACTERS = 500
#: What is written of a run whose lease has run out.
LOST = "its process ended, or stood still, without a word"


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `job_runs`; times in ms, `due_at` is the time that it is for, `counts` what it had counted at its end."""

    number: int
    name: str
    started_by: StartedBy
    schedule: str
    due_at: int
    attempt: int
    outcome: Outcome
    lease_until: int | None
    began_at: int
    ended_at: int | None
    counts: dict[str, int]
    last_error: str | None

    def is_held(self, now: int) -> bool:
        """Whether somebody is at it now."""
        return self.outcome == "running" and (self.lease_until or 0) > now

    def as_of(self, now: int) -> Outcome:
        """Its outcome at a time: a run whose lease expired before it ended is lost, even if nobody has recorded that yet."""
        return "lost" if self.outcome == "running" and not self.is_held(now) else self.outcome


@dataclass(frozen=True, slots=True)
class RunClaim:
    """A claim to run a job: `by` whom, held from `now` until `until`, in ms."""

    name: str
    started_by: StartedBy
    schedule: str
    due_at: int
    attempt: int
    by: str
    now: int
    until: int

    def run(self, time: Callable[[int], Any]) -> tuple[Any, ...]:
        """Which run it is, as a row has it: name, who started it, schedule, time and attempt."""
        return self.name, self.started_by, self.schedule, time(self.due_at), self.attempt


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, and when (ms)."""

    outcome: Ending
    at: int
    counts: dict[str, int] = field(default_factory=dict)
    error: str | None = None

    def values(self, time: Callable[[int], Any]) -> tuple[Any, ...]:
        """As a row has it: outcome, time, counts and error; `time` makes a time the database's."""
        return (
            self.outcome,
            time(self.at),
            counts_text(self.counts),
            self.error and self.error[:ERROR_CHARACTERS],
        )


class Deleted(NamedTuple):
    """What one bounded call has deleted of a table, and where the next one goes on; None: nothing old is left."""

    rows: int
    go_on: int | None


class JobStore(Protocol):
    """A database as jobs see it. All calls raise StoreUnavailable or StoreError, too."""

    async def open(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Close the database; calls under way are finished first."""

    async def runs(self, name: str, started_by: StartedBy, limit: int) -> list[Run]:
        """A job's runs that were started so, with its enrolments where by schedule, newest first."""

    async def enroll_job(self, name: str, schedule: str, due_at: int, now: int) -> None:
        """Record since when a schedule counts, unless it is already the job's newest; earlier times are not made up."""

    async def claim_run(self, claim: RunClaim) -> int | None:
        """Claim a job; returns the run's number, or None if another process holds the job or has made this attempt.

        A run whose lease is over is lost, and holds nothing.
        """

    async def renew_run(self, number: int, by: str, until: int) -> bool:
        """Extend the claim; False if another process has it by now."""

    async def settle_run(self, number: int, by: str, ended: Ended) -> bool:
        """Record how it ended; False if another process has it by now."""

    async def delete_old(self, table: str, before: int, start: int) -> Deleted:
        """Delete what one of OLD_ROWS has from before a time, in ms, and no longer needs: a bounded number of rows.

        `start` is 0, and then where the call before ended. Raises RowsRefused where others' tables refer to them.
        """


class OpenedStore(Protocol):
    """A store as far as those who ask by it open and close it."""

    async def open(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Let go of the database."""


T = TypeVar("T", bound=OpenedStore)


class OverStore(Generic[T]):
    """A view of a store, which is opened and closed with it."""

    def __init__(self, store: T) -> None:
        self._store = store

    async def open(self) -> None:
        """Connect; raises StoreError where the schema is behind, or another."""
        await self._store.open()

    async def close(self) -> None:
        """Close the database; calls under way are finished first."""
        await self._store.close()


def counts_text(counts: dict[str, int]) -> str:
    """Counts as they are stored."""
    return msgspec.json.encode(counts, order="sorted").decode()


def counts_of(text: str) -> dict[str, int]:
    """The same back; what somebody else has written there is no reason to fail."""
    try:
        return msgspec.json.decode(text, type=dict[str, int])
    except msgspec.MsgspecError:
        return {}


def run_of(row: Sequence[Any], ms: Callable[[Any], int]) -> Run:
    """A run, of the columns RUN_COLUMNS; `ms` reads a time."""
    number, name, started_by, schedule, due_at, attempt, outcome, lease, began, ended, counts, error = row
    return Run(
        number,
        name,
        started_by,
        schedule,
        ms(due_at),
        attempt,
        outcome,
        None if lease is None else ms(lease),
        ms(began),
        None if ended is None else ms(ended),
        counts_of(counts),
        error,
    )
