"""The chunked transport against a real broker, and the faults of Faust that it steps around."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from threading import get_ident
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from faust.transport.consumer import Consumer
from faust.types import TP
from faust.windows import TumblingWindow
from intervaltree import IntervalTree  # type: ignore[import-untyped]  # it ships no types

from streamproc.core.chunk import Chunk
from streamproc.kafka import clients
from streamproc.kafka.columns import CHUNK_RECORDS, gather
from streamproc.kafka.transport import ChunkedApp
from streamproc.settings.connection import Connection
from streamproc.topics import apply, load, plan, prefixed
from tests.live.conftest import delete_topics
from tests.live.feed import producing
from tests.live.oracle import PARTITIONS, committed
from tests.live.processes import SOON_S, Site, eventually
from tests.slowness import in_time


class Tap:
    """An app of one agent that keeps the chunks it gets, and can be told to wait with some of them."""

    def __init__(
        self, bootstrap: Connection, topic: str, group: str, starts: Mapping[int, int] | None = None
    ) -> None:
        self.topic, self.starts = topic, starts
        self.chunks: dict[int, list[Chunk]] = defaultdict(list)
        self.held: dict[int, asyncio.Event] = {}
        self.holding = asyncio.Event()
        self._came = asyncio.Condition()
        self.app = ChunkedApp(group, bootstrap, self.positions)

        async def agent(stream: Any) -> None:
            async for event in stream.noack().events():
                await self.take(event.message.value)

        self.app.agent(self.app.topic(topic, key_serializer="raw", value_serializer="raw"))(agent)

    async def positions(self, assigned: frozenset[TP]) -> dict[TP, int]:
        """What `starts` says; nothing of other partitions."""
        return {
            tp: self.starts[tp.partition] for tp in assigned if self.starts and tp.partition in self.starts
        }

    async def take(self, chunk: Chunk) -> None:
        """Keep a chunk, once it is let go where its partition is held."""
        if chunk.partition in self.held:
            self.holding.set()
            await self.held[chunk.partition].wait()
        async with self._came:
            self.chunks[chunk.partition].append(chunk)
            self._came.notify_all()

    async def more(self) -> None:
        """Wait for a further chunk, or a second."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1), self._came:
                await self._came.wait()

    def offsets(self, partition: int) -> list[int]:
        """The offsets that came of a partition."""
        return [int(offset) for chunk in self.chunks[partition] for offset in chunk.offsets]

    async def until(self, count: int, partition: int = 0) -> None:
        """Wait until so many records of a partition have come."""
        async with asyncio.timeout(SOON_S), self._came:
            await self._came.wait_for(lambda: len(self.offsets(partition)) >= count)


@asynccontextmanager
async def tapping(tap: Tap) -> AsyncIterator[Tap]:
    """The app, running in this process."""
    await asyncio.wait_for(tap.app.start(), SOON_S)
    try:
        yield tap
    finally:
        await asyncio.wait_for(tap.app.stop(), SOON_S)
        assert tap.app.crash_reason is None


async def put(producer: AIOKafkaProducer, topic: str, records: int, partition: int = 0) -> None:
    """Send so many records, and wait until Kafka has them."""
    for number in range(records):
        await producer.send(topic, b"%d" % number, partition=partition)
    await producer.flush()


async def test_records_come_in_chunks(bootstrap: Connection, topics: str, producer: AIOKafkaProducer) -> None:
    """In order, with offsets, timestamps, headers and null values, by aiokafka's own objects or without them."""
    topic = f"{topics}windows"
    for number in range(100):
        value = None if number == 7 else b"%d" % number
        headers = [("a", b"1"), ("b", b"")] if number == 9 else None
        await producer.send(topic, value, b"key", partition=0, headers=headers, timestamp_ms=1_000 + number)
    await producer.flush()
    async with tapping(Tap(bootstrap, topic, f"{topics}g")) as tap:
        await tap.until(100)
    chunks = tap.chunks[0]
    assert all(len(chunk) == len(chunk.offsets) == len(chunk.timestamps) for chunk in chunks)
    records = [
        (chunk.offsets[i], chunk.timestamps[i], chunk.values[i], chunk.headers.get(i))
        for chunk in chunks
        for i in range(len(chunk))
    ]
    assert records == [
        (
            number,
            1_000 + number,
            None if number == 7 else b"%d" % number,
            (("a", b"1"), ("b", b"")) if number == 9 else None,
        )
        for number in range(100)
    ]
    alike = gather(TP(topic, 0), await fetched(bootstrap, TopicPartition(topic, 0), 100))
    assert [tuple(map(int, pair)) for pair in zip(alike.offsets, alike.timestamps, strict=True)] == [
        record[:2] for record in records
    ]
    assert list(alike.values) == [record[2] for record in records]
    assert alike.headers == {9: (("a", b"1"), ("b", b""))}


async def fetched(bootstrap: Connection, place: TopicPartition, count: int) -> list[Any]:
    """As many of the partition's records as aiokafka hands them out."""
    consumer = clients.consumer(bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([place])
        return [await asyncio.wait_for(consumer.getone(), SOON_S) for _ in range(count)]
    finally:
        await consumer.stop()


async def test_chunks_are_bounded(bootstrap: Connection, topics: str, producer: AIOKafkaProducer) -> None:
    """However much waits, one ends with the batch in which it reaches CHUNK_RECORDS; several records are still one."""
    topic = f"{topics}windows"
    await put(producer, topic, CHUNK_RECORDS + 5_000)
    async with tapping(Tap(bootstrap, topic, f"{topics}g")) as tap:
        await tap.until(CHUNK_RECORDS + 5_000)
    sizes = [len(chunk) for chunk in tap.chunks[0]]
    assert max(sizes) < CHUNK_RECORDS + 5_000
    assert 1 < len(sizes) < 200
    assert tap.offsets(0) == list(range(CHUNK_RECORDS + 5_000))


async def test_only_marks_are_committed(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """Nothing by itself, and never past a chunk that is being worked on, whatever other partitions have done."""
    topic, group = f"{topics}windows", f"{topics}g"
    tap = Tap(bootstrap, topic, group)
    tap.held[0] = asyncio.Event()
    async with tapping(tap):
        await put(producer, topic, 10, 1)
        await tap.until(10, partition=1)
        await put(producer, topic, 10, 0)
        await tap.holding.wait()
        await put(producer, topic, 10, 0)
        await tap.app.consumer.commit()
        assert await committed(bootstrap, group, topic) == {}
        tap.app.mark(TP(topic, 1), 6, "state at 42")
        await tap.app.consumer.commit()
        assert await committed(bootstrap, group, topic) == {1: (6, "state at 42")}
        tap.held[0].set()
        await tap.until(20)
        await tap.app.consumer.commit()
        assert await committed(bootstrap, group, topic) == {1: (6, "state at 42")}


async def test_reading_starts_at_the_positions(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """Where nothing is committed and where something is, at the start and after each rebalance; old marks are gone."""
    topic, group = f"{topics}windows", f"{topics}g"
    for partition in range(PARTITIONS):
        await put(producer, topic, 10, partition)
    starts = {0: 5, 1: 9, 2: 10, 3: 0}
    async with tapping(Tap(bootstrap, topic, group, starts)) as tap:
        for partition, start in starts.items():
            await tap.until(10 - start, partition)
            assert tap.offsets(partition) == list(range(start, 10))
            tap.app.mark(TP(topic, partition), 10)
        await tap.app.consumer.commit()
        tap.chunks.clear()
        starts |= dict.fromkeys(range(PARTITIONS), 3)
        async with tapping(Tap(bootstrap, topic, group, starts)) as other:
            both = (tap, other)

            async def shared() -> bool:
                """Each has two, and has read them; there may be more rebalances than one until then."""
                has = [[tp.partition for tp in one.app.assigned(topic)] for one in both]
                read = [all(one.chunks[p] for p in its) for one, its in zip(both, has, strict=True)]
                return sorted(has[0] + has[1]) == list(range(PARTITIONS)) and len(has[0]) == 2 and all(read)

            await eventually(shared)
            come = [one.offsets(partition) for one in both for partition in range(PARTITIONS)]
            assert all(offsets == list(range(3, 10)) * (len(offsets) // 7) for offsets in come)
            assert tap.app.marks == {}


async def test_a_partition_that_a_rebalance_has_taken_is_not_sought(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """Between the question for its position and the seek: the others are read, and the process goes on."""
    topic = f"{topics}windows"
    tap = Tap(bootstrap, topic, f"{topics}g", {0: 2})

    async def positions(assigned: frozenset[TP]) -> dict[TP, int]:
        return {TP(f"{topics}events", 0): 0} | await tap.positions(assigned)

    tap.app.positions = positions
    await put(producer, topic, 5)
    async with tapping(tap):
        await tap.until(3)
        assert tap.offsets(0) == [2, 3, 4]


async def test_it_is_sought_in_the_consumers_thread(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seek drops what is fetched: from another thread, amid what aiokafka hands over of it, it ended the worker."""
    threads: list[int] = []
    seek_to = Fetcher.seek_to

    def noting(fetcher: Fetcher, tp: TopicPartition, offset: int) -> None:
        threads.append(get_ident())
        seek_to(fetcher, tp, offset)

    monkeypatch.setattr(Fetcher, "seek_to", noting)
    topic = f"{topics}windows"
    await put(producer, topic, 5)
    async with tapping(Tap(bootstrap, topic, f"{topics}g", {0: 2})) as tap:
        await tap.until(3)
        assert set(threads) == {tap.app.consumer._thread._thread.ident}


async def first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Wait for one of these, and give up the others."""
    tasks = [asyncio.create_task(work) for work in works]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_nothing_is_skipped_in_rebalances(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """Owners come and go amid records: each chunk begins no later than what was taken in before it ends."""
    topic, group = f"{topics}windows", f"{topics}g"
    reached: dict[int, int] = dict.fromkeys(range(PARTITIONS), 0)
    skipped: list[Chunk] = []

    class Owner(Tap):
        async def positions(self, assigned: frozenset[TP]) -> dict[TP, int]:
            return {tp: reached[tp.partition] for tp in assigned}

        async def take(self, chunk: Chunk) -> None:
            if chunk.offsets[0] > reached[chunk.partition]:
                skipped.append(chunk)
            reached[chunk.partition] = max(reached[chunk.partition], chunk.next_offset)
            await super().take(chunk)

    wanted, sent = True, 1

    async def stream() -> None:
        nonlocal sent
        while wanted:
            for partition in range(PARTITIONS):
                await put(producer, topic, 50, partition)
                sent += 50

    async with tapping(Owner(bootstrap, topic, group)) as first:
        await put(producer, topic, 1, 0)
        await first.until(1)
        streaming = asyncio.create_task(stream())
        for _ in range(3):
            async with tapping(Owner(bootstrap, topic, group)) as other:
                await first_of(*(other.until(100, partition) for partition in range(PARTITIONS)))
        wanted = False
        await streaming
        async with asyncio.timeout(SOON_S):
            while sum(reached.values()) < sent:
                await first.more()
    assert not skipped


async def test_topic_that_was_not_known_is_read_soon(bootstrap: Connection, topic_prefix: str) -> None:
    """As after a broker's restart: its first answers may lack topics, and the group's leader then assigns nothing of them."""
    topic = f"{topic_prefix}windows"
    specs = [spec for spec in prefixed(load(), topic_prefix) if spec.name == topic]
    try:
        async with (
            tapping(Tap(bootstrap, topic, f"{topic_prefix}g")) as tap,
            producing(bootstrap) as producer,
        ):
            await apply(bootstrap, await plan(bootstrap, specs))
            await put(producer, topic, 5)
            await tap.until(5)
    finally:
        await delete_topics(bootstrap, topic_prefix)


async def test_end_of_a_partition_that_a_rebalance_has_taken_is_unknown(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """A timer that asks amid a rebalance gets None, and no error that ends the process."""
    topic = f"{topics}windows"
    async with tapping(Tap(bootstrap, topic, f"{topics}g")) as tap:
        await put(producer, topic, 5)
        await tap.until(5)
        assert tap.app.end(TP(topic, 0), 5) == 5
        assert tap.app.end(TP(topic, PARTITIONS), 5) is None


async def test_idle_partitions_hold_nothing_up(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """One of four partitions has a record now and then: most come within 0.3 s, where Faust waits for 1.5 s."""
    topic = f"{topics}windows"
    async with tapping(Tap(bootstrap, topic, f"{topics}g")) as tap:
        await put(producer, topic, 1)
        await tap.until(1)
        took = []
        for count in range(2, 22):
            began = monotonic()
            await producer.send_and_wait(topic, b"", partition=0)
            await tap.until(count)
            took.append(monotonic() - began)
    assert in_time(sorted(took)[len(took) // 2], 0.3), took


async def test_a_start_waits_for_agents_alone(bootstrap: Connection, topics: str) -> None:
    """Not for the second that Faust sleeps for tables: none of three starts would take less."""
    took = []
    for number in range(3):
        began = monotonic()
        async with tapping(Tap(bootstrap, f"{topics}windows", f"{topics}g{number}")) as tap:
            took.append(monotonic() - began)
            assert tap.app.tables._agents_read()
    assert not Tap(bootstrap, f"{topics}windows", f"{topics}g").app.tables._agents_read()
    assert in_time(min(took), 1), took


FAILING = """
import sys
from streamproc.kafka.transport import ChunkedApp
from streamproc.settings import load

async def positions(assigned): return {}

async def work(chunk):
    app.mark(next(iter(app.assigned(chunk.topic))), 0)
    print("working", flush=True)
    raise ZeroDivisionError("of this chunk")

app = ChunkedApp(sys.argv[1], load().kafka, positions)

@app.agent(app.topic(sys.argv[2], key_serializer="raw", value_serializer="raw"))
async def agent(stream):
    async for event in stream.noack().events():
        await app.guarded(work(event.message.value))

app.serve()
"""


async def test_agent_that_raises_ends_the_process(site: Site, producer: AIOKafkaProducer) -> None:
    """With an exit code that says so, and the chunk not committed: the next start gets it again."""
    topic, group = f"{site.prefix}windows", f"{site.prefix}g"
    await put(producer, topic, 10)
    for _ in range(2):
        app = await site.start("failing", "-c", FAILING, group, topic)
        assert await app.ended() == 1
        assert app.log.read_text().count("working\n") == 1
        assert "ZeroDivisionError: of this chunk" in app.log.read_text()
    assert {offset for offset, _ in (await committed(site.bootstrap, group, topic)).values()} <= {0}


def test_faults_own_windows_are_not_half_open() -> None:
    """Why there is no `Table.tumbling` here: an event outside its own window, windows out of place, sizes that raise."""
    ((first, last),) = TumblingWindow(10).ranges(9.95)
    assert (first, last) == (0.0, 9.9)
    assert TumblingWindow(1.5).ranges(1.6) == [(1.0, 2.4)]  # it begins at no multiple of its size
    with pytest.raises(ValueError, match="must not be zero"):
        TumblingWindow(0.5).ranges(1.0)


def test_faults_own_account_commits_past_work() -> None:
    """Why offsets are marked here: after a gap, an acknowledged message hides the one before it that is being worked on."""
    tp = TP("t", 0)
    account = SimpleNamespace(
        _acked={tp: [10]},  # offset 0 is being worked on, 1 to 9 were compacted away
        _acked_index={tp: {10}},
        _gap={tp: IntervalTree.from_tuples([(1, 10)])},
        _committed_offset={tp: None},
    )
    assert Consumer._new_offset(account, tp) == 11
