"""A worker's work: what it is sent, and how one waits for what it makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice

import msgspec
from aiokafka import AIOKafkaProducer

from streamproc.records import SensorEntry
from tests.live.feed import send, signal
from tests.live.oracle import Reader, Results, committed, reading, settled
from tests.live.processes import Site, eventually


async def limit(site: Site, producer: AIOKafkaProducer, *entries: SensorEntry) -> None:
    """Put entries on the topic `registry`."""
    for entry in entries:
        await producer.send_and_wait(
            f"{site.prefix}registry", msgspec.json.encode(entry), entry.sensor.encode()
        )


async def feed(
    site: Site,
    producer: AIOKafkaProducer,
    seconds: int,
    made: Iterator[list[tuple[str, bytes]]] | None = None,
) -> None:
    """Send so much of the made signal of twelve devices, each second of it once Kafka has the one before."""
    for batch in islice(made or signal(12, seconds), seconds):
        sent = [await send(producer, f"{site.prefix}readings", device, value) for device, value in batch]
        await asyncio.gather(*sent)


async def until_settled(site: Site, reader: Reader) -> Results:
    """All that the core makes of `readings`, once it is all there."""
    results = await eventually(lambda: settled(reader, f"{site.prefix}readings"))
    assert results
    return results


async def until_checkpointed(site: Site) -> None:
    """Wait until Kafka has as done what the partitions hold now."""
    topic = f"{site.prefix}readings"
    async with reading(site.bootstrap, site.prefix, "readings") as reader:
        ends = {number: len(records) for number, records in (await reader.read("readings")).items()}

    async def reached() -> bool:
        done = await committed(site.bootstrap, f"{site.prefix}streamproc-worker", topic)
        return all(done.get(number, (0, ""))[0] >= end for number, end in ends.items())

    await eventually(reached)


async def written(reader: Reader) -> int:
    """How many messages of windows the engine has written."""
    return len(await reader.values("windows"))


async def until_more(reader: Reader, before: int) -> None:
    """Wait until the engine has written more messages of windows; asked after the feed, all may have come already."""

    async def more() -> bool:
        return await written(reader) > before

    await eventually(more)
