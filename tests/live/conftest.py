"""What the live tests share: one real broker for the session, and topics of its own for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from streamproc import settings
from streamproc.kafka import clients
from streamproc.kafka.broker import Broker, Installation, install
from streamproc.settings.connection import Connection
from streamproc.topics import apply, load, plan, prefixed
from tests.live.databases import Disturbed, made
from tests.live.feed import producing
from tests.live.jvm import launched_with, quick_options
from tests.live.oracle import OUTPUTS, Reader, reading
from tests.live.processes import Site, running
from tests.store.tsql import on_a_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything beside this file is `live`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """Kafka and its JRE, downloaded where missing and made to start quickly; the progress is seen at once."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def progress(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(line, flush=True)  # noqa: T201  # a minute's silence looks like a fault

    installation = asyncio.run(install(progress))
    with launched_with(asyncio.run(quick_options(installation, progress))):
        yield installation


@pytest.fixture(scope="session")
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker | None]:
    """The session's own broker; None where KAFKA_BOOTSTRAP names another. Tests must leave it running."""
    if settings.load().kafka_bootstrap:
        yield None
        return
    installation: Installation = request.getfixturevalue("installation")
    broker = asyncio.run(Broker.start(installation, tmp_path_factory.mktemp("kafka")))
    yield broker
    asyncio.run(broker.stop())


@pytest.fixture(scope="session")
def bootstrap(broker: Broker | None) -> Connection:
    """How to reach the broker that the tests use."""
    return broker.connection if broker else settings.load().kafka


@pytest.fixture
def topic_prefix() -> str:
    """Before every topic's and group's name, so that no test meets another's."""
    return f"test-{uuid4().hex[:8]}-"


@pytest.fixture
async def topics(bootstrap: Connection, topic_prefix: str) -> AsyncIterator[str]:
    """The topics of topics.yaml under the test's prefix, which it gives; gone after the test."""
    specs = prefixed(load(), topic_prefix)
    await apply(bootstrap, await plan(bootstrap, specs))
    yield topic_prefix
    await delete_topics(bootstrap, topic_prefix)


async def delete_topics(bootstrap: Connection, prefix: str) -> None:
    """Delete every topic whose name begins with `prefix`."""
    admin = clients.admin(bootstrap)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith(prefix)]
        if names:
            await admin.delete_topics(names)
    finally:
        await admin.close()


@pytest.fixture
async def site(bootstrap: Connection, topics: str, tmp_path: Path) -> AsyncIterator[Site]:
    """Processes on this test's own topics, with a database of their own."""
    async with running(bootstrap, topics, tmp_path) as site:
        yield site


@pytest.fixture(params=["sqlite", pytest.param("sqlserver", marks=on_a_server)])
async def held(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Disturbed]:
    """A database of each kind, for tests of sinks that must do the same with all."""
    async with made(request.param, tmp_path) as database:
        yield database


@pytest.fixture
async def producer(bootstrap: Connection) -> AsyncIterator[AIOKafkaProducer]:
    """A direct producer."""
    async with producing(bootstrap) as producer:
        yield producer


@pytest.fixture
async def reader(site: Site) -> AsyncIterator[Reader]:
    """Reads what the engine reads, and all that it makes."""
    async with reading(site.bootstrap, site.prefix, "readings", "registry", *OUTPUTS) as reader:
        yield reader
