"""Edits of the registry in a real stream: soon in force, at a place that everybody sees the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic, time
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from streamproc.core.chunk import EDIT
from streamproc.core.routing import home
from streamproc.records import Range, SensorEntry, SeverityEvent
from tests.live.feed import packet, send, signal
from tests.live.oracle import OUTPUTS, PARTITIONS, Reader, found, reading
from tests.live.processes import Site, eventually
from tests.live.test_engine import feed, limit, until_checkpointed, until_more, until_settled


@pytest.fixture
async def reader(site: Site) -> AsyncIterator[Reader]:
    """Reads what the engine reads, and all that it makes."""
    async with reading(site.bootstrap, site.prefix, "readings", "registry", *OUTPUTS) as reader:
        yield reader


def edits(version: int, sensors: int) -> list[SensorEntry]:
    """Ranges of the made signal's sensors that raise half of the readings to WARN, or CRITICAL, or none, by version."""
    half, wide = Range(low=20.0), Range(high=1e6)
    warning, critical = ((wide, wide), (half, wide), (wide, half))[version % 3]
    return [
        SensorEntry(f"sensor-{number}", warning=warning, critical=critical, version=version)
        for number in range(sensors)
    ]


async def controls(reader: Reader) -> list[Any]:
    """The control records that name a position."""
    return [
        record
        for records in (await reader.read("readings")).values()
        for record in records
        if any(name == EDIT for name, _ in record.headers)
    ]


async def test_edits_amid_readings_and_kills_have_their_place(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """Every worker judges each reading by the ranges of its place, which is where the core finds it in a replay."""
    await limit(site, producer, *edits(1, 12))
    made = signal(12, 1_000)
    worker = await site.worker(STREAMPROC_GROUP_INSTANCE_ID="w")
    for version in range(2, 5):
        await feed(site, producer, 4, made)
        await until_checkpointed(site)
        await asyncio.gather(feed(site, producer, 8, made), limit(site, producer, *edits(version, 12)))
        await until_more(reader)
        worker.kill()
        await worker.ended()
        await limit(site, producer, *edits(version + 10, 3))
        worker = await site.worker(STREAMPROC_GROUP_INSTANCE_ID="w")
    await feed(site, producer, 10, made)
    results = await until_settled(site, reader)
    told = [msgspec.json.decode(row[0], type=SeverityEvent) for row in results.events.values()]
    assert len({event.lineage.versions["registry"] for event in told}) > 3
    assert not worker.told("registry did not have the position that records name: taken as ticks")


async def test_an_edit_is_in_force_soon(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """A second is promised; a machine that has others' work may take some."""
    await site.worker()
    took = []
    for version in range(1, 6):
        sensor = f"sensor-{version}"
        await send(producer, f"{site.prefix}readings", "d", packet("d", sensor, 99.0, time()))
        await until_more(reader)
        began = monotonic()
        await limit(site, producer, SensorEntry(sensor, critical=Range(high=60.0)))

        async def judged(sensor: str = sensor) -> bool:
            value = packet("d", sensor, 99.0, time())
            await (await send(producer, f"{site.prefix}readings", "d", value))
            values = await reader.values("events")
            return any(msgspec.json.decode(each, type=SeverityEvent).sensor == sensor for each in values)

        await eventually(judged)
        took.append(monotonic() - began)
    assert sorted(took)[2] < 5
    assert await until_settled(site, reader)


async def test_an_import_is_a_few_records(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """However many its entries are: one in each beat while it lasts, and none in partitions without readings."""
    await site.worker()
    await (await send(producer, f"{site.prefix}readings", "d", packet("d", "sensor-0", 1.0, time())))
    await until_more(reader)
    began = monotonic()
    topic = f"{site.prefix}registry"
    for entry in edits(1, 5_000):
        await producer.send(topic, msgspec.json.encode(entry), entry.sensor.encode())
    await producer.flush()

    async def announced() -> bool:
        return any(record.headers[0][1] == b"5000" for record in await controls(reader))

    await eventually(announced)
    written = await controls(reader)
    assert len(written) <= 2 + (monotonic() - began) / 0.25
    assert {record.partition for record in written} == {home("d", PARTITIONS)}


async def test_positions_that_never_were_are_ticks(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """Written by anybody: told, passed over, and no less so when the registry has grown as far."""
    await limit(site, producer, *edits(1, 2))
    worker = await site.worker()
    made = signal(12, 1_000)
    await feed(site, producer, 5, made)
    for position in (b"9", b"none", b"1", b"", b"999999999999999999"):
        for partition in range(PARTITIONS):
            await producer.send_and_wait(
                f"{site.prefix}readings", b"{", partition=partition, headers=[(EDIT, position)]
            )
    await feed(site, producer, 5, made)
    await until_settled(site, reader)
    told = worker.told("registry did not have the position that records name: taken as ticks")
    assert {line["partition"] for line in told} == {str(number) for number in range(PARTITIONS)}
    await limit(site, producer, *edits(2, 12))
    await feed(site, producer, 5, made)
    await until_settled(site, reader)
    assert not (await found(reader)).letters
