"""Cancellations that nobody asked for.

When a connection closes, aiokafka cancels the requests that wait for an answer on it, and it stops a consumer by cancelling a
fetch. To the task that awaits them this looks like its own cancellation: it would end silently, with its work undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import KafkaConnectionError


@contextmanager
def told_apart() -> Iterator[None]:
    """Raise KafkaConnectionError for a cancellation that is not this task's own."""
    try:
        yield
    except asyncio.CancelledError as error:
        if is_asked_to_end():
            raise
        raise KafkaConnectionError("the client of Kafka ended amid a request") from error


def is_asked_to_end() -> bool:
    """Whether somebody has cancelled the task that runs."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
