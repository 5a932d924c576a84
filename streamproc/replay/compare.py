"""Compares a replay's rows with the database's, reports differences, and writes over them where asked to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from streamproc.errors import RowsRefused
from streamproc.monitor.standing import Standing
from streamproc.replay.differences import Difference, Kind, given, standing
from streamproc.replay.engine import Made
from streamproc.replay.journal import Journal
from streamproc.replay.parts import parts
from streamproc.replay.refused import Refused
from streamproc.replay.request import Interrupted
from streamproc.replay.seen import Seen
from streamproc.sink.batches import Bounds
from streamproc.store.comparison import TABLES, Compared, Extras, Scope
from streamproc.store.protocol import Batch, Columns, Store

T = TypeVar("T")

#: Extra rows that are told, or taken back, at once: some megabytes.
EXTRAS = 10_000
#: How long the database may be away: a lock passes, and what takes longer is for people to see.
AWAY_S = 60.0

_log = structlog.get_logger(__name__)


class Comparison:
    """One pass over the rows of a replay; with `write` the database holds them afterwards.

    `refused` knows the rows that the sink could not write: they are told apart, and left to `dlq redrive`. `bounds` are those
    of one transaction; `stopped` is asked while the database is away.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        refused: Refused,
        bounds: Bounds,
        stopped: Callable[[], bool],
        *,
        write: bool,
    ) -> None:
        self._store, self._journal, self._bounds, self._write = store, journal, bounds, write
        self._refused, self._stopped = refused, stopped
        self._standing = Standing()
        self._seen = {table: Seen(table, journal) for table in TABLES}
        self._made: Made | None = None
        self._task: asyncio.Task[dict[str, Compared]] | None = None

    async def take(self, made: Made) -> None:
        """Have the database look at these rows while the caller goes on."""
        await self.settle()
        self._made = made
        self._task = asyncio.create_task(self._patiently(lambda: self._store.compare(made.rows)))
        await asyncio.sleep(0)  # let it begin

    async def settle(self) -> None:
        """Wait until what was given is compared, and take in what was found."""
        made, task, self._made, self._task = self._made, self._task, None, None
        if made is None or task is None:
            return
        compared = await task
        tables: tuple[Columns, ...] = made.rows.tables()[: len(TABLES)]
        wrong = []
        for table, rows in zip(TABLES, tables, strict=True):
            found = compared[table]
            letters = await self._refused.of(rows, np.flatnonzero(found.missing))
            if len(rows):
                self._note(table, made, rows, found, letters)
            ours = found.wrong
            ours[list(letters)] = False
            wrong.append(ours)
        if self._write:
            await self._mend(made.rows, np.flatnonzero(np.concatenate(wrong)))

    def flush(self) -> None:
        """Bring all that is known into the journal; nothing may be under way."""
        for seen in self._seen.values():
            seen.flush()

    def _note(
        self, table: str, made: Made, rows: Columns, compared: Compared, letters: dict[int, str]
    ) -> None:
        """Count the rows, and keep each difference; `letters` are those of refused rows, by index."""
        there = compared.number > 0
        self._seen[table].add(compared.number[there])
        self._journal.count(table, "compared", len(rows))
        self._journal.count(table, "unregistered", int(compared.unknown.sum()))
        for index in np.flatnonzero(compared.wrong).tolist():
            columns = compared.differs.get(index, {})
            kind: Kind = (
                "different" if index in compared.differs else "refused" if index in letters else "missing"
            )
            lineage = made.lineage(rows, index)
            if index in letters:
                lineage["letter"] = letters[index]
            self._journal.add(
                Difference(table, kind, rows.sensor[index], given(rows, index), columns, lineage)
            )

    async def _mend(self, rows: Batch, at: NDArray[np.intp]) -> None:
        """Write what is missing or different, the rows at these indexes, and see that it is there."""
        for part in parts(rows, at, self._bounds):
            await self._overwrite(part)
            after = await self._patiently(lambda part=part: self._store.compare(part))  # type: ignore[misc]
            for table in TABLES:
                number = after[table].number
                self._seen[table].add(number[number > 0])
                self._journal.count(table, "written", int((number > 0).sum()))

    async def _overwrite(self, rows: Batch) -> None:
        """Write rows; one that the database refuses is told, and left out."""
        try:
            await self._patiently(lambda: self._store.overwrite(rows))
        except RowsRefused as error:
            if len(rows) == 1:
                tables: tuple[Columns, ...] = rows.tables()[: len(TABLES)]
                for table, refused in zip(TABLES, tables, strict=True):
                    self._journal.count(table, "unwritten", len(refused))
                _log.warning("the database refuses a row", reason=str(error))
                return
            middle = len(rows) // 2
            await self._overwrite(rows.take(np.arange(middle)))
            await self._overwrite(rows.take(np.arange(middle, len(rows))))

    async def extras(self, scopes: Sequence[Scope], only: Sequence[str] | None) -> None:
        """Find the database's rows that the replay does not give, and take them back where that is asked for."""
        for table in TABLES:
            found = await self._extras(table, scopes, only)
            self._journal.count(table, "extra", found.count - len(found.rows))
            for extra in found.rows:
                row, lineage = standing(extra)
                self._journal.add(Difference(table, "extra", extra.sensor, row, {}, lineage))
            while self._write and found.rows:
                numbers = [extra.number for extra in found.rows]
                taken = await self._patiently(lambda n=numbers, t=table: self._store.withdraw(t, n))  # type: ignore[misc]
                self._journal.count(table, "withdrawn", taken)
                if taken < len(numbers):  # the rest stays, and would be found again
                    break
                found = await self._extras(table, scopes, only)

    async def _extras(self, table: str, scopes: Sequence[Scope], only: Sequence[str] | None) -> Extras:
        has = self._seen[table].has
        return await self._patiently(lambda: self._store.extras(table, scopes, only, has, EXTRAS))

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call's result, tried again while the database is away, but not for ever."""
        return await self._standing.patiently(call, pause=self._pause, patience_s=AWAY_S)

    async def _pause(self, seconds: float) -> None:
        if self._stopped():
            raise Interrupted("interrupted; the same command goes on from the last save")
        await asyncio.sleep(seconds)
