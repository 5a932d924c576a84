"""Reading beside the stream: all that lies between two places comes, and what is handed to nobody holds nothing up."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from streamproc.errors import KafkaUnavailable
from streamproc.kafka import chunks, clients
from streamproc.kafka.broker import Broker, Installation
from streamproc.kafka.reading import Manner, Spans, at, bounds, consuming, partitions, records
from streamproc.settings.connection import Connection
from streamproc.topics import apply, load, plan
from tests.live.oracle import PARTITIONS
from tests.live.processes import SOON_S, eventually

BRIEF = Manner()


async def put(producer: AIOKafkaProducer, place: TopicPartition, *values: bytes) -> None:
    """Have the records on the partition, one after the other."""
    for value in values:
        await producer.send_and_wait(place.topic, value, partition=place.partition)


async def offsets(consumer: AIOKafkaConsumer, spans: Spans) -> dict[int, list[int]]:
    """The offsets that come of the spans, by partition."""
    found: dict[int, list[int]] = {}
    async with asyncio.timeout(SOON_S):
        async for come in records(consumer, spans, SOON_S):
            for place, some in come.items():
                found.setdefault(place.partition, []).extend(record.offset for record in some)
    return found


async def test_what_lies_between_two_places_comes(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """Of several partitions, in order, no record before or behind; of empty spans, also beyond an end, nothing."""
    topic = f"{topics}readings"
    async with consuming(bootstrap, BRIEF) as consumer:
        places = await partitions(consumer, topic)
        assert places == [TopicPartition(topic, number) for number in range(PARTITIONS)]
        for place in places[:3]:
            await put(producer, place, *(b"%d" % number for number in range(9)))
        assert await bounds(consumer, places) == {place: (0, 9 * (place.partition < 3)) for place in places}
        spans = dict(zip(places, [(0, 9), (3, 7), (50, 9), (0, 0)], strict=True))
        assert await offsets(consumer, spans) == {0: list(range(9)), 1: [3, 4, 5, 6]}
        assert await offsets(consumer, {places[2]: (8, 9)}) == {2: [8]}
        assert (await at(consumer, places[2], 4)).value == b"4"
        assert await offsets(consumer, {}) == {}


async def written_in_transactions(bootstrap: Connection, name: str, place: TopicPartition) -> None:
    """Offsets 1 and 2 in a transaction, its marker 3; in another 4 and 5, which is aborted by the marker 6."""
    producer = clients.producer(bootstrap, transactional_id=name)
    await producer.start()
    try:
        async with producer.transaction():
            await put(producer, place, b"1", b"2")
        await producer.begin_transaction()
        await put(producer, place, b"4", b"5")
        await producer.abort_transaction()
    finally:
        await producer.stop()
    async with consuming(bootstrap, Manner(isolation="read_committed")) as consumer:

        async def ended() -> bool:
            return (await bounds(consumer, [place]))[place] == (0, 7)

        await eventually(ended)  # Kafka answers before the marker is written


@pytest.mark.parametrize(
    ("isolation", "wanted"), [("read_committed", [0, 1, 2]), ("read_uncommitted", [0, 1, 2, 4, 5])]
)
async def test_markers_at_the_end_hold_nothing_up(
    bootstrap: Connection,
    topics: str,
    producer: AIOKafkaProducer,
    isolation: Literal["read_committed", "read_uncommitted"],
    wanted: list[int],
) -> None:
    """The end of a partition is no record, and, where only what is committed counts, nor are those before it."""
    place = TopicPartition(f"{topics}readings", 1)
    await put(producer, place, b"0")
    await written_in_transactions(bootstrap, topics, place)
    async with consuming(bootstrap, Manner(isolation=isolation)) as consumer:
        assert (await bounds(consumer, [place]))[place] == (0, 7)
        assert await offsets(consumer, {place: (0, 7)}) == {1: wanted}
        assert await offsets(consumer, {place: (6, 7)}) == {}


async def test_chunks_end_at_a_marker_as_well(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """As a replay reads: without what was aborted, from and to any offset, and no further once it is to stop."""
    place = TopicPartition(f"{topics}readings", 1)
    await put(producer, place, b"0")
    await written_in_transactions(bootstrap, topics, place)
    async with consuming(bootstrap, chunks.AS_A_WORKER) as consumer, asyncio.timeout(SOON_S):
        for (begin, end), wanted in {(0, 7): [0, 1, 2], (1, 2): [1], (2, 6): [2], (3, 3): []}.items():
            come = [chunk async for chunk in chunks.read(consumer, place, begin, end, lambda: False)]
            assert [int(offset) for chunk in come for offset in chunk.offsets] == wanted
        assert not [chunk async for chunk in chunks.read(consumer, place, 0, 7, lambda: True)]


async def deleted_before(bootstrap: Connection, place: TopicPartition, offset: int) -> None:
    """Have Kafka delete the records before the offset, as its retention does."""
    admin = clients.admin(bootstrap)
    await admin.start()
    try:
        await admin.delete_records({place: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


async def test_of_what_is_gone_the_manner_decides(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """The first record that is there, or an error; the bounds tell which that is."""
    place = TopicPartition(f"{topics}readings", 0)
    await put(producer, place, *(b"%d" % number for number in range(9)))
    await deleted_before(bootstrap, place, 4)
    async with consuming(bootstrap, BRIEF) as consumer:
        assert (await bounds(consumer, [place]))[place] == (4, 9)
        assert await offsets(consumer, {place: (0, 9)}) == {0: [4, 5, 6, 7, 8]}
    with pytest.raises(KafkaUnavailable, match="OffsetOutOfRange"):
        async with consuming(bootstrap, Manner(gone="none")) as consumer:
            await offsets(consumer, {place: (0, 9)})


async def test_silence_is_told(bootstrap: Connection, topics: str, producer: AIOKafkaProducer) -> None:
    """Records that do not come are not waited for without end, and the error says what was waited for."""
    place = TopicPartition(f"{topics}readings", 0)
    await put(producer, place, b"0")
    async with consuming(bootstrap, BRIEF) as consumer, asyncio.timeout(SOON_S):
        assert await offsets(consumer, {place: (0, 1)}) == {0: [0]}
        with pytest.raises(KafkaUnavailable, match=f"nothing of {place.topic}/0 for 1 s"):
            await anext(records(consumer, {place: (1, 2)}, silence_s=1))


async def test_a_topic_that_is_not_there_is_not_made(bootstrap: Connection, topic_prefix: str) -> None:
    """Its partitions are none, then as well as later."""
    for _ in range(2):
        async with consuming(bootstrap, BRIEF) as consumer:
            assert await partitions(consumer, f"{topic_prefix}none") == []


async def test_a_broker_that_is_not_there_is_told() -> None:
    """With its address, and what is wrong."""
    with pytest.raises(KafkaUnavailable, match=r"Kafka at 127\.0\.0\.1:1 refuses connections"):
        async with consuming(Connection("127.0.0.1:1"), BRIEF):
            pass


async def _asks_again(consumer: AIOKafkaConsumer) -> bool:
    """Whether a fetch was refused, and waits to be tried again."""
    return any("sleep" in str(fetch.get_coro().cr_await) for fetch in consumer._fetcher._pending_tasks)


async def test_reading_ends_although_the_broker_is_gone(installation: Installation, tmp_path: Path) -> None:
    """Aiokafka ends so with the cancellation of its fetch: whoever was reading went on with nothing that came after."""
    broker = await Broker.start(installation, tmp_path / "kafka")
    try:
        await apply(broker.connection, await plan(broker.connection, load()))
        place = TopicPartition("readings", 0)
        async with clients.producer(broker.connection) as producer:
            await producer.send_and_wait(place.topic, b"1", partition=0)
        async with consuming(broker.connection, BRIEF) as consumer:
            assert await offsets(consumer, {place: (0, 1)}) == {0: [0]}
            broker.kill()
            await broker.wait()
            await eventually(partial(_asks_again, consumer))
        assert all(fetch.done() for fetch in consumer._fetcher._pending_tasks)
    finally:
        broker.kill()
        await broker.wait()
