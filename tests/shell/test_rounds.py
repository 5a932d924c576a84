"""When records leave, and with which: rounds to brokers that acknowledge when they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata, TopicPartition

from streamproc.errors import KafkaUnavailable
from streamproc.gateway import rounds
from streamproc.gateway.rounds import Ack, Record, Rounds, Wait

SOON_S = 60
#: Room for three of the tests' records.
BATCH_BYTES = 300


class Brokers:
    """What rounds need of a producer: partitions 0 and 1 are broker 1's, 2 is broker 2's, 3 is nobody's."""

    def __init__(self) -> None:
        self.client = self.cluster = self
        self.sent: list[tuple[int, int]] = []
        self.futures: dict[int, asyncio.Future[RecordMetadata]] = {}
        self.refuses: Exception | None = None

    def leader_for_partition(self, partition: TopicPartition) -> int | None:
        """Tell the broker of a partition."""
        return {0: 1, 1: 1, 2: 2, 3: -1}.get(partition.partition)

    def create_batch(self) -> BatchBuilder:
        """Make a batch."""
        return BatchBuilder(BATCH_BYTES, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, partition: int) -> asyncio.Future[Any]:
        """Note the batch; it is under way until `acknowledge`."""
        if self.refuses:
            raise self.refuses
        assert topic == "t"
        assert partition not in self.futures
        self.sent.append((partition, batch.record_count()))
        future = self.futures[partition] = asyncio.get_running_loop().create_future()
        return future

    def acknowledge(self, partition: int, offset: int = 7) -> None:
        """End the batch of a partition."""
        told = RecordMetadata("t", partition, TopicPartition("t", partition), offset, 0, 0, 0)
        self.futures.pop(partition).set_result(told)


class Line:
    """Rounds that run by brokers."""

    def __init__(self) -> None:
        self.brokers, self.rounds = Brokers(), Rounds("t")
        self.task = self.start()

    def start(self) -> asyncio.Task[None]:
        """Send by these brokers."""
        return asyncio.create_task(self.rounds.run(cast("AIOKafkaProducer", self.brokers)))

    async def put(self, *partitions: int) -> Wait:
        """Have one request's record of each partition wait, and let go what goes at once."""
        wait = Wait(len(partitions), asyncio.get_running_loop().create_future(), 0.0)
        for place, partition in enumerate(partitions):
            self.rounds.put(partition, Record(wait, place, b"key", b"v" * 50, 0))
        await self.turn()
        return wait

    async def turn(self) -> None:
        """Let all run that can without waiting."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def sent(self, *expected: tuple[int, int]) -> None:
        """Wait until these batches have left, since this was last asked, and no others."""
        async with asyncio.timeout(SOON_S):
            while len(self.brokers.sent) < len(expected):  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.001)
        assert self.brokers.sent == list(expected)
        self.brokers.sent.clear()


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    """Give rounds that run."""
    made = Line()
    await made.turn()
    yield made
    made.task.cancel()
    await asyncio.wait([made.task])


async def test_who_comes_while_nothing_is_under_way_does_not_wait(line: Line) -> None:
    """Its records leave in the turn in which they come, all partitions of one broker together."""
    wait = await line.put(1, 0, 0)
    assert line.brokers.sent == [(1, 1), (0, 2)]
    line.brokers.acknowledge(1)
    await line.turn()
    assert not wait.over.done()
    line.brokers.acknowledge(0)
    await asyncio.wait_for(wait.over, SOON_S)
    assert wait.acks == [Ack(1, 7), Ack(0, 7), Ack(0, 8)]


async def test_a_round_takes_what_has_gathered(line: Line) -> None:
    """What comes for a broker while its round is under way waits for the next, another partition's as well."""
    await line.put(0)
    await line.sent((0, 1))
    for partition in (1, 0, 1):
        await line.put(partition)
    assert line.rounds.queued == 2
    await line.sent()
    line.brokers.acknowledge(0)
    await line.sent((0, 1), (1, 2))


async def test_who_comes_soon_after_a_round_joins_the_next(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two rounds there is a pause, in which nothing leaves; after it nobody waits."""
    monkeypatch.setattr(rounds, "_PACE_SECONDS", 0.2)
    await line.put(0)
    began = asyncio.get_running_loop().time()
    line.brokers.acknowledge(0)
    await line.turn()
    line.brokers.sent.clear()
    await line.put(0)
    await line.put(1)
    await line.sent((0, 1), (1, 1))
    assert asyncio.get_running_loop().time() - began >= 0.19
    for partition in (0, 1):
        line.brokers.acknowledge(partition)
    await asyncio.wait_for(_landed(line), SOON_S)
    await line.put(1)
    assert line.brokers.sent == [(1, 1)]


async def _landed(line: Line) -> None:
    """Wait until no partition waits for a round's end."""
    while line.rounds._held:  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0.001)


async def test_brokers_do_not_wait_for_each_other(line: Line) -> None:
    """Nor does a partition that has no broker now: it waits with the producer for one, and for nobody else."""
    await line.put(0)
    await line.put(2)
    await line.put(3)
    assert line.brokers.sent == [(0, 1), (2, 1), (3, 1)]


async def test_a_batch_that_stays_away_is_not_waited_for(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker's other partitions go on after a while; its own follow when it is done."""
    monkeypatch.setattr(rounds, "_PATIENCE_SECONDS", 0.01)
    await line.put(0)
    await line.sent((0, 1))
    await line.put(0)
    await line.put(1)
    await line.sent((1, 1))
    line.brokers.acknowledge(1)
    await line.turn()
    await asyncio.wait_for(_landed(line), SOON_S)
    await line.put(1)
    await line.sent((1, 1))
    line.brokers.acknowledge(0)
    line.brokers.acknowledge(1)
    await line.sent((0, 1))


async def test_what_does_not_fit_a_batch_comes_with_the_next(line: Line) -> None:
    """In its order; each record has its own place."""
    wait = await line.put(*[0] * 5)
    await line.sent((0, 3))
    line.brokers.acknowledge(0, 10)
    await line.sent((0, 2))
    line.brokers.acknowledge(0, 20)
    await asyncio.wait_for(wait.over, SOON_S)
    assert wait.acks == [Ack(0, offset) for offset in (10, 11, 12, 20, 21)]


async def test_what_has_given_up_is_not_sent(line: Line) -> None:
    """Nor is a round begun for it alone."""
    await line.put(0)
    await line.sent((0, 1))
    (await line.put(0)).give_up()
    line.brokers.acknowledge(0)
    await asyncio.wait_for(_landed(line), SOON_S)
    await line.put(0)
    await line.sent((0, 1))


async def test_a_refused_batch_fails_and_the_next_is_tried(line: Line) -> None:
    """Its requests are told why."""
    line.brokers.refuses = KafkaTimeoutError()
    wait = await line.put(0)
    with pytest.raises(KafkaTimeoutError):
        await asyncio.wait_for(wait.over, SOON_S)
    line.brokers.refuses = None
    await line.put(0)
    await line.sent((0, 1))


async def test_a_batch_that_fails_frees_its_broker(line: Line) -> None:
    """A failure ends a round as an acknowledgement does; so does a producer that is stopped."""
    first = await line.put(0)
    line.brokers.futures.pop(0).set_exception(KafkaTimeoutError())
    with pytest.raises(KafkaTimeoutError):
        await asyncio.wait_for(first.over, SOON_S)
    second = await line.put(1)
    await line.sent((0, 1), (1, 1))
    line.brokers.futures.pop(1).cancel()
    with pytest.raises(KafkaUnavailable, match="stopped"):
        await asyncio.wait_for(second.over, SOON_S)


async def test_what_waits_outlives_its_producer(line: Line) -> None:
    """The next one sends it at once, whatever became of the round before."""
    await line.put(0)
    await line.put(0)
    await line.put(1)
    await line.sent((0, 1))
    line.task.cancel()
    await asyncio.wait([line.task])
    line.brokers = Brokers()
    line.task = line.start()
    await line.sent((0, 1), (1, 1))
