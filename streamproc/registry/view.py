"""The registry as a process sees it: the topic `registry`, followed from its first record on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Self

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamproc.records import SensorEntry

OnChange = Callable[[str, SensorEntry | None], None]

#: How often it is checked that nothing is left to read; bounds how wrong `age_seconds` is.
CHECK_SECONDS = 2.0
#: Longest that the broker may take for an answer, and the wait before it is asked again after a failure.
REQUEST_MS = 5_000
RETRY_SECONDS = 1.0
#: Longest that a poll waits for records: how late a stop may be noticed.
_POLL_MS = 500

_decode = msgspec.json.Decoder(SensorEntry).decode
_log = structlog.get_logger(__name__)


class Registry:
    """The newest entry of each sensor, by key; `on_change` is told each that comes, changes or goes (None).

    Outlives the broker's absence: the entries stay as they were, and `age_seconds` tells since when.
    """

    def __init__(self, bootstrap: str, topic: str = "registry", on_change: OnChange | None = None) -> None:
        self.entries: dict[str, SensorEntry] = {}
        self._bootstrap, self._topic, self._on_change = bootstrap, topic, on_change
        self._fresh_at = monotonic()
        self._task: asyncio.Task[None] | None = None

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
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise

    def age_seconds(self) -> float:
        """How long ago it was last known that no newer entry is on the topic."""
        return monotonic() - self._fresh_at

    async def _follow(self, read: asyncio.Event) -> None:
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                request_timeout_ms=REQUEST_MS,
            )
            try:
                await consumer.start()
                await self._follow_with(consumer, read)
            except (KafkaError, OSError, LookupError) as error:
                _log.warning("registry not reachable, trying again", reason=str(error) or repr(error))
            finally:
                await consumer.stop()
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow_with(self, consumer: AIOKafkaConsumer, read: asyncio.Event) -> None:
        places = await self._assign(consumer)
        ends = await consumer.end_offsets(places)
        first: dict[str, SensorEntry | None] = dict.fromkeys(self.entries)  # what is not read again, is gone
        while not await _has_reached(consumer, ends):
            first.update(await _read(consumer))
        self._apply(first)
        self._fresh_at = monotonic()
        read.set()
        while True:
            self._apply(await _read(consumer))
            if self.age_seconds() >= CHECK_SECONDS:
                await self._check(consumer, places)

    async def _assign(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        """All partitions, from the first record; asks for all topics, since asking for one may create it."""
        if self._topic not in await consumer.topics():
            raise LookupError(f"topic {self._topic} does not exist")
        first = TopicPartition(self._topic, 0)
        consumer.assign([first])
        await consumer.end_offsets([first])  # from here on the consumer knows the topic's partitions
        numbers = consumer.partitions_for_topic(self._topic) or {0}
        places = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        return places

    async def _check(self, consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> None:
        """See whether all is read. A broker that is away makes the view old, and is waited for."""
        now = monotonic()
        try:
            if await _has_reached(consumer, await consumer.end_offsets(places)):
                self._fresh_at = now
        except (KafkaError, OSError) as error:
            _log.warning("registry may be old", seconds=round(self.age_seconds()), reason=repr(error))

    def _apply(self, changes: dict[str, SensorEntry | None]) -> None:
        for sensor, entry in changes.items():
            if entry == self.entries.get(sensor):
                continue
            if entry is None:
                del self.entries[sensor]
            else:
                self.entries[sensor] = entry
            if self._on_change is not None:
                self._on_change(sensor, entry)


async def _has_reached(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    return all([await consumer.position(place) >= end for place, end in ends.items()])


async def _read(consumer: AIOKafkaConsumer) -> dict[str, SensorEntry | None]:
    """The newest entry of each sensor among the next records, None where it is taken away."""
    changes: dict[str, SensorEntry | None] = {}
    for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
        for record in records:
            try:
                key = (record.key or b"").decode()
                changes[key] = None if record.value is None else _decode(record.value)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                _log.warning("registry record not understood", offset=record.offset, reason=str(error))
    return changes
