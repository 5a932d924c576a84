"""Sends records to Kafka; each gets its acknowledgement."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from streamproc.core.routing import home
from streamproc.errors import KafkaRefused, KafkaUnavailable, SettingsError
from streamproc.gateway.rounds import Ack, Record, Rounds, Wait
from streamproc.kafka import clients
from streamproc.kafka.diagnosis import failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamproc.gateway.batch import Message
    from streamproc.settings.connection import Connection

log = structlog.get_logger()

#: Records of one partition that leave together; the largest record may be larger, and then leaves alone.
_BATCH_BYTES = 262_144
#: Above any record that intake lets through; the broker decides.
_REQUEST_BYTES = 1_048_576
#: Connecting anew is tried at these distances, the last for ever.
_BACK_OFF_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
#: A start that takes longer has a broker that accepts connections and says nothing.
_START_SECONDS = 30.0
#: What a producer is given to end its connections.
_STOP_SECONDS = 0.5
#: A broker that takes longer to describe its topics is not ready.
_PROBE_SECONDS = 2.0
#: /ready may be asked by anyone, at any rate: Kafka is asked once in so long.
_PROBE_FRESH_SECONDS = 0.5
#: After a failure /ready says no for so long, or until an acknowledgement; then new requests may try.
_FAILURE_FRESH_SECONDS = 3.0
#: A large bulk lets others run after so many records (30 µs each).
_TURN = 128


#: A device posts again and again: its key's hash (8 µs) is kept, 65,536 of them being some 15 MB.
@lru_cache(maxsize=65_536)
def _home(key: str, partitions: int) -> tuple[bytes, int]:
    """The key as it is written, and its partition."""
    return key.encode(), home(key, partitions)


class PartlyAcknowledged(KafkaUnavailable):
    """Some of the messages were acknowledged; `acks` has their places, and None for each of the others."""

    def __init__(self, reason: str, acks: Sequence[Ack | None]) -> None:
        super().__init__(reason)
        self.acks = acks


class Publisher(Protocol):
    """What the gateway needs of Kafka."""

    @property
    def topic(self) -> str:
        """The topic's name on the broker."""

    async def send(self, messages: Sequence[Message], now_ms: int) -> Sequence[Ack | None]:
        """Write the messages, `now_ms` as their timestamp; returns when all are acknowledged.

        Raises KafkaUnavailable when none was in time, PartlyAcknowledged when not all were; any of those that were not may
        be stored none the less.
        """

    async def fault(self) -> str | None:
        """Say why Kafka cannot take records now; None where it can."""

    @property
    def up(self) -> bool:
        """Whether there is a connection and the last records were acknowledged."""

    @property
    def queued(self) -> int:
        """Batches that wait to be sent."""


class KafkaPublisher:
    """An idempotent producer with acks=all that is made anew when it is beyond repair.

    One batch of each partition is in flight; who comes meanwhile waits for the next one, at most `ack_timeout_seconds` in
    all.
    """

    def __init__(self, kafka: Connection, topic: str, ack_timeout_seconds: float) -> None:
        self.topic = topic
        self._kafka = kafka
        self._ack_timeout = ack_timeout_seconds
        self._producer: AIOKafkaProducer | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._broken = asyncio.Event()
        self._rounds = Rounds(topic)
        #: Requests under way, in the order in which they came.
        self._waits: dict[Wait, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._closing = False
        self._failed_at: float | None = None
        #: Why there was no connection the last time that one was tried; whether Kafka has refused it.
        self._unreachable, self._refused = "", False
        self._probe: asyncio.Task[str | None] | None = None
        self._probed_at = 0.0

    async def start(self, patience_seconds: float) -> None:
        """Begin to connect, to stay so until `close`; return when Kafka is there or patience has ended."""
        self._keeper = asyncio.create_task(self._keep())
        await self._or_failure(self._connected, patience_seconds)

    async def run(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set; raises SettingsError where there is nothing to connect to."""
        await self._or_failure(stop, None)

    async def _or_failure(self, event: asyncio.Event, timeout_seconds: float | None) -> None:
        if self._keeper is None:
            return
        waiting = asyncio.create_task(event.wait())
        tasks = (waiting, self._keeper)
        try:
            await asyncio.wait(tasks, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._keeper.done():
            self._keeper.result()

    async def close(self, grace_seconds: float) -> None:
        """Take no more, give what is under way `grace_seconds` to be acknowledged, and disconnect."""
        self._closing = True
        until = asyncio.get_running_loop().time() + grace_seconds
        for wait in self._waits:
            wait.until = min(wait.until, until)
        if self._waits:
            if self._timer is not None:
                self._timer.cancel()
            self._sweep()
            await self._idle.wait()
        if self._timer is not None:
            self._timer.cancel()
        for task in (self._keeper, self._probe):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._producer is not None:
            await _stop(self._producer)
            self._producer = None

    async def send(self, messages: Sequence[Message], now_ms: int) -> Sequence[Ack | None]:
        """Write the messages, `now_ms` as their timestamp; returns when all are acknowledged.

        Raises KafkaUnavailable when none was in time, PartlyAcknowledged when not all were; any of those that were not may
        be stored none the less.
        """
        producer = self._producer
        if self._closing or producer is None:
            raise KafkaUnavailable("the gateway is stopping" if self._closing else "no connection to Kafka")
        loop = asyncio.get_running_loop()
        wait = Wait(len(messages), loop.create_future(), loop.time() + self._ack_timeout)
        self._waits[wait] = None
        if self._timer is None:
            self._timer = loop.call_at(wait.until, self._sweep)
        try:
            if partitions := producer.client.cluster.partitions_for_topic(self.topic):
                await self._put(messages, now_ms, wait, len(partitions))
            else:
                await self._put(messages, now_ms, wait, await self._partitions(producer, wait))
            await wait.over
        except TimeoutError:
            raise self._failed("Kafka did not acknowledge in time", wait.acks) from None
        except KafkaError as error:
            self._judge(producer, error)
            raise self._failed(f"Kafka refused: {type(error).__name__}", wait.acks) from error
        except KafkaUnavailable as error:
            raise self._failed(str(error), wait.acks) from None
        finally:
            wait.give_up()
            del self._waits[wait]
            if self._closing and not self._waits:
                self._idle.set()
        if self._failed_at is not None:
            self._succeeded()
        return wait.acks

    async def _partitions(self, producer: AIOKafkaProducer, wait: Wait) -> int:
        """Ask Kafka for the topic's partitions, for as long as the request waits."""
        asking = asyncio.create_task(producer.partitions_for(self.topic))
        try:
            await asyncio.wait((asking, wait.over), return_when=asyncio.FIRST_COMPLETED)
            if wait.over.done():
                wait.over.result()
            return len(asking.result())
        finally:
            asking.cancel()

    async def _put(self, messages: Sequence[Message], now_ms: int, wait: Wait, partitions: int) -> None:
        """Line the messages up, each for its key's partition."""
        for index, message in enumerate(messages):
            if index and index % _TURN == 0:
                await asyncio.sleep(0)
            key, partition = _home(message.key, partitions)
            self._rounds.put(partition, Record(wait, index, key, message.value, now_ms))

    def _sweep(self) -> None:
        """Give up those whose time is over; all have the same time, so that the first to come is the first to go."""
        loop = asyncio.get_running_loop()
        self._timer = None
        for wait in self._waits:
            if wait.until > loop.time():
                self._timer = loop.call_at(wait.until, self._sweep)
                return
            if not wait.over.done():
                wait.over.set_exception(TimeoutError())

    def _judge(self, producer: AIOKafkaProducer, error: KafkaError) -> None:
        """Have the producer replaced where it cannot go on, as after a gap in its sequence."""
        if not error.retriable and not isinstance(error, KafkaTimeoutError) and producer is self._producer:
            self._broken.set()

    @property
    def up(self) -> bool:
        """Whether there is a connection and the last records were acknowledged."""
        return self._producer is not None and self._failed_at is None

    @property
    def queued(self) -> int:
        """Batches that wait to be sent."""
        return self._rounds.queued

    def _failed(self, reason: str, acks: Sequence[Ack | None]) -> KafkaUnavailable:
        if self._failed_at is None:
            log.warning("kafka_unavailable", reason=reason, topic=self.topic)
        self._failed_at = asyncio.get_running_loop().time()
        return PartlyAcknowledged(reason, acks) if any(acks) else KafkaUnavailable(reason)

    def _succeeded(self) -> None:
        if self._failed_at is not None:
            log.info("kafka_available", topic=self.topic)
            self._failed_at = None

    async def _keep(self) -> None:
        while True:
            self._producer = await self._connect()
            self._connected.set()
            self._unreachable, self._refused = "", False
            log.info("kafka_connected", bootstrap=str(self._kafka))
            await self._send_rounds(self._producer)
            log.warning("kafka_producer_replaced")
            producer, self._producer = self._producer, None
            await _stop(producer)

    async def _send_rounds(self, producer: AIOKafkaProducer) -> None:
        """Send what comes until the producer is beyond repair."""
        broken = asyncio.create_task(self._broken.wait())
        sending = asyncio.create_task(self._rounds.run(producer))
        try:
            await asyncio.wait((broken, sending), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                log.error("kafka_sending_ended", exc_info=sending.exception())
            self._broken.clear()
        finally:
            broken.cancel()
            sending.cancel()
            await asyncio.wait((broken, sending))

    async def _connect(self) -> AIOKafkaProducer:
        attempt = 0
        while True:
            producer = self._make()
            try:
                async with asyncio.timeout(_START_SECONDS):
                    await producer.start()
            except (KafkaError, OSError) as error:  # a TimeoutError is an OSError
                await _stop(producer)
                reason = await failure(self._kafka, error)
                if str(reason) != self._unreachable:
                    log.warning("kafka_unreachable", bootstrap=str(self._kafka), reason=str(reason))
                self._unreachable, self._refused = str(reason), isinstance(reason, KafkaRefused)
                await asyncio.sleep(_BACK_OFF_SECONDS[min(attempt, len(_BACK_OFF_SECONDS) - 1)])
                attempt += 1
            except (ValueError, OverflowError) as error:
                await _stop(producer)
                raise SettingsError(
                    f"KAFKA_BOOTSTRAP: {self._kafka.bootstrap!r} names no host:port"
                ) from error
            except asyncio.CancelledError:
                await _stop(producer)
                raise
            else:
                producer.client.add_topic(self.topic)
                return producer

    def _make(self) -> AIOKafkaProducer:
        return clients.producer(
            self._kafka,
            client_id="streamproc-gateway",
            acks="all",
            enable_idempotence=True,
            max_batch_size=_BATCH_BYTES,
            max_request_size=_REQUEST_BYTES,
            # Half of the wait: a connection that went dead without a word is replaced within it.
            request_timeout_ms=max(1_000, int(self._ack_timeout * 500)),
        )

    def _no_connection(self) -> str:
        """What anybody may know who asks a gateway: users and brokers are named in the log alone."""
        return f"no connection to Kafka{': it refuses the gateway, as its log says' if self._refused else ''}"

    async def fault(self) -> str | None:
        """Say why Kafka cannot take records now; None where it can."""
        now = asyncio.get_running_loop().time()
        if self._probe is None or (self._probe.done() and now > self._probed_at + _PROBE_FRESH_SECONDS):
            self._probe = asyncio.create_task(self._ask())
            self._probed_at = now
        return await asyncio.shield(self._probe)

    async def _ask(self) -> str | None:
        producer = self._producer
        if self._closing or producer is None:
            return "the gateway is stopping" if self._closing else self._no_connection()
        client = producer.client
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                answered = await client.force_metadata_update()
        except TimeoutError:
            answered = False
        if not answered:
            return "Kafka does not answer"
        partitions = client.cluster.partitions_for_topic(self.topic)
        if not partitions:
            return f"there is no topic {self.topic}"
        if leaderless := partitions - (client.cluster.available_partitions_for_topic(self.topic) or set()):
            return f"{len(leaderless)} of {len(partitions)} partitions have no leader"
        now = asyncio.get_running_loop().time()
        if self._failed_at is not None and now < self._failed_at + _FAILURE_FRESH_SECONDS:
            return "Kafka did not acknowledge the last records"
        return None


async def _stop(producer: AIOKafkaProducer) -> None:
    """End the producer, abruptly where Kafka does not let it end."""
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await producer.stop()
    except (TimeoutError, KafkaError) as error:
        log.debug("kafka_producer_abandoned", reason=str(error))
        await producer.client.close()
