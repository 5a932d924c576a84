"""The console's way to the database: few calls at once, each with a time limit; who cannot be served is told so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from streamproc.console.problems import unavailable
from streamproc.errors import StoreError, StoreUnavailable
from streamproc.monitor.standing import Standing
from streamproc.store.protocol import Store

#: A page is found by indexes within some milliseconds; a first login takes half a second. Who waits longer looks elsewhere.
ANSWER_S = 5.0
#: A page asks for three things as it opens; of more than 20 at the same moment, the last are told to come back.
WAITING = 64
#: Of these the database is asked so many at once: it has other work to do.
AT_ONCE = 4
#: An idle console asks so often whether the database is there.
PROBE_S = 3.0

Opened = Callable[[], AbstractAsyncContextManager[Store]]

_log = structlog.get_logger(__name__)


class Reading:
    """Gives the database for one call at a time; `opened` opens it or raises StoreError."""

    def __init__(self, opened: Opened, answer_s: float = ANSWER_S) -> None:
        self.standing = Standing()
        #: Calls that wait or are under way.
        self.waiting = 0
        self._opened, self._answer_s = opened, answer_s
        self._places = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The store, for a call or a few; raises the Problem if it cannot be used."""
        if self.waiting >= WAITING:
            raise unavailable("busy", f"{WAITING} requests are waiting for the database")
        self.waiting += 1
        try:
            async with self._asked() as store:
                yield store
        except StoreError as error:
            _log.warning("database cannot be asked", reason=str(error), sampled=True)
            detail = "the database cannot be asked now; the console's log has the reason"
            raise unavailable("database-unavailable", detail) from None
        finally:
            self.waiting -= 1

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[Store]:
        """The store in its turn. Whatever stands against it, the console has no database: StoreUnavailable."""
        with self.standing.asking():
            try:
                async with asyncio.timeout(self._answer_s), self._places, self._opened() as store:
                    yield store
            except TimeoutError:
                raise StoreUnavailable(f"no answer within {self._answer_s:g} s", "timeout") from None
            except StoreUnavailable:
                raise
            except StoreError as error:
                raise StoreUnavailable(str(error), "refused") from error

    async def probe(self) -> None:
        """Ask the database now and then if nobody else does, until cancelled, so that `/ready` is up to date."""
        while True:
            if not self.standing.fresh():
                try:
                    async with self._asked() as store:
                        await store.offsets("")
                except StoreError as error:
                    _log.warning("database cannot be asked", reason=str(error), sampled=True)
            await asyncio.sleep(PROBE_S)
