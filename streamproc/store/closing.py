"""Closes a store within a short time, for processes that are about to end."""

from __future__ import annotations

import asyncio
from typing import Protocol

#: A call of the database that was given up may still be under way in its thread.
CLOSE_S = 0.5


class Closable(Protocol):
    """What is let go of by waiting for what is under way."""

    async def close(self) -> None:
        """Let go of it."""


async def closed_in_time(store: Closable, seconds: float = CLOSE_S) -> bool:
    """Let go of the database; whether it has let go of us. Who closes a SQLite file last writes its log into it."""
    try:
        async with asyncio.timeout(seconds):
            await store.close()
    except TimeoutError:
        return False
    return True
