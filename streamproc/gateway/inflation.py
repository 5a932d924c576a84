"""Inflates large bodies in a thread, so that the event loop goes on."""

from __future__ import annotations

import asyncio

from streamproc.gateway.bodies import Encoding, inflate
from streamproc.gateway.problems import Problem

#: What is inflated at once: a third of a millisecond, about what a thread costs. 4 MiB would hold all others up for 10 ms.
AT_ONCE_BYTES = 131_072
#: A compressed body that is larger comes to more than that: packets shrink to a sixth.
_LARGE_BYTES = 32_768
#: At once in threads: what they make is counted when it is whole, so this bounds what is not counted yet. Two keep a core
#: busy beside the loop's own.
_THREADS = 2


class Inflation:
    """Inflates bodies to so many bytes; large ones in a thread, so that nobody waits for another's."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._places = asyncio.Semaphore(_THREADS)

    async def inflate(self, body: bytes, encoding: Encoding) -> bytes:
        """Inflate the body; raises the Problem of one that is too large, or not what its encoding says."""
        if len(body) <= _LARGE_BYTES:
            try:
                return inflate(body, encoding, min(AT_ONCE_BYTES, self._limit_bytes))
            except Problem as problem:
                if problem.kind != "too-large" or self._limit_bytes <= AT_ONCE_BYTES:
                    raise
        async with self._places:
            return await asyncio.to_thread(inflate, body, encoding, self._limit_bytes)
