"""Sends the records of many requests together: one batch for each partition, one request to each broker at a time.

aiokafka's own `send` makes a future and a dozen calls for each record. Here a record is a place in a list, and the batch is
what Kafka acknowledges. A round takes all records that gathered while the broker's last one was under way: aiokafka allows
one request to a broker at a time, so a batch made earlier would leave no sooner, only with fewer records.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamproc.errors import KafkaUnavailable

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

#: From one round's end to the next one's beginning: each costs a request to the broker, its answer and several tasks, however
#: little it carries. Who posts again as soon as it is answered does so within this time, and comes with the next round; with
#: a pace that counts from a round's beginning, half of them came with every other. A thirtieth of the 100 ms that a p99 may
#: have; who comes while nothing is under way does not wait.
_PACE_SECONDS = 0.003
#: A round that takes longer, as where one partition of it has lost its leader, is not waited for by the broker's other
#: partitions: as long as a p99 may be.
_PATIENCE_SECONDS = 0.1
#: Who has a round: a broker, or a partition that has none now.
Leader = tuple[str, int]


class Ack(NamedTuple):
    """Where a record is; the offset is -1 where Kafka had it already and no longer knows where."""

    partition: int
    offset: int


class Wait:
    """One request's records on their way: `acks` has the places of those that are there, `over` is set when all are done.

    What of it has not left when it gives up is never sent.
    """

    __slots__ = ("_error", "_left", "acks", "over", "until")

    def __init__(self, count: int, over: asyncio.Future[None], until: float) -> None:
        self.acks: list[Ack | None] = [None] * count
        self.over = over
        self.until = until
        self._left = count
        self._error: BaseException | None = None

    def acknowledge(self, index: int, ack: Ack) -> None:
        """Note where a record is."""
        self.acks[index] = ack
        self._one_less()

    def fail(self, error: BaseException) -> None:
        """Note that a record was refused; the first reason counts."""
        self._error = self._error or error
        self._one_less()

    def give_up(self) -> None:
        """Wait no more; nothing where all is done."""
        if not self.over.cancel() and not self.over.cancelled():
            self.over.exception()  # seen: it may have come in the moment in which the request was cancelled

    def _one_less(self) -> None:
        self._left -= 1
        if self._left or self.over.done():
            return
        if self._error is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(self._error)


class Record(NamedTuple):
    """A record that waits: of whom, its place among theirs, and what is written."""

    wait: Wait
    place: int
    key: bytes
    value: bytes
    at_ms: int


class Rounds:
    """What waits for each partition, and the task that sends it while there is a producer.

    What waits outlives a producer that is replaced. It is bounded by who puts it here (the gateway's load).
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._waiting: defaultdict[int, deque[Record]] = defaultdict(deque)
        self._more = asyncio.Event()
        self._held: AbstractSet[int] = frozenset()

    def put(self, partition: int, record: Record) -> None:
        """Have the record go with the partition's next batch."""
        self._waiting[partition].append(record)
        if partition not in self._held:
            self._more.set()

    @property
    def queued(self) -> int:
        """Partitions for which something waits."""
        return sum(1 for records in self._waiting.values() if records)

    async def run(self, producer: AIOKafkaProducer) -> None:
        """Send by this producer until cancelled."""
        sending = _Sending(producer, self._topic, self._waiting, self._more)
        self._held = sending.held
        self._more.set()
        while True:
            await self._more.wait()
            self._more.clear()
            for leader, partitions in sending.ready().items():
                await sending.send(leader, partitions)


class _Round:
    """Batches that go to one broker together, and the partitions that wait for the end of it."""

    __slots__ = ("leader", "left", "partitions", "patience")

    def __init__(self, leader: Leader, partitions: Iterable[int], patience: asyncio.TimerHandle) -> None:
        self.leader = leader
        self.partitions = set(partitions)
        self.patience = patience
        #: Batches that are not done, and one more until all were sent.
        self.left = 1


class _Sending:
    """One producer's rounds: a broker has one at a time, and a partition one batch."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        waiting: defaultdict[int, deque[Record]],
        more: asyncio.Event,
    ) -> None:
        self._producer, self._topic, self._waiting, self._more = producer, topic, waiting, more
        self._loop = asyncio.get_running_loop()
        self._rounds: dict[Leader, _Round] = {}
        self._busy: set[int] = set()
        #: Partitions that wait for a round's end: what is put for them wakes nobody.
        self.held: set[int] = set()

    def ready(self) -> dict[Leader, list[int]]:
        """Partitions for which something waits, by their brokers, of those that have no round under way."""
        leader_of = self._producer.client.cluster.leader_for_partition
        ready: defaultdict[Leader, list[int]] = defaultdict(list)
        for partition, waiting in self._waiting.items():
            if not waiting or partition in self.held or partition in self._busy:
                continue
            node = leader_of(TopicPartition(self._topic, partition))
            leader = ("partition", partition) if node is None or node < 0 else ("broker", node)
            if leader in self._rounds:
                self._rounds[leader].partitions.add(partition)
                self.held.add(partition)
            else:
                ready[leader].append(partition)
        return ready

    async def send(self, leader: Leader, partitions: Sequence[int]) -> None:
        """Send a broker what waits for these partitions."""
        patience = self._loop.call_later(_PATIENCE_SECONDS, self._land, leader)
        round_ = self._rounds[leader] = _Round(leader, partitions, patience)
        self.held |= round_.partitions
        for partition in partitions:
            await self._send_batch(partition, round_)
        self._one_less(round_)

    async def _send_batch(self, partition: int, round_: _Round) -> None:
        """Send as much as a batch takes of what waits for a partition."""
        batch, waiting, records = self._producer.create_batch(), self._waiting[partition], list[Record]()
        while waiting:
            record = waiting[0]
            if not record.wait.over.done():
                if batch.append(timestamp=record.at_ms, key=record.key, value=record.value) is None:
                    break
                records.append(record)
            waiting.popleft()
        if not records:
            return
        try:
            sent = await self._producer.send_batch(batch, self._topic, partition=partition)
        except KafkaError as error:
            _fail(records, error)
        except BaseException:
            _fail(records, KafkaUnavailable("the producer is being replaced"))
            raise
        else:
            self._busy.add(partition)
            round_.left += 1
            sent.add_done_callback(partial(self._done, partition, round_, records))

    def _done(self, partition: int, round_: _Round, records: list[Record], sent: asyncio.Future[Any]) -> None:
        self._busy.discard(partition)
        self._one_less(round_)
        if partition not in self.held and self._waiting[partition]:  # its round was not waited for
            self._more.set()
        error = KafkaUnavailable("the producer was stopped") if sent.cancelled() else sent.exception()
        if error is not None:
            _fail(records, error)
            return
        first = sent.result().offset
        for offset, record in enumerate(records, first):
            record.wait.acknowledge(record.place, Ack(partition, offset if first >= 0 else -1))

    def _one_less(self, round_: _Round) -> None:
        round_.left -= 1
        if not round_.left and self._rounds.get(round_.leader) is round_:
            round_.patience.cancel()
            self._loop.call_later(_PACE_SECONDS, self._land, round_.leader)

    def _land(self, leader: Leader) -> None:
        """Let the broker have its next round."""
        round_ = self._rounds.pop(leader)
        self.held -= round_.partitions
        if any(self._waiting[partition] for partition in round_.partitions):
            self._more.set()


def _fail(records: list[Record], error: BaseException) -> None:
    for record in records:
        record.wait.fail(error)
