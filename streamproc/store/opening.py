"""The database for a stage that asks it now and then: opened when first needed, never migrated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from streamproc.store import connect

if TYPE_CHECKING:
    from streamproc.settings import Settings
    from streamproc.store.protocol import Store

#: The gateway as a whole ends within 3 s, of which what is under way to Kafka has most.
_STOP_SECONDS = 0.3


class Database:
    """The database that the settings name; `process` is the name by which a server knows the connections."""

    def __init__(self, settings: Settings, process: str) -> None:
        self._settings, self._process = settings, process
        self._opening: asyncio.Task[Store] | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        """The store, open; its schema is left as it is. Raises StoreError."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="database")
            self._opening.add_done_callback(self._settle)
        # A login may take longer than who asks wants to wait; it goes on for who asks next.
        yield await asyncio.shield(self._opening)

    def _settle(self, opening: asyncio.Task[Store]) -> None:
        """Forget a failed try, so that the next caller tries again."""
        if opening.cancelled() or opening.exception() is not None:
            self._opening = None

    async def _open(self) -> Store:
        store = connect(self._settings, process=self._process, migrates=False)
        try:
            await store.open()
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self, _app: object = None) -> None:
        """Close it; what does not close soon ends with the process."""
        opening = self._opening
        if opening is None:
            return
        if not opening.done():
            opening.cancel()
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await opening.result().close()
