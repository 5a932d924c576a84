"""The worker: a Faust app with one agent on `readings`, and the timers beside it."""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from faust.types import TP

from streamproc.core.chunk import Chunk
from streamproc.core.counted import counted
from streamproc.engine import health, metrics
from streamproc.engine.options import options
from streamproc.engine.partition import Partition
from streamproc.engine.restoring import Committed, Restoring, tell_lost
from streamproc.engine.snapshots import Timer
from streamproc.engine.watchdog import Watchdog
from streamproc.errors import BrokerError
from streamproc.kafka import clients
from streamproc.kafka.groups import committed
from streamproc.kafka.health import broker_check
from streamproc.kafka.transport import ChunkedApp
from streamproc.monitor import Address, Told, serving
from streamproc.process import tune_collector
from streamproc.registry.view import Registry
from streamproc.settings import Settings

#: What a message may hold: as much as topics.yaml allows a block of a checkpoint, the largest of them.
MESSAGE_BYTES = 12_000_000
#: A chunk's messages go out in one request a partition; aiokafka's 16 KB would make it one for each message.
BATCH_BYTES = 1_000_000
#: How long messages wait for company. A chunk's messages go out together anyway.
LINGER_MS = 2
#: How often the timers look whether something is due.
HEARTBEAT_S = 0.25
#: The last checkpoint on the way out; the whole stop has 5 s.
STOP_CHECKPOINT_S = 2.5

_log = structlog.get_logger(__name__)


class Engine:
    """The partitions of this worker, how they are taken over and given up."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.kafka = settings, settings.kafka
        self.readings = settings.topic("readings")
        self.partitions: dict[int, Partition] = {}
        self.producer: AIOKafkaProducer | None = None
        self.registry = Registry(self.kafka, settings.topic("registry"))
        self.app = ChunkedApp(
            settings.group("worker"),
            self.kafka,
            self.positions,
            consumer_group_instance_id=settings.group_instance_id,
        )
        address = Address(settings.worker_host, settings.worker_port, "STREAMPROC_WORKER_PORT")
        told = Told("worker", lambda: health.checks(self), lambda: health.gauges(self))
        self.app.around.append(serving(address, told))
        self.app.looks.append(self.watch)
        self.snapshots = Timer(settings)
        self.taken_over = False
        self.watchdog = Watchdog()
        tune_collector()
        self._wire()

    def _wire(self) -> None:
        app = self.app
        channel = app.topic(self.readings, key_serializer="raw", value_serializer="raw")

        @app.agent(channel, name="engine")
        async def engine(stream: Any) -> None:
            async for event in stream.noack().events():
                await self.app.guarded(self.process(event.message.value))

        @app.task
        async def beat() -> None:
            while not app.should_stop:
                await self.app.guarded(self.beat())
                await app.sleep(HEARTBEAT_S)

        @app.task
        async def photograph() -> None:
            while not app.should_stop:
                await self.app.guarded(self.snapshots.beat(self.producer, self.partitions))
                await app.sleep(HEARTBEAT_S)

        app.on_rebalance_complete.connect(self._on_rebalance_complete, weak=False)
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        app.on_before_shutdown.connect(self._on_shutdown, weak=False)

    async def process(self, chunk: Chunk) -> int:
        """Take in a chunk if its partition is this worker's; returns the readings that count."""
        partition = self.partitions.get(chunk.partition)
        if partition is None:
            metrics.PASSED_OVER.labels(str(chunk.partition)).inc(len(chunk))
            return 0
        if chunk.offsets[0] > partition.state.next_offset:
            await self._look_into_gap(partition.state.next_offset, chunk)
        return await partition.process(chunk)

    async def _look_into_gap(self, next_offset: int, chunk: Chunk) -> None:
        """Say it if Kafka has deleted records that were waiting; transactions of producers leave gaps as well."""
        tp = TP(self.readings, chunk.partition)
        first = min((await self.app.consumer.earliest_offsets(tp))[tp], int(chunk.offsets[0]))
        if first > next_offset:
            tell_lost(chunk.partition, next_offset, first)

    async def positions(self, assigned: frozenset[TP]) -> dict[TP, int]:
        """Where to read on in each partition."""
        return {
            tp: self.partitions[tp.partition].state.next_offset
            for tp in assigned
            if tp.topic == self.readings and tp.partition in self.partitions
        }

    async def beat(self) -> None:
        """Announce edits of the registry, write ticks, and take checkpoints, as they are due."""
        for partition in list(self.partitions.values()):
            await partition.announce()
        for number, partition in list(self.partitions.items()):
            end = self.app.end(TP(self.readings, number), partition.state.next_offset)
            await partition.tick(self.settings.tick_interval_seconds, end)
            if partition.due(self.settings.checkpoint_interval_seconds, len(self.partitions)):
                await self._checkpoint(number, partition)

    async def _checkpoint(self, number: int, partition: Partition) -> None:
        next_offset, low = await partition.checkpoint()
        if self.partitions.get(number) is partition:
            self.app.mark(TP(self.readings, number), next_offset, str(low))

    async def watch(self) -> None:
        """End with an error if a partition has a backlog and makes no progress, or is not taken over."""
        now, longest = monotonic(), self.settings.watchdog_seconds
        for number, lag in self.lags().items():
            partition = self.partitions.get(number)
            if partition is None:
                # While Kafka is away, taking over waits for it.
                waiting = 1 if broker_check(self.app).ok else None
                idle = self.watchdog.idle_s(number, waiting, -inf, now)
                told = "is assigned, but was not taken over"
            else:
                idle = self.watchdog.idle_s(number, lag, partition.progressed, now)
                told = f"has {counted(lag or 0, 'record')} waiting, but none was taken in"
            if idle > longest:
                raise BrokerError(f"partition {number} {told} for {idle:.0f} s")

    def lags(self) -> dict[int, int | None]:
        """How many records of each assigned partition wait; None where that is not known yet."""
        lags: dict[int, int | None] = {}
        for tp in self.app.assigned(self.readings):
            partition = self.partitions.get(tp.partition)
            done = partition.state.next_offset if partition else 0
            end = self.app.end(tp, done) if partition else None
            lags[tp.partition] = None if end is None else max(end - done, 0)
        return lags

    async def _on_rebalance_complete(self, *_: Any, **__: Any) -> None:
        await self.app.guarded(self.take_over())

    async def take_over(self) -> None:
        """Restore the partitions that are new here, and drop those that are no longer this worker's."""
        began = monotonic()
        producer = await self._started_producer()
        assigned = {tp.partition for tp in self.app.assigned(self.readings)}
        self.partitions = {number: held for number, held in self.partitions.items() if number in assigned}
        reached = await self._committed(assigned)
        for number, done in reached.items():
            held = self.partitions.get(number)
            # Somebody else has gone on from here while this worker was away: its memory is of the past.
            if held is not None and done.offset > held.marked:
                _log.info(
                    "partition was processed elsewhere",
                    partition=number,
                    committed=done.offset,
                    held=held.marked,
                )
                del self.partitions[number]
        new = sorted(assigned - set(self.partitions))
        if new:
            count = len(await producer.partitions_for(self.readings))
            wanted = {number: options(self.settings, number, count) for number in new}
            found = await Restoring(self.settings, producer).restore(wanted, reached)
            for number, (state, checkpoints) in found.items():
                self.partitions[number] = Partition(
                    state, checkpoints, producer, self.registry, self.settings.topic
                )
            metrics.RESTORE_SECONDS.observe(monotonic() - began)
        self.taken_over = True
        _log.info(
            "partitions", assigned=sorted(assigned), restored=new, seconds=round(monotonic() - began, 3)
        )

    async def _committed(self, numbers: set[int]) -> dict[int, Committed]:
        """What Kafka has as done of these partitions, where it has anything."""
        places = [TopicPartition(self.readings, number) for number in numbers]
        offsets = await committed(self.kafka, self.app.conf.id, places)
        return {
            place.partition: Committed(told.offset, int(told.metadata or 0))
            for place, told in offsets.items()
        }

    async def _started_producer(self) -> AIOKafkaProducer:
        if self.producer is None:
            producer = clients.producer(
                self.kafka,
                acks="all",
                enable_idempotence=True,
                linger_ms=LINGER_MS,
                max_batch_size=BATCH_BYTES,
                max_request_size=MESSAGE_BYTES,
            )
            await producer.start()
            await self.registry.start()
            self.producer = producer
        return self.producer

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        await self.app.guarded(self._last_checkpoint())

    async def _last_checkpoint(self) -> None:
        """Leave nothing to be done again by whoever has the partitions next."""
        await asyncio.gather(*(self._checkpoint(number, held) for number, held in self.partitions.items()))
        await self.app.consumer.commit()

    async def _on_shutdown(self, *_: Any, **__: Any) -> None:
        try:
            async with asyncio.timeout(STOP_CHECKPOINT_S):
                await self._last_checkpoint()
        except Exception as error:  # noqa: BLE001  # whatever ended the worker may have taken the consumer with it
            self.app.cut_short = True
            _log.warning("no last checkpoint: the next start goes on from the one before", reason=repr(error))
        for partition in self.partitions.values():
            partition.outbox.close()
        if self.producer is not None:
            await self.registry.stop()
            await self.producer.stop()
