"""A gateway with a Kafka in memory, for all that ask one over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.shell.test_gateway import Client, MemoryPublisher, serving


@pytest.fixture
def publisher() -> MemoryPublisher:
    """Give a Kafka in memory."""
    return MemoryPublisher()


@pytest.fixture
async def client(publisher: MemoryPublisher) -> AsyncIterator[Client]:
    """Give a client of a gateway with small limits."""
    async for each in serving(publisher):
        yield each
