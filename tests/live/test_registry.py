"""The registry over real Kafka: from the database to every process that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete
from aiokafka.errors import TopicAlreadyExistsError
from msgspec.structs import replace

from streamproc.errors import KafkaUnavailable
from streamproc.kafka import clients
from streamproc.kafka.broker import Broker, Installation
from streamproc.records import Range, SensorEntry
from streamproc.registry import Registry, put
from streamproc.settings.connection import Connection
from streamproc.store.sqlite.store import SqliteStore
from tests.live.conftest import delete_topics
from tests.live.processes import eventually

#: Longest that a test waits for what it expects; mostly it comes within a second.
TIMEOUT_S = 120


class Seen:
    """What a view was told, and a way to wait for it."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, SensorEntry | None]] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, sensor: str, entry: SensorEntry | None) -> None:
        """Take a change down."""
        self.changes.append((sensor, entry))
        task = asyncio.get_running_loop().create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait_for(self, count: int) -> None:
        """Wait until there were so many changes."""
        async with asyncio.timeout(TIMEOUT_S), self._changed:
            await self._changed.wait_for(lambda: len(self.changes) >= count)


async def create(bootstrap: Connection, topic: str, cleanup: str = "compact") -> None:
    """Make a topic, compacted as topics.yaml has it."""
    admin = clients.admin(bootstrap)
    await admin.start()
    try:
        configs = {"cleanup.policy": cleanup}
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs)])
    finally:
        await admin.close()


@pytest.fixture
async def producer(bootstrap: Connection) -> AsyncIterator[AIOKafkaProducer]:
    """One that waits for all replicas."""
    started = clients.producer(bootstrap, acks="all")
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A database without sensors."""
    opened = SqliteStore(tmp_path / "s.db")
    yield opened
    await opened.close()


async def test_an_edit_reaches_those_who_follow(
    bootstrap: Connection, topic_prefix: str, store: SqliteStore, producer: AIOKafkaProducer
) -> None:
    """What was there before the start is there after it; what comes later, comes; what goes, goes."""
    topic = f"{topic_prefix}registry"
    await create(bootstrap, topic)
    first = [SensorEntry("a", sensor_id=1), SensorEntry("b", sensor_id=2, critical=Range(high=5.0))]
    await put(store, producer, first, topic)
    seen = Seen()
    view = await asyncio.wait_for(Registry(bootstrap, topic, seen).start(), TIMEOUT_S)
    assert view.entries == {"a": first[0], "b": first[1]}
    assert view.age_seconds() < TIMEOUT_S

    (edited,) = await put(store, producer, [replace(first[0], unit="V")], topic)
    await put(store, producer, [first[1]], topic)  # unchanged: nobody is told
    await producer.send_and_wait(topic, key=b"wrong", value=b"{")  # not an entry: passed over
    await producer.send_and_wait(topic, key=b"b", value=None)
    await seen.wait_for(4)
    assert edited.version == 2
    assert seen.changes == [("a", first[0]), ("b", first[1]), ("a", edited), ("b", None)]
    assert view.entries == {"a": edited}
    await view.stop()


async def test_positions_are_waited_for(
    bootstrap: Connection, topic_prefix: str, store: SqliteStore, producer: AIOKafkaProducer
) -> None:
    """One that is there is reached, one beyond the end is not; what is no entry has a position as well."""
    topic = f"{topic_prefix}registry"
    await create(bootstrap, topic)
    view = await asyncio.wait_for(Registry(bootstrap, topic).start(), TIMEOUT_S)
    assert await asyncio.wait_for(view.reached(0), TIMEOUT_S)
    assert not await asyncio.wait_for(view.reached(1), TIMEOUT_S)
    for _ in range(3):
        await put(store, producer, [SensorEntry("a"), SensorEntry("b")], topic)
        await producer.send_and_wait(topic, key=b"wrong", value=b"{")
        await asyncio.wait_for(view.caught_up(), TIMEOUT_S)
        assert view.log.as_of(view.log.position) == view.entries
    assert view.log.position == 9
    assert await asyncio.wait_for(view.reached(9), TIMEOUT_S)
    assert not await asyncio.wait_for(view.reached(10), TIMEOUT_S)
    await view.stop()
    with pytest.raises(KafkaUnavailable):
        await view.reached(10)


async def test_a_topic_made_anew_is_read_anew(
    bootstrap: Connection, topic_prefix: str, store: SqliteStore, producer: AIOKafkaProducer
) -> None:
    """Its positions begin again: a log that went on with the old ones would have edits at places that are not theirs."""
    topic = f"{topic_prefix}registry"
    await create(bootstrap, topic)
    seen = Seen()
    await put(store, producer, [SensorEntry("a"), SensorEntry("b"), SensorEntry("c")], topic)
    view = await asyncio.wait_for(Registry(bootstrap, topic, seen).start(), TIMEOUT_S)
    assert view.log.position == 3
    await delete_topics(bootstrap, topic)

    async def made() -> bool:
        try:
            await create(bootstrap, topic)
        except TopicAlreadyExistsError:  # its deletion takes a moment
            return False
        return True

    await eventually(made)
    (kept,) = await put(store, producer, [SensorEntry("d")], topic)
    await seen.wait_for(3 + 4)
    assert view.entries == {"d": kept}
    assert view.log.position == 1
    await view.stop()


async def test_it_waits_for_its_topic(
    bootstrap: Connection, topic_prefix: str, store: SqliteStore, producer: AIOKafkaProducer
) -> None:
    """A view started before the topic exists does not make it, and begins once it is there."""
    topic = f"{topic_prefix}registry"
    view = Registry(bootstrap, topic)
    starting = asyncio.create_task(view.start())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(starting), 1)
    await create(bootstrap, topic)  # fails if it exists
    (entry,) = await put(store, producer, [SensorEntry("a")], topic)
    await asyncio.wait_for(starting, TIMEOUT_S)
    assert view.entries in ({}, {"a": entry})  # the topic may have been read before the entry came
    await view.stop()


async def test_a_start_can_be_given_up(bootstrap: Connection, topic_prefix: str) -> None:
    """Cancelled while it waits, it leaves no task behind."""
    starting = asyncio.create_task(Registry(bootstrap, f"{topic_prefix}none").start())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(starting, 0.5)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "registry"]


async def test_a_callback_that_fails_is_told(
    bootstrap: Connection, topic_prefix: str, store: SqliteStore, producer: AIOKafkaProducer
) -> None:
    """Whoever starts the view learns of it, in place of a view that stands still."""
    topic = f"{topic_prefix}registry"
    await create(bootstrap, topic)
    await put(store, producer, [SensorEntry("a")], topic)

    def fail(sensor: str, _: SensorEntry | None) -> None:
        raise ZeroDivisionError(sensor)

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(Registry(bootstrap, topic, fail).start(), TIMEOUT_S)


async def test_what_is_gone_when_it_reads_again_goes(
    bootstrap: Connection, topic_prefix: str, store: SqliteStore, producer: AIOKafkaProducer
) -> None:
    """A view that was cut off may miss that an entry was taken away; reading from the start tells it."""
    topic = f"{topic_prefix}registry"
    await create(bootstrap, topic, cleanup="delete")
    await put(store, producer, [SensorEntry("a")], topic)
    seen = Seen()
    view = await asyncio.wait_for(Registry(bootstrap, topic, seen).start(), TIMEOUT_S)
    await view.stop()
    (kept,) = await put(store, producer, [SensorEntry("b")], topic)
    await forget_first(bootstrap, topic)
    await asyncio.wait_for(view.start(), TIMEOUT_S)
    assert view.entries == {"b": kept}
    assert ("a", None) in seen.changes
    await view.stop()


async def forget_first(bootstrap: Connection, topic: str) -> None:
    """Delete the topic's first record, as compaction does in its time."""
    admin = clients.admin(bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=1)})
    finally:
        await admin.close()


async def test_it_outlives_its_broker(installation: Installation, tmp_path: Path, store: SqliteStore) -> None:
    """While the broker is away the entries stay; when it is back, edits come again."""
    broker = await Broker.start(installation, tmp_path / "kafka")
    seen = Seen()
    await create(broker.connection, "registry")
    (first,) = await _put(broker, store, SensorEntry("a"))
    view = await Registry(broker.connection, "registry", seen).start()
    port = int(broker.bootstrap.rpartition(":")[2])
    await broker.stop()
    assert view.entries == {"a": first}
    broker = await Broker.start(installation, tmp_path / "kafka", port=port)
    (second,) = await _put(broker, store, SensorEntry("a", unit="V"))
    await seen.wait_for(2)
    assert view.entries == {"a": second}
    await view.stop()
    await broker.stop()


async def _put(broker: Broker, store: SqliteStore, entry: SensorEntry) -> list[SensorEntry]:
    """Put an entry by a producer of its own, for the broker comes and goes."""
    producer = clients.producer(broker.connection, acks="all")
    await producer.start()
    saved = await put(store, producer, [entry])
    await producer.stop()
    return saved
