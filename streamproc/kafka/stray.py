"""Cancellations that nobody asked for.

aiokafka ends requests that wait for an answer by cancelling them when their connection is closed, and stops a consumer with
the cancellation of a fetch of its own. To whoever awaits it that looks as if his own task was to end: he does, without a
word, and what he was doing is never done.
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
