"""Reads a partition from one offset to another as chunks, without joining a consumer group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from aiokafka import AIOKafkaConsumer, TopicPartition

from streamproc.core.chunk import Chunk
from streamproc.kafka.fetched import gathered, spare_records, wait_for_more
from streamproc.kafka.reading import Manner, polled
from streamproc.kafka.transport import FETCH_BYTES, FETCH_WAIT_MS, ISOLATION

#: As a worker reads; but a record that is gone is an error, not a reason to read another.
AS_A_WORKER = Manner(fetch_bytes=FETCH_BYTES, wait_ms=FETCH_WAIT_MS, isolation=ISOLATION, gone="none")
#: A broker that restarts is back within a minute; one that gives nothing for longer is told of.
SILENCE_S = 60.0


async def read(
    consumer: AIOKafkaConsumer, place: TopicPartition, begin: int, end: int, stopped: Callable[[], bool]
) -> AsyncIterator[Chunk]:
    """The records begin..end-1 in order, until `stopped`; raises KafkaUnavailable after SILENCE_S without any."""

    async def poll(behind: list[TopicPartition]) -> dict[TopicPartition, Chunk]:
        """What has come of the partition, which is the one in `behind`, or nothing where nothing has for a moment."""
        fetcher = consumer._fetcher  # noqa: SLF001  # aiokafka gives columns to nobody else
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001
            spare_records(fetcher)
            drained = await fetcher.fetched_records(set(behind), timeout=0, max_records=1)
            if not drained:
                await wait_for_more(fetcher, FETCH_WAIT_MS / 1000)
                return {}
            return {come: chunk async for come, chunk in gathered(fetcher, drained)}

    async for come in polled(consumer, {place: (begin, end)}, poll, SILENCE_S):
        if stopped():
            return
        for chunk in come.values():
            wanted = chunk.cut(0, int(chunk.offsets.searchsorted(end)))
            if len(wanted):
                yield wanted
