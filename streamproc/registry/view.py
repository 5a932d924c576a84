"""The registry in a process: the topic `registry`, followed from its first record on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Self, TypeVar

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError

from streamproc.core.registry import RegistryLog
from streamproc.errors import KafkaUnavailable
from streamproc.kafka.reading import POLL_MS, Manner, consuming, partitions
from streamproc.kafka.stray import told_apart
from streamproc.records import DEVICE_PREFIX, DeviceEntry, SensorEntry
from streamproc.records.alerting import DOCUMENTS, Document
from streamproc.settings.connection import Connection

OnChange = Callable[[str, SensorEntry | None], None]
OnDevice = Callable[[str, DeviceEntry | None], None]
Devices = dict[str, DeviceEntry | None]
Entry = TypeVar("Entry", SensorEntry, DeviceEntry)

#: How often it is checked that nothing is left to read; bounds how wrong `age_seconds` is. Also how often it is told what is
#: waited for.
CHECK_SECONDS = 2.0
#: The wait before the broker is asked again after a failure.
RETRY_SECONDS = 1.0
#: The broker has 5 s for an answer, since `age_seconds` is not to be wrong for long. It holds a fetch for as long as a poll
#: waits: there is nothing else to be fetched.
FOLLOWING = Manner(wait_ms=POLL_MS, request_ms=5_000)
#: The wait before the topic's end is asked for: the broker's clock is then past the millisecond of any record read by now.
_NEXT_S = 0.002
#: How long an edit is waited for before the topic's end is asked for: the answer comes after that of the fetch that waits
#: for edits, half a second later at most.
_SOON_S = 0.05
#: Between two requests to end: one is mostly enough, and a stage that ends has 3 s.
_CANCEL_AGAIN_S = 0.2

_decode = msgspec.json.Decoder(SensorEntry).decode
_decode_device = msgspec.json.Decoder(DeviceEntry).decode
_decode_document = {prefix: msgspec.json.Decoder(kind).decode for prefix, kind in DOCUMENTS.items()}
_log = structlog.get_logger(__name__)


class Registry:
    """The topic's edits as `log`, and the newest entry of each sensor, device and document.

    `on_change` is told each sensor that comes, changes or goes, `on_device` each device.

    Outlives the broker's absence: the entries stay as they were, and `age_seconds` tells since when. After it, the topic is
    read anew; `log` is then another one.
    """

    def __init__(
        self,
        kafka: Connection,
        topic: str = "registry",
        on_change: OnChange | None = None,
        on_device: OnDevice | None = None,
    ) -> None:
        self.entries: dict[str, SensorEntry] = {}
        self.devices: dict[str, DeviceEntry] = {}
        #: What is neither, by its key on the topic.
        self.documents: dict[str, Document] = {}
        self.log = RegistryLog()
        self._kafka, self._on_change, self._on_device = kafka, on_change, on_device
        # One partition: an order of all edits is what places in it are made of.
        self._place = TopicPartition(topic, 0)
        self._fresh_at = monotonic()
        self._task: asyncio.Task[None] | None = None
        #: The consumer that reads now, while there is one.
        self._consumer: AIOKafkaConsumer | None = None
        #: Set, and another one, whenever `log` has moved.
        self._moved = asyncio.Event()

    async def start(self) -> Self:
        """Read what is there, then follow in a task; waits for broker and topic as long as need be."""
        read = asyncio.Event()
        self._task = asyncio.create_task(self._follow(read), name="registry")
        waiting = asyncio.create_task(read.wait())
        try:
            await asyncio.wait((self._task, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            if not read.is_set():
                await self.stop()
        return self

    async def stop(self) -> None:
        """Follow no more; `entries` stay. Raises what ended the task, if something did (`on_change`, say)."""
        if self._task is None:
            return
        task, self._task = self._task, None
        task.cancel()
        # aiokafka can lose a cancellation: it waits by wait_for, which in Python 3.11 forgets one that comes with the answer.
        while not (await asyncio.wait((task,), timeout=_CANCEL_AGAIN_S))[0]:
            task.cancel()
        if not task.cancelled():
            task.result()

    def age_seconds(self) -> float:
        """How long ago it was last known that no newer entry is on the topic."""
        return monotonic() - self._fresh_at

    async def reached(self, position: int) -> bool:
        """Wait until `log` has come to this position; False where the topic is known to end before it.

        Waits for the broker for as long as need be, and logs that it does. Raises KafkaUnavailable once nobody follows.
        """
        while self.log.position < position:
            moved = self._moved
            if await _soon(moved):
                continue
            end = await self._end()
            if end is not None and end < position:
                return False
            await self._wait(moved, position)
        return True

    async def caught_up(self) -> None:
        """Wait until all is read that was on the topic when this was asked; raises and logs as `reached` does."""
        await asyncio.sleep(_NEXT_S)
        while (end := await self._end()) is None:
            await self._wait(self._moved, None)
        await self.reached(end)

    async def _end(self) -> int | None:
        """The offset at which the topic ends, None where the broker does not tell."""
        if self._consumer is None:
            return None
        try:
            with told_apart():  # the follower, in another task, may stop the consumer meanwhile
                ends: dict[TopicPartition, int] = await self._consumer.end_offsets([self._place])
        except (KafkaError, ConsumerStoppedError, OSError):
            return None
        return ends[self._place]

    async def _wait(self, moved: asyncio.Event, position: int | None) -> None:
        """Wait until `log` has moved, or for a while."""
        if self._task is None:
            raise KafkaUnavailable("the registry is not followed any more")
        if self._task.done():
            self._task.result()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await moved.wait()
        except TimeoutError:
            wanted = "its end" if position is None else position
            _log.warning(
                "waiting for the registry", topic=self._place.topic, wanted=wanted, read=self.log.position
            )

    async def _follow(self, read: asyncio.Event) -> None:
        while True:
            try:
                async with consuming(self._kafka, FOLLOWING) as consumer:
                    await self._follow_with(consumer, read)
            except (KafkaUnavailable, OSError, LookupError) as error:
                _log.warning("registry not reachable, trying again", reason=str(error) or repr(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow_with(self, consumer: AIOKafkaConsumer, read: asyncio.Event) -> None:
        await self._assign(consumer)
        end = (await consumer.end_offsets([self._place]))[self._place]
        log = RegistryLog()
        log.advance(await consumer.position(self._place))
        devices: Devices = {}
        while log.position < end:
            devices |= await self._read(consumer, log)
        self._replace(log, devices)
        self._consumer, self._fresh_at = consumer, monotonic()
        read.set()
        try:
            while True:
                await self._go_on(consumer, log)
        finally:
            self._consumer = None

    async def _go_on(self, consumer: AIOKafkaConsumer, log: RegistryLog) -> None:
        before = log.position
        devices = await self._read(consumer, log)
        if log.position > before:
            self._tell({edit.sensor: edit.entry for edit in log.between(before, log.position)}, devices)
        if self.age_seconds() >= CHECK_SECONDS:
            await self._check(consumer)

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        """The partition, from its first record on."""
        topic = self._place.topic
        found = await partitions(consumer, topic)
        if not found:
            raise LookupError(f"topic {topic} does not exist, or may not be seen by this user of Kafka")
        if len(found) != 1:
            raise LookupError(
                f"topic {topic} has {len(found)} partitions, but edits have one order: give it one"
            )
        await consumer.seek_to_beginning(self._place)

    async def _check(self, consumer: AIOKafkaConsumer) -> None:
        """See whether all is read. A broker that is away makes the view old, and is waited for."""
        now = monotonic()
        try:
            ends = await consumer.end_offsets([self._place])
        except (KafkaError, OSError) as error:
            _log.warning("registry may be old", seconds=round(self.age_seconds()), reason=repr(error))
            return
        if self.log.position >= ends[self._place]:
            self._fresh_at = now

    async def _read(self, consumer: AIOKafkaConsumer, log: RegistryLog) -> Devices:
        """Add the next records to the log, if any come soon; raises LookupError where they are another topic's.

        Gives the devices that have come, changed or gone.
        """
        devices: Devices = {}
        for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
            if records and records[0].offset < log.position:
                raise LookupError(f"topic {self._place.topic} was made anew, it is read from its beginning")
            devices |= take_in(log, records)
        log.advance(await consumer.position(self._place))
        return devices

    def _replace(self, log: RegistryLog, devices: Devices) -> None:
        """Go on with a log that was read from the beginning: what is not in it, is gone."""
        self.log = log
        entries = {**dict.fromkeys(self.entries), **log.as_of(log.position)}
        self._tell(entries, {**dict.fromkeys(self.devices), **devices})

    def _tell(self, entries: dict[str, SensorEntry | None], devices: Devices) -> None:
        self.documents = self.log.documents_as_of(self.log.position)
        self._moved.set()
        self._moved = asyncio.Event()
        _put(self.entries, entries, self._on_change)
        _put(self.devices, devices, self._on_device)


async def _soon(moved: asyncio.Event) -> bool:
    """Whether the log moves within a moment, as it does where an edit is on its way."""
    try:
        async with asyncio.timeout(_SOON_S):
            return await moved.wait()
    except TimeoutError:
        return False


def _put(
    known: dict[str, Entry],
    changes: dict[str, Entry | None],
    tell: Callable[[str, Entry | None], None] | None,
) -> None:
    """Make the changes to what is known, and tell those that are some."""
    for name, entry in changes.items():
        if entry == known.get(name):
            continue
        if entry is None:
            del known[name]
        else:
            known[name] = entry
        if tell is not None:
            tell(name, entry)


def take_in(log: RegistryLog, records: Iterable[Any]) -> Devices:
    """Add records of the topic, as aiokafka gives them, to a log; returns the devices that they add, change or remove.

    Of devices a log has the names alone: nothing else of them has a part in what is told. A record that is no entry changes
    nothing but the position.
    """
    devices: Devices = {}
    for record in records:
        try:
            key = (record.key or b"").decode()
            if key.startswith(DEVICE_PREFIX):
                device = None if record.value is None else _decode_device(record.value)
                name = key.removeprefix(DEVICE_PREFIX)
                devices[name] = device
                log.append_device(record.offset, record.timestamp, name, device.name if device else None)
                continue
            if decode := _decode_document.get(key[: key.find("/") + 1]):
                document = None if record.value is None else decode(record.value)
                log.append_document(record.offset, record.timestamp, key, document)
                continue
            entry = None if record.value is None else _decode(record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            _log.warning("registry record not understood", offset=record.offset, reason=str(error))
            key, entry = "", None
        log.append(record.offset, record.timestamp, key, entry)
    return devices
