"""Runs a service or a measurement until the process is asked to end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import typer

from streamproc.process import CUT_SHORT


async def until_signal(service: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `service` with an event that SIGINT or SIGTERM sets; it returns once it has stopped."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await service(stop)


def serve_to_the_end(service: Callable[[asyncio.Event], Awaitable[bool]]) -> None:
    """Run a service that tells whether all of it has ended; else the process ends at once, with code 3."""

    async def served(stop: asyncio.Event) -> None:
        if not await service(stop):
            sys.stderr.flush()
            os._exit(CUT_SHORT)  # what does not hear of the end, a thread or a task, would be waited for

    asyncio.run(until_signal(served))


def measured(work: Coroutine[Any, Any, None]) -> None:
    """Run a measurement; SIGTERM ends it as Ctrl-C does, and what it has started and made goes with it; once more kills."""

    async def run() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def end() -> None:
            loop.remove_signal_handler(signal.SIGTERM)
            task.cancel()

        loop.add_signal_handler(signal.SIGTERM, end)
        await work

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
