"""A worker and a sink as real processes over topics and a database of their own, and what they have made so far."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from time import time
from typing import Any
from uuid import uuid4

import msgspec
from aiokafka import AIOKafkaProducer

from streamproc.core.routing import home
from streamproc.records import DeadLetter, LateReading, SensorEntry
from streamproc.settings.connection import Connection
from streamproc.topics import apply, load, plan, prefixed
from tests.live.conftest import delete_topics
from tests.live.feed import producing, send
from tests.live.oracle import OUTPUTS, PARTITIONS, Reader, Results, found, reading, settled
from tests.live.processes import QUICK, Site, eventually, running
from tests.store.databases import Database

#: A reading as a test writes it: sensor, value, seconds since the epoch.
Sent = tuple[str, float, float]


@dataclass
class Pipeline:
    """What runs, and ways to feed it and to look at what comes out."""

    site: Site
    producer: AIOKafkaProducer
    reader: Reader
    lateness_ms: int = 1_000

    @property
    def topic(self) -> str:
        """The broker's name for `readings`."""
        return f"{self.site.prefix}readings"

    async def send(self, device: str, *readings: Sent, **more: Any) -> None:
        """Have a packet of each reading in the device's partition, in this order, and wait until Kafka has them.

        They go as one batch, which Kafka stamps with one time: however slow the machine, none is late for those before it.
        """
        sent = []
        for sensor, value, ts in readings:
            packet = {"device_uuid": device, "readings": [{"sensor_uuid": sensor, "value": value}], "ts": ts}
            body = json.dumps(packet | more).encode()
            sent.append(await send(self.producer, self.topic, device, body))
        await asyncio.gather(*sent)

    async def limit(self, *entries: SensorEntry) -> None:
        """Put entries on the topic `registry`."""
        for entry in entries:
            await self.producer.send_and_wait(
                f"{self.site.prefix}registry", msgspec.json.encode(entry), entry.sensor.encode()
            )

    async def until_stored(self) -> None:
        """Wait until the database is as far as `readings` was when this was asked."""
        ends = {
            partition: records[-1].offset + 1
            for partition, records in (await self.reader.read("readings")).items()
            if records
        }

        async def caught_up() -> bool:
            reached = {place: offset for topic, place, offset in offsets(self.site) if topic == self.topic}
            return all(reached.get(partition, 0) >= end for partition, end in ends.items())

        await eventually(caught_up)

    async def until_settled(self) -> Results:
        """All that the core makes of `readings` and the registry, once it is all there."""
        results = await eventually(self.settled)
        assert results
        return results

    async def settled(self) -> Results | None:
        """The same if it is there by now."""
        return await settled(self.reader, self.topic, self.lateness_ms)

    async def rows(self, *sensors: str) -> list[tuple[str, float, int]]:
        """The rows of these sensors (of all, without), sorted: sensor, value, ms; once the database has caught up."""
        await self.until_stored()
        return [row for row in rows(self.site) if not sensors or row[0] in sensors]

    async def windows(self, sensor: str, until_s: float) -> dict[tuple[int, int], tuple[float, ...]]:
        """The sensor's windows up to the one of 10 s that begins at `until_s`, once that is there.

        By (size in s, start in s): count, mean, minimum, maximum. Those of a step come together, the smallest first.
        Later ones are left out: it is a question of time whether ticks have closed them by now.
        """

        async def come() -> Results | None:
            results = await found(self.reader)
            return results if (sensor, 10_000, int(until_s * 1000)) in results.windows else None

        results = await eventually(come)
        assert results
        return {
            (size // 1000, start // 1000): row[3:7]
            for (name, size, start), row in results.windows.items()
            if name == sensor and start < (until_s + 10) * 1000
        }

    async def late(self, sensor: str, count: int = 0) -> list[tuple[float, int]]:
        """Value and ms late of the sensor's late readings, once there are so many: windows may be seen before them."""
        found: list[tuple[float, int]] = []

        async def come() -> bool:
            told = [
                msgspec.json.decode(value, type=LateReading) for value in await self.reader.values("late")
            ]
            found[:] = [(late.value, late.late_by_ms) for late in told if late.sensor == sensor]
            return len(found) >= count

        await eventually(come)
        return found

    async def letters(self) -> dict[tuple[int, int], DeadLetter]:
        """The dead letters so far, by the place of the record."""
        values = await self.reader.values("dead-letter")
        told = [msgspec.json.decode(value, type=DeadLetter) for value in values]
        assert len({(letter.partition, letter.offset) for letter in told}) == len(told)
        return {(letter.partition, letter.offset): letter for letter in told}


def running_pipeline(
    bootstrap: Connection, directory: Path, *stages: str, **variables: str
) -> AbstractAsyncContextManager[Pipeline]:
    """Topics, the stages named (worker and sink, without), and all of it gone after the block."""
    return pipeline_on(None, bootstrap, directory, *stages, **variables)


@asynccontextmanager
async def pipeline_on(
    held: Database | None, bootstrap: Connection, directory: Path, *stages: str, **variables: str
) -> AsyncIterator[Pipeline]:
    """The same with another database than a file in the directory."""
    prefix = f"test-{uuid4().hex[:8]}-"
    await apply(bootstrap, await plan(bootstrap, prefixed(load(), prefix)))
    try:
        async with (
            running(bootstrap, prefix, directory) as site,
            producing(bootstrap) as producer,
            reading(bootstrap, prefix, "readings", "registry", *OUTPUTS) as reader,
        ):
            site.variables |= variables
            site.held = held or site.held
            started = [await site.start(name) for name in stages or ("worker", "sink")]
            for stage in started:
                await stage.until_assigned()
            lateness_ms = (QUICK | variables)["STREAMPROC_ALLOWED_LATENESS_MS"]
            yield Pipeline(site, producer, reader, int(lateness_ms))
    finally:
        await delete_topics(bootstrap, prefix)


def select(site: Site, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, sorted; none where there is no such table yet."""
    try:
        return sorted(site.held.rows(query))
    except sqlite3.OperationalError:
        return []


def offsets(site: Site) -> list[tuple[str, int, int]]:
    """How far the database is: topic, partition, next offset."""
    return select(site, 'SELECT topic, "partition", next_offset FROM stream_offsets')


def rows(site: Site) -> list[tuple[str, float, int]]:
    """The readings that the database has, sorted: sensor, value, ms."""
    query = "SELECT uuid, value, device_timestamp FROM sensor_readings r JOIN sensors s ON s.id = r.sensor_id"
    return [
        (sensor, value, round(datetime.fromisoformat(stamp).timestamp() * 1000))
        for sensor, value, stamp in select(site, query)
    ]


def hour_ago() -> int:
    """A whole ten seconds about an hour ago, in s: windows of all sizes begin there."""
    return int(time()) // 10 * 10 - 3_600


def device_in(partition: int) -> str:
    """A device whose records belong to the partition."""
    return next(name for number in count() if home(name := f"device-{number}", PARTITIONS) == partition)
