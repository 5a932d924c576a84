"""The sink as a real process: whatever happens to it, each row is in the database once, and the offsets with it.

On SQLite's file, and on a server that speaks T-SQL where there is one.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from datetime import datetime
from time import time
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from faust.types import TP

from streamproc.core.chunk import MOVED
from streamproc.core.engine import Options, PartitionState, step
from streamproc.core.routing import home
from streamproc.engine.outputs import messages
from streamproc.kafka.columns import gather
from streamproc.records import WindowRows
from streamproc.sink.rows import Decoder
from tests.live.feed import packet, send, signal
from tests.live.oracle import PARTITIONS, Reader, reading
from tests.live.pipeline import offsets, select
from tests.live.processes import Site, Stage, eventually
from tests.slowness import in_time
from tests.store.databases import Database

#: Those of which the tests here make rows.
TOPICS = ("readings", "windows", "predictions", "events", "notifications")
#: What the sinks share out among them.
ALL_PARTITIONS = len(Decoder.TOPICS) * PARTITIONS
TABLES = {
    "readings": "SELECT uuid, value, device_timestamp FROM sensor_readings JOIN sensors s ON s.id = sensor_id",
    "windows": (
        "SELECT uuid, size_ms, window_start, count, mean, min, max,"
        " deviation, first, last, trend, first_offset, last_offset"
        " FROM sensor_windows JOIN sensors s ON s.id = sensor_id"
    ),
    "predictions": "SELECT uuid, predicted_value, lower, upper FROM predictions JOIN sensors s ON s.id = sensor_id",
    "events": "SELECT event_id FROM ml_events",
    "notifications": "SELECT notification_id FROM alert_notifications",
}
#: Few, so that there are many transactions to be killed in.
SMALL = {"STREAMPROC_SINK_BATCH_ROWS": "200", "STREAMPROC_SINK_LINGER_MS": "20"}
#: So many readings wait for the sinks at most: more than a test waits for at once.
AHEAD = 5_000
#: So many readings are sent in all at least, 150 s of the made signal: it has events then, and every table rows.
LEAST = 150 * 120

#: What a sink says of each try that the database has not taken.
AWAY = "database away, trying again"

Rows = dict[str, list[tuple[Any, ...]]]


@pytest.fixture
def site(held: Database, site: Site) -> Site:
    """Processes whose sinks write to a database of each kind, and end before it is dropped."""
    site.held = held
    return site


@pytest.fixture
async def reader(site: Site) -> AsyncIterator[Reader]:
    """Reads the sink's topics."""
    async with reading(site.bootstrap, site.prefix, *TOPICS) as reader:
        yield reader


class Feed:
    """The made signal, sent for as long as it is wanted: however fast the sinks are, there is always more for them."""

    def __init__(self, site: Site, producer: AIOKafkaProducer) -> None:
        self.wanted = True
        self.readings = 0
        self._site, self._producer = site, producer
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        for batch in signal(12, 100_000):
            await eventually(self._is_due)
            if not self.wanted and self.readings >= LEAST:
                return
            topic = f"{self._site.prefix}readings"
            sent = [await send(self._producer, topic, device, value) for device, value in batch]
            await asyncio.gather(*sent)
            self.readings += len(batch)

    async def _is_due(self) -> bool:
        return not self.wanted or self.readings - count(self._site) < AHEAD

    async def end(self) -> None:
        """Send no more, once it was enough."""
        self.wanted = False
        await self._task


async def feed_results(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """Send what the engine would make of the readings."""
    topic = f"{site.prefix}readings"
    for partition, records in (await reader.read("readings")).items():
        if not records:
            continue
        state, chunk = (
            PartitionState(Options(topic, partition, PARTITIONS)),
            gather(TP(topic, partition), records),
        )
        for made in messages(state, chunk, step(state, chunk)):
            if made.topic in TOPICS:
                await producer.send_and_wait(site.prefix + made.topic, made.value, made.key, made.partition)


async def wanted(reader: Reader) -> Rows:
    """The rows that the records on the topics stand for, each once, sorted."""
    rows: dict[str, set[tuple[Any, ...]]] = {topic: set() for topic in TOPICS}
    for value in await reader.values("readings"):
        told = json.loads(value)
        stamp = round(told["ts"] * 1000)
        rows["readings"].add((told["readings"][0]["sensor_uuid"], told["readings"][0]["value"], stamp))
    for value in await reader.values("windows"):
        made = msgspec.json.decode(value, type=WindowRows)
        sensors, *columns = msgspec.structs.astuple(made)[3:-1]
        sizes = [made.size_ms] * len(sensors)
        rows["windows"] |= set(zip(sensors, sizes, *columns, strict=True))
    for value in await reader.values("predictions"):
        told = json.loads(value)
        rows["predictions"] |= set(
            zip(told["sensor"], told["value"], told["lower"], told["upper"], strict=True)
        )
    for name, key in (("events", "event_id"), ("notifications", "notification_id")):
        rows[name] = {(json.loads(value)[key],) for value in await reader.values(name)}
    return {name: sorted(found) for name, found in rows.items()}


def stored(site: Site) -> Rows:
    """The rows that the database has, sorted."""
    rows = {name: select(site, query) for name, query in TABLES.items()}
    rows["readings"] = [(sensor, value, ms(stamp)) for sensor, value, stamp in rows["readings"]]
    rows["windows"] = sorted(
        (sensor, size, ms(start), *more) for sensor, size, start, *more in rows["windows"]
    )
    return rows


def ms(stamp: str) -> int:
    """A time in the database as milliseconds since the epoch."""
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)


def count(site: Site) -> int:
    """How many readings the database has."""
    return sum(int(found) for (found,) in select(site, "SELECT count(*) FROM sensor_readings"))


async def until_rows(site: Site, more: int = 1) -> None:
    """Wait until the database has so many more readings."""
    before = count(site)

    async def come() -> bool:
        return count(site) >= before + more

    await eventually(come)


async def until_stored(site: Site, reader: Reader) -> Rows:
    """Wait until the offsets in the database are the topics' ends; the rows are then what was produced, each once."""

    async def caught_up() -> bool:
        reached = {
            (topic.removeprefix(site.prefix), partition): offset for topic, partition, offset in offsets(site)
        }
        return bool(reached == await ends(reader))

    await eventually(caught_up)
    rows = stored(site)
    assert rows == await wanted(reader)
    return rows


async def ends(reader: Reader) -> dict[tuple[str, int], int]:
    """Where each partition of the sink's topics ends, where it has anything."""
    return {
        (topic, partition): records[-1].offset + 1
        for topic in TOPICS
        for partition, records in (await reader.read(topic)).items()
        if records
    }


async def test_killed_sink_writes_each_row_once(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """By kill -9 at any moment while rows flow: at the end each row is there once, and the offsets are the ends."""
    chance = random.Random(1)  # noqa: S311  # the same moments in each run
    feed = Feed(site, producer)
    sink = await site.sink(STREAMPROC_GROUP_INSTANCE_ID="s", **SMALL)
    for _ in range(5):
        await until_rows(site, chance.randrange(1, 1_500))
        sink.kill()
        assert await sink.ended() == -9
        sink = await site.sink(STREAMPROC_GROUP_INSTANCE_ID="s", **SMALL)
    await feed.end()
    await feed_results(site, producer, reader)
    sink.kill()
    assert await sink.ended() == -9
    sink = await site.sink(STREAMPROC_GROUP_INSTANCE_ID="s", **SMALL)
    rows = await until_stored(site, reader)
    assert len(rows["readings"]) == feed.readings
    assert all(rows.values())
    code, seconds = await sink.terminate()
    assert code == 0
    assert in_time(seconds, 3)  # of the 5 s that all stages together may take; 1.2 s where nothing else runs


async def pause_between_transactions(site: Site, sink: Stage, other: Stage) -> None:
    """Have a sink stand still outside of a transaction: what it has locked there it would keep from all until it goes on.

    While the database is locked it has begun none. Two tries of the other's after it stands still take longer than its last.
    """
    with site.held.locked():
        sink.pause()
        told = len(other.told(AWAY))

        async def tried_twice() -> bool:
            return len(other.told(AWAY)) >= told + 2

        await eventually(tried_twice)


async def test_two_sinks_and_a_locked_database(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """They share; the database is locked, one stands still beyond its session, goes on, is killed: each row once."""
    first = await site.sink(**SMALL)
    second = await site.sink(**SMALL)
    await second.until_assigned(ALL_PARTITIONS // 2)
    feed = Feed(site, producer)
    await until_rows(site, 500)
    with site.held.locked():
        await feed_results(site, producer, reader)  # so that each has some of it, whichever has the readings
        await asyncio.gather(*(sink.until_told(AWAY) for sink in (first, second)))
    await until_rows(site)
    await pause_between_transactions(site, first, second)
    await second.until_assigned(ALL_PARTITIONS)
    await until_rows(site)
    first.go_on()
    await second.until_assigned(ALL_PARTITIONS // 2)
    await until_rows(site)
    await feed.end()
    await feed_results(site, producer, reader)
    second.kill()
    await until_stored(site, reader)


async def test_sink_goes_on_behind_another(site: Site, producer: AIOKafkaProducer) -> None:
    """Where another sink has written on, in the moment between two owners, it goes on from there; set back, it ends."""

    async def written(next_offset: int, records: int) -> None:
        for number in range(records):
            await (
                await send(producer, f"{site.prefix}readings", "d", packet("d", f"s-{number}", 1.0, time()))
            )

        async def caught_up() -> bool:
            return select(site, "SELECT next_offset FROM stream_offsets") == [(next_offset,)]

        await eventually(caught_up)

    def move(next_offset: int) -> None:
        site.held.execute(f"UPDATE stream_offsets SET next_offset = {next_offset}")  # noqa: S608  # a number

    sink = await site.sink()
    await written(3, records=3)
    move(5)  # as if it had written the records 3 and 4
    await written(8, records=5)
    assert len(stored(site)["readings"]) == 6
    assert sink.told("another sink has written on")
    move(2)
    await (await send(producer, f"{site.prefix}readings", "d", packet("d", "s", 1.0, time())))
    assert (
        await sink.ended() == 1
    )  # what it read on from is not what the database has: a restart reads it again


async def test_retried_packets_are_one_row(site: Site, producer: AIOKafkaProducer) -> None:
    """The same packet_id, with a time and without; or none, and the same time and value."""
    retried = {"device_uuid": "d", "readings": [{"sensor_uuid": "s", "value": 1.5}]}
    stamp = time() - 60
    await site.sink()
    for more in ({"packet_id": "a", "ts": stamp}, {"packet_id": "b"}, {"ts": stamp - 1}):
        for device in ("d", "D", "d"):
            body = json.dumps(retried | more | {"device_uuid": device}).encode()
            await (await send(producer, f"{site.prefix}readings", "d", body))

    async def caught_up() -> bool:
        return select(site, "SELECT next_offset FROM stream_offsets") == [(9,)]

    await eventually(caught_up)
    assert len(stored(site)["readings"]) == 3


async def test_record_sent_on_is_one_row(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """A record without time or packet_id in a partition that is not its own comes twice, and is stored once."""
    await asyncio.gather(site.worker(), site.sink())
    devices = [f"device-{number}" for number in range(20)]
    wrong = {device: (home(device, PARTITIONS) + 1) % PARTITIONS for device in devices}
    for device, partition in wrong.items():
        body = {"device_uuid": device, "readings": [{"sensor_uuid": f"s-{device}", "value": 1.0}]}
        await producer.send(f"{site.prefix}readings", json.dumps(body).encode(), partition=partition)
    await producer.flush()

    async def all_sent_on() -> bool:
        records = [record for held in (await reader.read("readings")).values() for record in held]
        return len([r for r in records if any(name == MOVED for name, _ in r.headers)]) == len(devices)

    await eventually(all_sent_on)
    last = await ends(reader)

    async def caught_up() -> bool:
        reached = {
            partition: offset for topic, partition, offset in offsets(site) if topic.endswith("readings")
        }
        return all(reached.get(place[1], 0) >= end for place, end in last.items() if place[0] == "readings")

    await eventually(caught_up)
    assert [row[0] for row in stored(site)["readings"]] == sorted(f"s-{device}" for device in devices)
