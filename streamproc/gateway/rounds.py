"""Records of many requests that leave together: one batch for each partition, a round at a time.

aiokafka's own `send` makes a future and a dozen calls of each record; here a record is a place in a list, and what is
acknowledged is the batch. A round takes all that has gathered while the one before was under way.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.errors import KafkaError

from streamproc.errors import KafkaUnavailable

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

#: From one round's end to the next one's beginning: each costs a request to the broker, its answer and several tasks, however
#: little it carries. A twenty-fifth of the 100 ms that a p99 may have; who comes while nothing is under way does not wait.
_PACE_SECONDS = 0.004


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
        self._busy: set[int] = set()
        self._more = asyncio.Event()

    def put(self, partition: int, record: Record) -> None:
        """Have the record go with the partition's next batch."""
        self._waiting[partition].append(record)
        self._more.set()

    @property
    def queued(self) -> int:
        """Partitions for which something waits."""
        return sum(1 for records in self._waiting.values() if records)

    async def run(self, producer: AIOKafkaProducer) -> None:
        """Send by this producer until cancelled."""
        busy = self._busy = set[int]()
        self._more.set()
        while True:
            await self._more.wait()
            self._more.clear()
            for partition, waiting in list(self._waiting.items()):
                if waiting and partition not in busy:
                    await self._send(producer, partition, busy)
            await asyncio.sleep(_PACE_SECONDS)

    async def _send(self, producer: AIOKafkaProducer, partition: int, busy: set[int]) -> None:
        """Send as much as a batch takes of what waits for a partition; one batch of each is under way at a time."""
        batch, waiting, records = producer.create_batch(), self._waiting[partition], list[Record]()
        while waiting:
            record = waiting[0]
            if not record.wait.over.done():
                if batch.append(timestamp=record.at_ms, key=record.key, value=record.value) is None:
                    break
                records.append(record)
            waiting.popleft()
        if not records:
            return
        busy.add(partition)
        try:
            sent = await producer.send_batch(batch, self._topic, partition=partition)
        except KafkaError as error:
            self._fail(records, error)
            busy.discard(partition)
        except BaseException:
            self._fail(records, KafkaUnavailable("the producer is being replaced"))
            raise
        else:
            sent.add_done_callback(partial(self._done, partition, records, busy))

    def _done(self, partition: int, records: list[Record], busy: set[int], sent: asyncio.Future[Any]) -> None:
        busy.discard(partition)
        if self._waiting[partition]:
            self._more.set()
        error = KafkaUnavailable("the producer was stopped") if sent.cancelled() else sent.exception()
        if error is not None:
            self._fail(records, error)
            return
        first = sent.result().offset
        for offset, record in enumerate(records, first):
            record.wait.acknowledge(record.place, Ack(partition, offset if first >= 0 else -1))

    @staticmethod
    def _fail(records: list[Record], error: BaseException) -> None:
        for record in records:
            record.wait.fail(error)
