"""Runs a service until the process is asked to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable


async def until_signal(service: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `service` with an event that SIGINT or SIGTERM sets; it returns once it has stopped."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await service(stop)
