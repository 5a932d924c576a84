"""The job `cleanup`: deletes rows past their retention, a few at a time, while a sink goes on writing."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

import structlog

from streamproc.errors import StoreError
from streamproc.jobs import metrics
from streamproc.jobs.work import Progress
from streamproc.store.job_runs import OLD_ROWS

#: The runs of jobs themselves: a year and a month, so that one can be held against last year's.
RUNS_KEPT_MS = 400 * 86_400_000
#: After each call the database is left alone for as long as it took, so that at least half of its time is the sink's; not for
#: less than this, so that who waits for a lock gets it.
LEAST_REST_S = 0.02
#: Nor for longer: a call that took 30 s waited for others itself.
LONGEST_REST_S = 2.0

_log = structlog.get_logger(__name__)


class Cleanup:
    """The job's work: deletes from each table the rows older than its `kept_ms` (None: no rows)."""

    def __init__(self, kept_ms: Mapping[str, int | None]) -> None:
        self._kept_ms = {**kept_ms, "job_runs": RUNS_KEPT_MS}

    async def __call__(self, progress: Progress) -> None:
        """Table by table; one that fails does not keep the others."""
        for table in OLD_ROWS:
            kept_ms = self._kept_ms.get(table)
            if kept_ms is None:
                continue
            try:
                await _emptied(progress, table, progress.now - kept_ms)
            except StoreError as error:
                if error.retriable:  # the database is away, and the next table is in it as well
                    raise
                _log.error("old rows not deleted", table=table, reason=str(error))
                progress.faults.append(f"{table}: {error}")


async def _emptied(progress: Progress, table: str, before: int) -> None:
    """Delete what is old of one table."""
    start: int | None = 0
    while start is not None:
        began = monotonic()
        place = start
        deleted = await progress.ask(lambda: progress.store.delete_old(table, before, place))  # noqa: B023  # awaited here
        start = deleted.go_on
        if deleted.rows:
            progress.counts[table] += deleted.rows
            metrics.DELETED.labels(table=table).inc(deleted.rows)
        if start is not None:
            await progress.rest(min(max(monotonic() - began, LEAST_REST_S), LONGEST_REST_S))
