"""Faust's Kafka transport with chunks: an agent gets all the records fetched for a partition as one event.

Faust spends some 100 µs on an event, so that one event a record allows ten thousand readings a second; one event a fetch
allows hundreds of thousands. The chunk (`streamproc.core.chunk.Chunk`) is the event's value.

Offsets are not acknowledged record by record. What is done is said with `ChunkedApp.mark`, and only that is committed;
where to read from is asked of `ChunkedApp.positions`, since whoever keeps state knows better than Kafka's own commits.

These are the steps around faults of Faust 0.15.3 (each has a test in tests/live/test_transport.py):
- its account of acknowledged offsets fills gaps, and can commit past a chunk that is still being worked on;
- it drops what was acknowledged but not committed when a partition is revoked, and seeks nothing where nothing is committed;
- its fetches wait for 1.5 s on idle partitions, with one fetch in flight a broker, which holds up the busy ones;
- without tables it assigns partitions by round robin, which swaps the survivors' partitions at each rebalance;
- topics that a broker does not know yet, having just started, are assigned to nobody for five minutes;
- it seeks from another thread than the consumer's, amid its fetches: the worker ended with a KeyError after a rebalance.
"""

from __future__ import annotations

import logging
import sys
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import Any, ClassVar, Final

import faust
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streamproc.core.chunk import Chunk
from streamproc.errors import SettingsError
from streamproc.kafka import clients
from streamproc.kafka.diagnosis import failure, look
from streamproc.kafka.fetched import gathered, spare_records, wait_for_more
from streamproc.kafka.positions import check_position
from streamproc.kafka.process import PlainWorker, Worker
from streamproc.kafka.stray import told_apart
from streamproc.settings.connection import Connection

#: How long the broker holds a fetch for which it has nothing: what a reading may wait for behind an idle partition.
FETCH_WAIT_MS = 50
REQUEST_MS = 40_000  # aiokafka's own, and more than a rebalance takes
#: Chunks that are taken from the fetched records at once: as many as there are partitions on a small worker.
CHUNKS_AT_ONCE = 8
#: Bytes of one partition in one fetch. Larger ones make no faster chunks, only longer ones.
FETCH_BYTES = 2 * 1024 * 1024
#: Chunks that wait for an agent, at most, over all partitions; with FETCH_BYTES it bounds the memory.
BUFFERED_CHUNKS = 8
#: How often it is looked whether the process should end; a look costs nothing.
LOOK_S = 1.0
#: What a transaction has written is read once it is committed, and never if it is aborted.
ISOLATION: Final = "read_committed"
#: How old the consumer's knowledge of topics may get. A broker that has just started may not know its topics yet: then the
#: group's leader assigns nothing, and looks again when so much time has passed; with aiokafka's 5 minutes, nothing is read
#: for as long. A look costs one small request.
METADATA_AGE_MS = 3_000

_log = structlog.get_logger(__name__)

Positions = Callable[[frozenset[TP]], Awaitable[Mapping[TP, int]]]


class ChunkedConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that Faust fetches in: it makes the chunks, and commits what was marked."""

    mundane_level = "debug"  # of its starts and stops

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:  # noqa: ARG002  # Faust's signature
        conf = self.app.conf
        self._assignor = StickyPartitionAssignor
        consumer = clients.consumer(
            self.app.kafka,
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=None,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=REQUEST_MS,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=METADATA_AGE_MS,
            isolation_level=ISOLATION,
        )
        consumer._client.send = self._noting(consumer._client.send)
        return consumer

    #: When (monotonic) a broker last answered; None before it first does.
    heard_at: float | None = None

    def _noting(self, ask: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def asked(*args: Any, **options: Any) -> Any:
            answer = await ask(*args, **options)
            self.heard_at = monotonic()
            return answer

        return asked

    def on_crash(self, msg: str, *fmt: Any, **_: Any) -> None:
        """Log what ended the thread; mode would print it."""
        _log.error(msg.format(*fmt), exc_info=True)

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  # Faust's signature
        max_records: int | None = None,  # noqa: ARG002  # Faust's, which has none to give
    ) -> dict[TP, list[Chunk]]:
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        end = monotonic() + (timeout or 0)
        with fetcher._subscriptions.fetch_context():
            while True:
                if consumer._closed or fetcher._closed:
                    raise ConsumerStoppedError
                spare_records(fetcher)
                drained = await fetcher.fetched_records(
                    active_partitions, timeout=0, max_records=CHUNKS_AT_ONCE
                )
                if drained:
                    chunks = {TP(*tp): [chunk] async for tp, chunk in gathered(fetcher, drained)}
                    self.consumer.handed_over |= {tp: chunk.next_offset for tp, (chunk,) in chunks.items()}
                    return chunks
                if monotonic() >= end or not self.consumer.flow_active:
                    return {}
                await wait_for_more(fetcher, FETCH_WAIT_MS / 1000)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        consumer = self._ensure_consumer()
        metadata = self.consumer.app.mark_metadata
        assigned = self.assignment()
        self.tp_last_committed_at.update({tp: monotonic() for tp in offsets})
        try:
            await consumer.commit(
                {
                    TopicPartition(*tp): OffsetAndMetadata(offset, metadata.get(tp, ""))
                    for tp, offset in offsets.items()
                    if tp in assigned
                }
            )
        except CommitFailedError:
            # A rebalance came in between: the new owner goes on from what it finds, and what was marked is marked again.
            return False
        return True


class ChunkedConsumer(driver.Consumer):
    """Faust's consumer with chunks for messages and explicit marks for acknowledgements."""

    mundane_level = "debug"  # of its starts and stops

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: The offset after the last record of each partition that was made part of a chunk.
        self.handed_over: dict[TP, int] = {}

    def _new_consumer_thread(self) -> ChunkedConsumerThread:
        return ChunkedConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, chunk: Chunk) -> ConsumerMessage:
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            int(chunk.offsets[-1]),
            float(chunk.timestamps[-1]) / 1000,
            0,
            (),
            None,
            chunk,
            None,
            -1,
            -1,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def ack(self, message: Any) -> bool:
        """Keep no account of messages: only marks are committed."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Keep no account of gaps: only marks are committed."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in self.app.marks if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        offset: int | None = self.app.marks.get(tp)
        return offset

    def _should_commit(self, tp: TP, offset: int) -> bool:
        return bool(self._committed_offset[tp] != offset)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the marks of partitions that somebody else may have next."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self.app.marks.pop(tp, None)
            self.app.mark_metadata.pop(tp, None)

    async def _seek(self, partition: TP, offset: int) -> None:
        # Faust seeks from its own thread: that may take from aiokafka what it hands over in the consumer's at that moment.
        await self._thread.call_thread(self._thread.seek, partition, offset)

    async def perform_seek(self) -> None:
        """Go to where the owners of the partitions' state want to read on."""
        await self.app.guarded(self._seek_positions())

    async def _seek_positions(self) -> None:
        positions = await self.app.positions(frozenset(self.assignment()))
        if not positions:
            return
        begins = await self.earliest_offsets(*positions)
        ends = await self.highwaters(*positions)
        for tp, offset in positions.items():
            check_position(tp, offset, begins[tp], ends[tp])
            try:
                await self.seek(tp, offset)
            except IllegalStateError:
                # A rebalance, in the consumer's thread, has taken it meanwhile: after that one positions are asked for again.
                _log.info("partition taken before it was read", topic=tp.topic, partition=tp.partition)
                continue
            self._read_offset[tp] = offset or None
            self.handed_over[tp] = offset

    def end(self, tp: TP, done: int) -> int | None:
        """The offset at which a partition ends, by its last fetch, for who has done everything before `done`.

        Behind its last record there may be markers of transactions, which nobody is handed: they are not counted.
        """
        consumer = self._thread._ensure_consumer()
        place = TopicPartition(*tp)
        end: int | None = consumer.last_stable_offset(place)
        if end is None or done < self.handed_over.get(tp, done):
            return end
        position: int = consumer._subscription.subscription.assignment.state_value(place).position
        return end - max(position - done, 0)


class ChunkedProducer(driver.Producer):
    """Faust's own producer, which it starts with each app; nothing is sent with it."""

    def _settings_auth(self) -> Mapping[str, Any]:
        return clients.security(self.app.kafka)


class ChunkedTransport(driver.Transport):
    """The transport: `chunked://host:port`, or by `ChunkedApp`."""

    Consumer: ClassVar[type[ChunkedConsumer]] = ChunkedConsumer
    Producer: ClassVar[type[ChunkedProducer]] = ChunkedProducer


class ChunkedApp(faust.App):
    """A Faust app whose agents get chunks.

    `positions` is asked for the next offset of each partition after every rebalance, before anything of it is read.
    """

    mundane_level = "debug"  # of its starts and stops
    positions: Positions

    def __init__(self, group: str, kafka: Connection, positions: Positions, **options: Any) -> None:
        """`group` is the consumer group, `kafka` how the brokers are reached; `options` are Faust's settings."""
        self.kafka, self.positions = kafka, positions
        #: What is done of each partition: everything before this offset. Committed with the next commit.
        self.marks: dict[TP, int] = {}
        self.mark_metadata: dict[TP, str] = {}
        #: Whether it ends without having done all that is done at an end; the exit code tells.
        self.cut_short = False
        #: The setting that it could not start with.
        self.refusal: SettingsError | None = None
        #: Entered before the consumer starts, left after everything has stopped.
        self.around: list[AbstractAsyncContextManager[object]] = []
        #: Awaited each LOOK_S from the start on, before partitions are taken over too; what they raise ends the process.
        self.looks: list[Callable[[], Awaitable[object]]] = [self._check_group]
        brokers = [f"kafka://{address}" for address in kafka.bootstrap.split(",")]
        super().__init__(group, broker=brokers, **(DEFAULTS | options))

    def _new_transport(self) -> ChunkedTransport:
        return ChunkedTransport(self.conf.broker_consumer, self)

    async def on_first_start(self) -> None:
        """Enter what surrounds the app. Make no directory: Faust's is for tables, of which there are none."""
        self.add_future(self._look())
        try:
            for context in self.around:
                await self.add_async_context(context)
        except SettingsError as error:
            self.refusal = error
            raise CancelledError from error  # of another error Faust tells all its steps

    async def _look(self) -> None:
        while not self.should_stop:
            for look_at in self.looks:
                await self.guarded(look_at())
            await self.sleep(LOOK_S)

    async def _check_group(self) -> None:
        """End where the group is refused: the consumer waits with that error until somebody asks it, and nobody would."""
        consumer = self._consumer._thread._consumer if self._consumer is not None else None
        error = getattr(getattr(consumer, "_coordinator", None), "_pending_exception", None)
        if error is not None:
            raise await failure(self.kafka, error)

    async def guarded(self, work: Awaitable[object]) -> None:
        """Leave with an error if the work fails: whoever runs the process starts it again, and it reads on where it knows.

        Faust would drop the chunk and go on with the next one.
        """
        try:
            with told_apart():
                await work
        except Exception as error:  # noqa: BLE001  # the edge of an agent's, timer's or signal's task
            _log.exception("stage failed", group=self.conf.id)
            await self.crash(error)

    def serve(self) -> None:
        """Run until SIGTERM or SIGINT; the process ends with it. Logs go where the process has them go.

        Raises KafkaRefused where Kafka does not let this process in: Faust would end with a traceback that does not tell why.
        """
        look(self.kafka)
        self.conf.Worker = PlainWorker
        for name in ("faust", "mode"):  # they tell their every step at info
            logging.getLogger(name).setLevel(max(logging.getLogger().level, logging.WARNING))
        sys.argv = [sys.argv[0], "--quiet", "worker", "--without-web"]
        self.main()

    def silence_s(self) -> float | None:
        """How long ago (s) a broker last answered the consumer: a fetch every 50 ms, else a heartbeat. None: it never has."""
        heard_at = self._consumer._thread.heard_at if self._consumer is not None else None
        return None if heard_at is None else max(monotonic() - heard_at, 0.0)

    def buffered(self) -> int:
        """Chunks that wait for the agents, BUFFERED_CHUNKS at most."""
        return sum(queue.qsize() for queue in self.flow_control._queues)

    def mark(self, tp: TP, offset: int, metadata: str = "") -> None:
        """Say that everything of the partition before `offset` is done; `metadata` is committed with it."""
        self.marks[tp] = offset
        self.mark_metadata[tp] = metadata

    def end(self, tp: TP, done: int) -> int | None:
        """The offset at which a partition ends for who has done everything before `done`; None where it is not known yet.

        A rebalance, in the consumer's thread, may take a partition at any moment; aiokafka asserts that it is assigned.
        """
        try:
            end: int | None = self.consumer.end(tp, done)
        except (AssertionError, AttributeError, KeyError):
            return None
        return end

    def assigned(self, topic: str) -> Iterable[TP]:
        """The partitions of a topic that this worker has; none before the consumer has started."""
        if self._consumer is None or self._consumer._thread._consumer is None:
            return set()
        return {tp for tp in self.consumer.assignment() if tp.topic == topic}


#: Faust gives up without a word where telling where to read on takes longer; a database may be away. In 7 days Kafka deletes.
SEEK_S = 7 * 24 * 3_600.0

#: The session bounds how long a killed worker's partitions wait: results are to come again within 10 s, of which a start and
#: a restore need 3. It is the least that Kafka's brokers allow by default; Faust's 60 s would be a minute without results.
DEFAULTS: dict[str, Any] = {
    "broker_session_timeout": 6.0,
    "broker_heartbeat_interval": 1.5,
    "broker_rebalance_timeout": 30.0,
    "broker_request_timeout": SEEK_S,
    "broker_commit_interval": 1.0,
    "stream_buffer_maxsize": BUFFERED_CHUNKS,
    "stream_wait_empty": False,
    "topic_allow_declare": False,
    "topic_disable_leader": True,
    "store": "memory://",
    "web_enabled": False,
    "consumer_auto_offset_reset": "earliest",
    "autodiscover": False,
    "TableManager": "streamproc.kafka.tables:NoTables",
    "worker_redirect_stdouts": False,
    "Worker": Worker,
}
