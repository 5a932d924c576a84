"""A few connections that stay open: a login costs half a second, a batch a few hundredths of one.

Each connection has a thread of its own, in which all its calls run one after another. So if a task is cancelled, its
connection is closed after the call under way, not during it. aioodbc's own pool cannot do that: its connections share
threads; it hands out connections that the server has closed, or that are in the middle of a transaction; and it holds its
lock during a login, so that whoever returns a connection waits for another's login.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from streamproc.errors import StoreError, StoreUnavailable
from streamproc.store.sqlserver import driver, faults

#: The driver's own default. A login takes half a second; a server that is busy, or far away, needs more.
LOGIN_S = 15
#: A batch of 20,000 rows takes one or two seconds; a statement that takes so long is stuck. The driver takes 4 s more to
#: give it up.
QUERY_S = 30
#: What was given up is tried again with twice the time, and so on, so that a server that is slow is not asked the same for
#: ever; longer than this none waits that does not answer at all.
LONGEST_S = 240
#: How long a statement waits for another transaction's lock before the caller is told, as in SQLite.
LOCK_MS = 1_000
#: Those of a sink: one that writes, one that is asked how the database stands, one for edits of the registry.
SIZE = 3
#: Firewalls forget idle connections after some minutes, a server that was restarted at once: whatever was idle for so long
#: is asked whether it is still there.
IDLE_S = 1.0

#: With XACT_ABORT any error undoes the whole transaction, not just its statement; without counts, errors cannot hide behind
#: them. The isolation is the one that SQL Server has by itself: what runs beside the sink is used to it. Of two that block
#: each other the one with the lower priority is undone: streamproc tries again, other programs (0) need not, and who deletes
#: old rows (LOW, which is -5) can wait.
_SESSION = (
    "SET XACT_ABORT ON; SET NOCOUNT ON; SET LOCK_TIMEOUT {}; SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"
    " SET DEADLOCK_PRIORITY -2;"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a login, a statement and a wait for a lock may take, how many connections there are, and how long unasked."""

    login_s: int = LOGIN_S
    query_s: int = QUERY_S
    lock_ms: int = LOCK_MS
    size: int = SIZE
    idle_s: float = IDLE_S


@dataclass(eq=False, slots=True)
class Link:
    """A connection and the thread that its calls run in."""

    connection: Any  # aioodbc.Connection, which has no types
    thread: ThreadPoolExecutor
    used: float = field(default_factory=monotonic)

    async def close(self) -> None:
        """Let go of both; an open transaction is rolled back."""
        try:
            with suppress(driver.pyodbc().Error):  # the connection may be the reason why it is closed
                await self.connection.close()
        finally:
            # Where that failed, aioodbc takes it for open, and would complain of it later, in whichever task runs then.
            self.connection._conn = None  # noqa: SLF001
            self.thread.shutdown(wait=False)


async def connect(text: str, place: str, limits: Limits, *, autocommit: bool = False) -> Link:
    """Log in with the connection string `text`; raises StoreUnavailable or StoreError, which call the database `place`."""
    pyodbc = driver.pyodbc()
    import aioodbc  # noqa: PLC0415  # it imports pyodbc, whose absence has been told in our own words by now

    thread = ThreadPoolExecutor(1, thread_name_prefix="sqlserver")

    async def limit(raw: Any) -> None:
        # Commits and rollbacks are bounded by it as well. No call to the server.
        raw.timeout = limits.query_s

    try:
        connection = await aioodbc.connect(
            dsn=text, timeout=limits.login_s, autocommit=autocommit, executor=thread, after_created=limit
        )
        link = Link(connection, thread)
    except BaseException as error:
        thread.shutdown(wait=False)
        if isinstance(error, pyodbc.Error):
            raise _unopened(faults.translated(error, place)) from None  # its trace holds the password
        raise
    try:
        await (await connection.execute(_SESSION.format(limits.lock_ms))).close()
        if not autocommit:
            await connection.commit()
    except BaseException as error:
        await link.close()
        if isinstance(error, pyodbc.Error):
            raise _unopened(faults.translated(error, place)) from error
        raise
    return link


def _unopened(error: StoreError) -> StoreError:
    """A login that timed out or was cut off is the same to people: the database cannot be opened."""
    if isinstance(error, StoreUnavailable) and error.code in ("timeout", "connection_lost"):
        return StoreUnavailable(str(error), "cannot_open")
    return error


class Connections:
    """Connections to one database, opened as they are needed; after a fault of one, another is opened."""

    def __init__(self, text: str, place: str, limits: Limits | None = None) -> None:
        self._text, self._place, self._limits = text, place, limits or Limits()
        self._query_s = self._limits.query_s
        self._free: list[Link] = []
        self._slots = asyncio.Semaphore(self._limits.size)
        self._ending: set[asyncio.Task[None]] = set()
        self._alone = asyncio.Lock()
        self._autocommitting: Link | None = None
        self._closed = False

    async def open(self) -> None:
        """Log in once, so that a wrong setting is told at the start."""
        async with self._slots:
            self._free.append(await self._taken())

    async def close(self) -> None:
        """Close them all; what is under way ends first, or when its time is up."""
        self._closed = True
        for _ in range(self._limits.size):
            await self._slots.acquire()
        await self._close_idle()
        async with self._alone:
            if self._autocommitting is not None:
                await self._autocommitting.close()
        await asyncio.gather(*self._ending)
        for _ in range(self._limits.size):
            self._slots.release()  # whoever still waits for one is told

    @asynccontextmanager
    async def transaction(self, *, commits: bool = True) -> AsyncIterator[Any]:
        """An aioodbc connection in a transaction, committed at the end or, unless it `commits` or if it raises, undone.

        Errors of the database come out as StoreUnavailable, RowsRefused or StoreError. If the connection is lost in the
        commit itself, nobody knows whether it was done: it is StoreUnavailable, and who tries again has to look.

        Give each cursor back by its `close`. `async with connection.cursor()` would commit at its end.
        """
        await self._slots.acquire()
        link: Link | None = None
        try:
            link = await self._taken()
            yield link.connection
            await (link.connection.commit() if commits else link.connection.rollback())
            self._query_s = self._limits.query_s
        except asyncio.CancelledError:
            # A call may still be under way in its thread.
            self._throw_away(link)
            raise
        except BaseException as error:
            await self._undo(link, error)
            if isinstance(error, driver.pyodbc().Error):
                told = faults.translated(error, self._place)
                self._allow_for(told)
                raise told from error
            raise
        else:
            self._give_back(link)

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[Any]:
        """An aioodbc connection on which each statement commits by itself: one for all, taken in turns.

        Errors come out as those of `transaction`; what the statements before had done, stays.
        """
        async with self._alone:
            link = await self._autocommitted()
            try:
                yield link.connection
            except BaseException as error:
                self._bury(link)
                if isinstance(error, driver.pyodbc().Error):
                    told = faults.translated(error, self._place)
                    self._allow_for(told)
                    raise told from error
                raise
            link.used = monotonic()
            self._autocommitting = link

    async def _autocommitted(self) -> Link:
        if self._closed:
            raise StoreUnavailable(f"{self._place} was closed", "closed")
        link, self._autocommitting = self._autocommitting, None
        if link is not None and (monotonic() - link.used < self._limits.idle_s or await self._answers(link)):
            return link
        limits = replace(self._limits, query_s=self._query_s)
        return await connect(self._text, self._place, limits, autocommit=True)

    def _allow_for(self, error: StoreError) -> None:
        """Give the connections to come more time, where one has had too little."""
        if isinstance(error, StoreUnavailable) and error.code == "timeout":
            self._query_s = max(self._query_s, min(2 * self._query_s, LONGEST_S))

    async def _taken(self) -> Link:
        if self._closed:
            raise StoreUnavailable(f"{self._place} was closed", "closed")
        while self._free:
            link = self._free.pop()
            if monotonic() - link.used < self._limits.idle_s or await self._answers(link):
                return link
        return await connect(self._text, self._place, replace(self._limits, query_s=self._query_s))

    async def _close_idle(self) -> None:
        while self._free:
            await self._free.pop().close()

    async def _answers(self, link: Link) -> bool:
        """Whether a connection is still there; it is closed if not, and so are the other idle ones, which are older."""
        try:
            await (await link.connection.execute("SELECT 1")).close()
            await link.connection.rollback()
        except driver.pyodbc().Error:
            await link.close()
            await self._close_idle()
            return False
        except BaseException:
            self._bury(link)
            raise
        return True

    async def _undo(self, link: Link | None, error: BaseException) -> None:
        """Roll back; the connection goes if the error was its own, or if it cannot even do that."""
        # aioodbc closes some by itself.
        lost = isinstance(error, driver.pyodbc().Error) and faults.breaks(error)
        if link is None or lost or link.connection.closed:
            self._throw_away(link)
            # What took this one has taken those that were idle beside it.
            while self._free:
                self._bury(self._free.pop())
            return
        try:
            await link.connection.rollback()
        except driver.pyodbc().Error:
            # Also where the server has no transaction (any more): it and the driver are not at one.
            self._throw_away(link)
        except BaseException:
            self._throw_away(link)
            raise
        else:
            self._give_back(link)

    def _give_back(self, link: Link) -> None:
        link.used = monotonic()
        self._free.append(link)
        self._slots.release()

    def _throw_away(self, link: Link | None) -> None:
        """Close a connection without waiting for it; its place is free when it is closed."""
        if link is None:
            self._slots.release()
        else:
            self._bury(link).add_done_callback(lambda _: self._slots.release())

    def _bury(self, link: Link) -> asyncio.Task[None]:
        task = asyncio.create_task(link.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task
