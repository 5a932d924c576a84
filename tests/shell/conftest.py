"""A gateway with a Kafka in memory, for all that ask one over HTTP, and a sink's writer on a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamproc.store.sqlite.store import SqliteStore
from tests.shell.served import Client, MemoryPublisher, serving
from tests.shell.sink_bench import Bench


@pytest.fixture
def publisher() -> MemoryPublisher:
    """Give a Kafka in memory."""
    return MemoryPublisher()


@pytest.fixture
async def client(publisher: MemoryPublisher) -> AsyncIterator[Client]:
    """Give a client of a gateway with small limits."""
    async for each in serving(publisher):
        yield each


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A fresh file that registers what it does not know."""
    store = SqliteStore(tmp_path / "s.db", auto_register=True, busy_ms=10)
    await store.open()
    yield Bench(tmp_path / "s.db", store)
    await store.close()
