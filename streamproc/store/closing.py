"""Closes a store within a short time, for processes that are about to end."""

from __future__ import annotations

import asyncio
from typing import Protocol

#: A call of the database that was given up may still be under way in its thread.
CLOSE_S = 0.5


class Closable(Protocol):
    """Something that can be closed, which waits for calls under way."""

    async def close(self) -> None:
        """Close it."""


async def closed_in_time(store: Closable, seconds: float = CLOSE_S) -> bool:
    """Close the database in time; returns whether it did. The last to close a SQLite file writes its log into it."""
    try:
        async with asyncio.timeout(seconds):
            await store.close()
    except TimeoutError:
        return False
    return True
