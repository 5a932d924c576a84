"""The sink process: a Faust agent that hands chunks to the writer. It reads on from the database's offsets."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from faust.types import TP

from streamproc.core.chunk import Chunk
from streamproc.errors import StaleOwner
from streamproc.kafka import clients
from streamproc.kafka.transport import ChunkedApp
from streamproc.monitor import Address, Told, serving
from streamproc.records import DeadLetter
from streamproc.registry.sender import sending
from streamproc.registry.service import Send
from streamproc.settings import Settings, load
from streamproc.sink import health, metrics
from streamproc.sink.registry import Following, RegistryKeeper
from streamproc.sink.rows import Decoder
from streamproc.sink.writer import Writer
from streamproc.store import connect

#: Chunks written together, at most: four topics of up to sixteen partitions in one transaction.
CHUNKS = 64
#: How long a rebalance waits for a write under way; the next owner would find the offsets moved, and start again.
REVOKE_WAIT_S = 2.0
#: A sink that was thrown out hears of it with the next heartbeat, 2.5 s; it has written its 8 chunks before.
STALE_TRIES = 10
#: How often the sink sees whether it should ask the database how it stands.
LOOK_S = 1.0
#: Following the registry ends at once, but with a broker that is away it may not; the whole stop has 4.5 s.
UNFOLLOW_S = 0.5
#: A dead letter carries up to 700 KB of payload, escaped.
MESSAGE_BYTES = 4_000_000

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class Sink:
    """The sink's Faust app and what it holds: the store, its writer, and a producer for dead letters."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = connect(settings)
        self.following = Following(settings)
        self.writer = Writer(self.store, settings, self.dead_letters, self.following.view)
        self.producer: AIOKafkaProducer | None = None
        self.app = ChunkedApp(
            settings.group("sink"),
            settings.kafka,
            self.positions,
            consumer_group_instance_id=settings.group_instance_id,
        )
        address = Address(settings.sink_host, settings.sink_port, "STREAMPROC_SINK_PORT")
        told = Told("sink", lambda: health.checks(self), lambda: health.gauges(self))
        self.app.around.append(serving(address, told))
        self.assigned = False
        self._first = TP(settings.topic("readings"), 0)
        self.registry = RegistryKeeper(
            self.store, settings, self._registry_sender, self._has_first, self.following.started
        )
        self._wire()

    def _wire(self) -> None:
        app = self.app
        names = [self.settings.topic(name) for name in Decoder.TOPICS]
        channel = app.topic(*names, key_serializer="raw", value_serializer="raw")
        linger_s = self.settings.sink_linger_ms / 1000

        @app.agent(channel, name="sink")
        async def sink(stream: Any) -> None:
            async for events in stream.noack_take(CHUNKS, within=linger_s):
                await app.guarded(self.write([event.message.value for event in events]))

        @app.task
        async def look() -> None:
            while not app.should_stop:
                await app.guarded(self.writer.look())
                await app.sleep(LOOK_S)

        @app.task
        async def keep_registry() -> None:
            while not app.should_stop:
                await app.guarded(self.registry.look())
                await app.sleep(LOOK_S)

        app.on_rebalance_complete.connect(self._on_rebalance_complete, weak=False)
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        app.on_before_shutdown.connect(self._on_shutdown, weak=False)

    async def write(self, chunks: list[Chunk]) -> None:
        """Write the chunks of partitions that this sink still has.

        Between two owners of a partition there is a moment when both write; what one has written the other skips.
        """
        tried = 0
        await self.following.started()
        while ours := self._ours(chunks):
            try:
                await self.writer.write(ours)
                break
            except StaleOwner as error:
                tried += 1
                if tried > STALE_TRIES or not await self._reached(ours):
                    raise
                _log.warning("another sink has written on", reason=str(error))
        for chunk in ours:
            # The database knows better; this is for those who watch the group's lag.
            self.app.mark(TP(chunk.topic, chunk.partition), chunk.next_offset)

    def _ours(self, chunks: list[Chunk]) -> list[Chunk]:
        assigned = self.app.consumer.assignment()
        ours = [chunk for chunk in chunks if TP(chunk.topic, chunk.partition) in assigned]
        metrics.PASSED_OVER.inc(sum(map(len, chunks)) - sum(map(len, ours)))
        return ours

    async def _reached(self, chunks: list[Chunk]) -> bool:
        """Whether the database has come as far as these chunks begin: if it was set back, records before them are missing."""
        known = await self.writer.positions({(chunk.topic, chunk.partition) for chunk in chunks})
        firsts: dict[tuple[str, int], int] = {}
        for chunk in chunks:
            firsts.setdefault((chunk.topic, chunk.partition), int(chunk.offsets[0]))
        return all(known.get(place, 0) >= first for place, first in firsts.items())

    async def positions(self, assigned: frozenset[TP]) -> dict[TP, int]:
        """Where to read on in each partition: what the database holds, else the partition's beginning."""
        known = await self.writer.positions([(tp.topic, tp.partition) for tp in assigned])
        return {tp: known.get((tp.topic, tp.partition), 0) for tp in assigned}

    async def dead_letters(self, letters: list[DeadLetter]) -> None:
        """Put letters on the topic `dead-letter`; returns once Kafka has them."""
        producer = await self._started_producer()
        topic = self.settings.topic("dead-letter")
        await asyncio.gather(*[await producer.send(topic, _encode(letter)) for letter in letters])

    async def _started_producer(self) -> AIOKafkaProducer:
        if self.producer is None:
            producer = clients.producer(
                self.settings.kafka,
                acks="all",
                enable_idempotence=True,
                max_request_size=MESSAGE_BYTES,
            )
            await producer.start()
            self.producer = producer
        return self.producer

    async def _registry_sender(self) -> Send:
        return sending(await self._started_producer(), self.settings.topic("registry"))

    def _has_first(self) -> bool:
        """Whether this is the one sink of all that has the first partition of `readings`."""
        return self.assigned and self._first in self.app.consumer.assignment()

    async def _on_rebalance_complete(self, *_: Any, **__: Any) -> None:
        self.assigned = True
        assigned = sorted(f"{tp.topic}/{tp.partition}" for tp in self.app.consumer.assignment())
        _log.info("partitions", assigned=assigned)

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        """Let a write that is under way end, if it does so soon."""
        try:
            async with asyncio.timeout(REVOKE_WAIT_S):
                await self.writer.positions(())
        except TimeoutError:
            _log.warning("a write is still under way as its partitions go", seconds=REVOKE_WAIT_S)

    async def _on_shutdown(self, *_: Any, **__: Any) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(UNFOLLOW_S):
                await self.following.stop()
        await self.store.close()
        if self.producer is not None:
            await self.producer.stop()


def run() -> None:
    """Run the sink until SIGTERM or SIGINT; the process ends with it."""
    Sink(load()).app.serve()
