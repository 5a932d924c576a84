"""Event loops that let TLS end before they do."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
#: How long a server may take to answer a farewell, on a machine with others' work; what was never closed is found afterwards.
_FAREWELL_S = 10.0
_LOOK_S = 0.01


class PatientLoop(asyncio.SelectorEventLoop):
    """On closing, waits for connections that still take leave.

    To close TLS is to wait for the other side's farewell, and clients that close at the end of their work do not. A loop that
    ends before it came leaves a socket open, which the collector finds in whichever test runs by then.
    """

    def close(self) -> None:
        """Wait for all connections to end, for a while, and close."""
        if not self.is_closed() and not self.is_running():
            self.run_until_complete(self._parted())
        super().close()

    async def _parted(self) -> None:
        until = self.time() + _FAREWELL_S
        while self._connected() and self.time() < until:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(0)  # those that have just begun to close have done so

    def _connected(self) -> bool:
        """Whether anything is connected: asyncio has no public word for what."""
        transports = list(self._transports.values())  # type: ignore[attr-defined]
        return not all(transport.is_closing() for transport in transports)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Do the work in a loop of its own, as asyncio.run does."""
    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        return runner.run(work)
