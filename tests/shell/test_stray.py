"""Cancellations that nobody asked for."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError

from streamproc.kafka.stray import told_apart


async def _ask(answer: asyncio.Future[None]) -> None:
    with told_apart():
        await answer


async def test_a_request_that_was_cancelled_is_a_fault_of_the_client() -> None:
    """What waits for it goes on, and is told."""
    answer = asyncio.get_running_loop().create_future()
    answer.cancel()
    with pytest.raises(KafkaConnectionError, match="ended amid a request"):
        await _ask(answer)


async def test_a_task_that_is_to_end_ends() -> None:
    """By its own cancellation, and by that of a time limit."""
    task = asyncio.create_task(_ask(asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await _ask(asyncio.get_running_loop().create_future())
