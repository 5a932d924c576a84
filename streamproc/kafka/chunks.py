"""A partition's records from one offset to another as chunks, without joining anybody's group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamproc.core.chunk import Chunk
from streamproc.errors import KafkaUnavailable
from streamproc.kafka.transport import (
    FETCH_BYTES,
    FETCH_WAIT_MS,
    ISOLATION,
    gathered,
    spare_records,
    wait_for_more,
)

#: A broker that restarts is back within a minute; one that gives nothing for longer is told of.
SILENCE_S = 60.0


@asynccontextmanager
async def consuming(bootstrap: str, group: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that is told its partitions, and commits nothing by itself; raises KafkaUnavailable."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="none",  # a record that is gone is an error, not a reason to read another
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        isolation_level=ISOLATION,
    )
    try:
        await consumer.start()
        yield consumer
    except KafkaError as error:
        raise KafkaUnavailable(f"Kafka at {bootstrap}: {error!r}") from error
    finally:
        await consumer.stop()


async def read(
    consumer: AIOKafkaConsumer, place: TopicPartition, begin: int, end: int, stopped: Callable[[], bool]
) -> AsyncIterator[Chunk]:
    """The records begin..end-1 in order, until `stopped`; raises KafkaUnavailable after SILENCE_S without any."""
    consumer.assign([place])
    consumer.seek(place, begin)
    heard = monotonic()
    while await consumer.position(place) < end and not stopped():
        chunk = await _next(consumer._fetcher, place)  # noqa: SLF001  # aiokafka gives columns to nobody else
        if chunk is None:
            if monotonic() - heard > SILENCE_S:
                raise KafkaUnavailable(
                    f"{place.topic}/{place.partition}: Kafka gave nothing for {SILENCE_S:.0f} s before offset {end}"
                )
            continue
        heard = monotonic()
        wanted = chunk.cut(0, int(chunk.offsets.searchsorted(end)))
        if len(wanted):
            yield wanted


async def _next(fetcher: Any, place: TopicPartition) -> Chunk | None:
    """What has come of the partition, or None where nothing has for a moment."""
    with fetcher._subscriptions.fetch_context():  # noqa: SLF001
        spare_records(fetcher)
        drained = await fetcher.fetched_records({place}, timeout=0, max_records=1)
        if not drained:
            await wait_for_more(fetcher, FETCH_WAIT_MS / 1000)
            return None
        async for _, chunk in gathered(fetcher, drained):
            return chunk
    return None
