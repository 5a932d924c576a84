"""Edits of the registry in a real stream: soon in force, at a place that everybody sees the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic, time
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from streamproc.core.chunk import EDIT
from streamproc.core.routing import home
from streamproc.records import Range, SensorEntry, SeverityEvent
from streamproc.topics import apply, load, plan, prefixed
from tests.live.feed import packet, send, signal
from tests.live.oracle import PARTITIONS, Reader, found
from tests.live.processes import Site, eventually
from tests.live.test_snapshots import make_anew
from tests.live.worked import feed, limit, until_checkpointed, until_more, until_settled, written
from tests.slowness import in_time

NOT_KNOWN = "registry did not have the position that records name: taken as ticks"


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
        before = await written(reader)
        await asyncio.gather(feed(site, producer, 8, made), limit(site, producer, *edits(version, 12)))
        await until_more(reader, before)
        worker.kill()
        await worker.ended()
        await limit(site, producer, *edits(version + 10, 3))
        worker = await site.worker(STREAMPROC_GROUP_INSTANCE_ID="w")
    await feed(site, producer, 10, made)
    results = await until_settled(site, reader)
    told = [msgspec.json.decode(row[0], type=SeverityEvent) for row in results.events.values()]
    assert len({event.lineage.versions["registry"] for event in told}) > 3
    assert not worker.told(NOT_KNOWN)


async def test_an_edit_is_in_force_soon(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """A second is promised; a machine that has others' work may take some."""
    await site.worker()
    took = []
    for version in range(1, 6):
        sensor = f"sensor-{version}"
        before = await written(reader)
        await send(producer, f"{site.prefix}readings", "d", packet("d", sensor, 99.0, time()))
        await until_more(reader, before)
        began = monotonic()
        await limit(site, producer, SensorEntry(sensor, critical=Range(high=60.0)))

        async def judged(sensor: str = sensor) -> bool:
            value = packet("d", sensor, 99.0, time())
            await (await send(producer, f"{site.prefix}readings", "d", value))
            values = await reader.values("events")
            return any(msgspec.json.decode(each, type=SeverityEvent).sensor == sensor for each in values)

        await eventually(judged)
        took.append(monotonic() - began)
    assert in_time(sorted(took)[2], 5), took
    assert await until_settled(site, reader)


async def test_an_import_is_a_few_records(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """However many its entries are: one in each beat while it lasts, and none in partitions without readings."""
    await site.worker()
    await (await send(producer, f"{site.prefix}readings", "d", packet("d", "sensor-0", 1.0, time())))
    await until_more(reader, 0)
    began = monotonic()
    topic = f"{site.prefix}registry"
    for entry in edits(1, 5_000):
        await producer.send(topic, msgspec.json.encode(entry), entry.sensor.encode())
    await producer.flush()

    async def announced() -> bool:
        return any(record.headers[0][1] == b"5000" for record in await controls(reader))

    await eventually(announced)
    records = await controls(reader)
    assert len(records) <= 2 + (monotonic() - began) / 0.25
    assert {record.partition for record in records} == {home("d", PARTITIONS)}


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
    told = worker.told(NOT_KNOWN)
    assert {line["partition"] for line in told} == set(range(PARTITIONS))
    await limit(site, producer, *edits(2, 12))
    await feed(site, producer, 5, made)
    await until_settled(site, reader)
    assert not (await found(reader)).letters


async def until_judged(site: Site, producer: AIOKafkaProducer, reader: Reader, sensor: str) -> SeverityEvent:
    """Send readings that are beyond the sensor's range until one raises an event; gives that."""

    async def judged() -> SeverityEvent | None:
        value = packet("d", sensor, 99.0, time())
        await (await send(producer, f"{site.prefix}readings", "d", value))
        told = [msgspec.json.decode(each, type=SeverityEvent) for each in await reader.values("events")]
        return next((event for event in told if event.sensor == sensor), None)

    event = await eventually(judged)
    assert event
    return event


#: How far the clock of the registry's broker is ahead: many beats of a worker, on a slow machine as well.
AHEAD_S = 10.0


async def test_an_edit_by_a_clock_that_is_ahead_counts_once_its_time_has_come(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """Announced at once, it is not known at that time by the partition's clock: it is announced again, each second."""
    registry = [spec for spec in prefixed(load(), site.prefix) if spec.name.endswith("registry")]
    by_producer = [
        replace(spec, configs={**spec.configs, "message.timestamp.type": "CreateTime"}) for spec in registry
    ]
    await apply(site.bootstrap, await plan(site.bootstrap, by_producer))
    worker = await site.worker()
    await (await send(producer, f"{site.prefix}readings", "d", packet("d", "s", 1.0, time())))
    await until_more(reader, 0)
    began, stamp = monotonic(), round((time() + AHEAD_S) * 1000)
    entry = msgspec.json.encode(SensorEntry("s", critical=Range(high=60.0)))
    await producer.send_and_wait(f"{site.prefix}registry", entry, b"s", timestamp_ms=stamp)
    event = await until_judged(site, producer, reader, "s")
    assert event.lineage.versions["registry"] == "1"
    announced = await controls(reader)
    assert {record.headers[0][1] for record in announced} == {b"1"}
    assert announced[-1].timestamp >= stamp
    assert 1 < len(announced) <= 2 + monotonic() - began
    assert worker.told(NOT_KNOWN)
    await until_settled(site, reader)


async def registry_command(site: Site, *arguments: str) -> None:
    """Run `streamproc registry …` to its end."""
    stage = await site.start("registry", "-m", "streamproc", "registry", *arguments)
    assert await stage.ended() == 0, stage.log.read_text()


async def test_a_registry_that_was_made_anew_ends_the_worker(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """With what to do; the next start goes on with what is there, and done, all of the database's edits count again."""
    whole, single = (site.directory / name for name in ("whole.yaml", "single.yaml"))
    single.write_text("sensors:\n- sensor: other\n")
    ranges = "\n".join(f"- {{sensor: s-{n}, critical: {{high: 60.0}}}}" for n in range(3))
    whole.write_text(f"sensors:\n{ranges}\n")
    await registry_command(site, "import", str(whole))
    worker = await site.worker()
    await until_judged(site, producer, reader, "s-0")
    await until_checkpointed(site)
    await make_anew(site, "registry")
    await registry_command(site, "import", str(single))
    assert await worker.ended() == 1
    (failed,) = worker.told("stage failed")
    for words in ("was made anew", "the registry's topic ends at 1", "streamproc registry import FILE"):
        assert words in failed["exception"]
    worker = await site.worker()
    await (await send(producer, f"{site.prefix}readings", "d", packet("d", "s-1", 99.0, time())))
    await worker.until_told(
        "registry ends before the checkpoint's position: judged as of the time of its records"
    )
    await registry_command(site, "export", "-o", str(whole))
    await registry_command(site, "import", str(whole))
    await until_judged(site, producer, reader, "s-2")
    assert (await worker.terminate())[0] == 0
