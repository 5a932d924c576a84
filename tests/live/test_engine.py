"""The worker as a real process over a real broker: what it makes is what the pure core makes of the same records."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from base64 import b64decode
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic, time

import aiohttp
import msgspec
from aiokafka import AIOKafkaProducer

from streamproc.core.chunk import MOVED, TICK
from streamproc.core.routing import home
from streamproc.engine.app import STOP_CHECKPOINT_S
from streamproc.kafka import clients
from streamproc.kafka.broker import free_port
from streamproc.process import CUT_SHORT
from streamproc.records import DeadLetter, Range, SensorEntry, SeverityEvent, WindowRows
from tests.live.feed import packet, send, signal
from tests.live.oracle import PARTITIONS, Key, Reader, committed, found, reading
from tests.live.pipeline import device_in
from tests.live.processes import Site, Stage, eventually
from tests.live.worked import feed, limit, until_checkpointed, until_more, until_settled, written
from tests.slowness import in_time

#: Device 0 of the made signal goes beyond it now and then.
LIMITED = {"sensor-0": SensorEntry("sensor-0", critical=Range(high=60.0))}


async def kill_ahead(
    site: Site, worker: Stage, reader: Reader, feed_more: Callable[[], Awaitable[None]]
) -> None:
    """Kill a worker that has written results beyond its last checkpoint, so that they are made again; fed until then."""

    async def ahead() -> bool:
        worker.pause()  # a checkpoint comes twice a second
        done = await committed(site.bootstrap, f"{site.prefix}streamproc-worker", f"{site.prefix}readings")
        made = [msgspec.json.decode(value, type=WindowRows) for value in await reader.values("windows")]
        if any(max(rows.last_offset) >= done.get(rows.partition, (0, ""))[0] for rows in made):
            return True
        worker.go_on()
        await feed_more()
        return False

    await eventually(ahead)
    worker.kill()
    assert await worker.ended() == -9


async def test_outputs_are_those_of_the_core(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """Windows, predictions, events and late readings of direct producers' records, to the last bit, each once."""
    await limit(site, producer, *LIMITED.values())
    await site.worker()
    await feed(site, producer, seconds=80)
    results = await until_settled(site, reader)
    assert len(results.windows) > 12 * 80
    assert len(results.events) >= 3
    assert len(results.late) > 100
    assert len(results.predictions) > 12 * 6
    assert results.repeated == 0


async def test_bad_records_become_dead_letters(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """Each with its reason and place, and none costs its neighbours anything."""
    bad = {
        b"{": "truncated",
        b'{"sensor_id": "s", "value": NaN}': "value: NaN is not a number",
        b'{"sensor_id": "s", "value": 1, "colour": "red"}': "colour: Object contains unknown field",
        b'{"device_uuid": "d", "readings": [{"sensor_uuid": "s", "value": true}]}': "readings[0].value: Expected",
        packet("d", "s", 1.0, time() + 600): "ms ahead of its record",
        b'{"sensor_id": "\xff", "value": 1}': "UTF-8",
    }
    topic = f"{site.prefix}readings"
    await site.worker()
    places: dict[Key, tuple[bytes | None, str]] = {}
    for value, reason in bad.items():
        await send(producer, topic, "d", packet("d", "s", 1.0, time()))
        place = await (await send(producer, topic, "d", value))
        places[place.partition, place.offset] = (value, reason)
    nothing = await (await send(producer, topic, "d", None))
    places[nothing.partition, nothing.offset] = (None, "no value")
    results = await until_settled(site, reader)
    assert results.letters.keys() == places.keys()
    for place, (raw,) in results.letters.items():
        letter = msgspec.json.decode(raw, type=DeadLetter)
        sent, reason = places[place]
        assert reason in letter.reason
        assert (letter.stage, letter.topic) == ("engine", topic)
        text = letter.payload and letter.payload.encode()
        assert (b64decode(text) if letter.encoding == "base64" and text else text) == sent


async def test_silent_partitions_windows_are_closed_by_ticks(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """One reading alone: its windows come in turn, by ticks all along; then the ticks end, while others' go on."""
    await site.worker()
    first, other = device_in(0), device_in(1)
    # In the midst of its windows: near the end of the largest, one tick closes all three.
    ts = time() // 10 * 10 - 7.5
    await (await send(producer, f"{site.prefix}readings", first, packet(first, "s", 1.0, ts)))
    sizes: list[int] = []

    async def all_sizes() -> bool:
        values = await reader.values("windows")
        sizes[:] = [msgspec.json.decode(value, type=WindowRows).size_ms for value in values]
        return len(sizes) == 3

    async def ticks(partition: int) -> int:
        records = (await reader.read("readings"))[partition]
        assert all(record.headers[0][0] == TICK for record in records[1:])
        return len(records) - 1

    await eventually(all_sizes)
    assert sizes == [1_000, 5_000, 10_000]
    # One for the first window, more within 11 s of silence: how many of those due each 0.2 s is the machine's affair.
    before = await ticks(0)
    assert before >= 2
    await (await send(producer, f"{site.prefix}readings", other, packet(other, "t", 1.0, ts)))

    async def others_tick() -> bool:
        return await ticks(1) >= 5

    await eventually(others_tick)
    assert await ticks(0) <= before + 1  # one may have been under way


async def test_misrouted_record_is_sent_on_once_and_counts_once(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """Records where librdkafka's default partitioner puts them, with and without a time of their own."""
    topic = f"{site.prefix}readings"
    await site.worker()
    devices = [f"device-{number}" for number in range(40)]
    for device in devices:
        value = packet(device, f"s-{device}", 1.0, time())
        timeless = json.dumps(
            {"device_uuid": device, "readings": [{"sensor_uuid": f"t-{device}", "value": 2.0}]}
        )
        wrong = zlib.crc32(device.encode()) % PARTITIONS
        await producer.send(topic, value, device.encode(), partition=wrong)
        await producer.send(topic, timeless.encode(), device.encode(), partition=wrong)
    await producer.flush()

    async def counted() -> dict[Key, Key]:
        windows = (await found(reader)).windows
        return windows if len([key for key in windows if key[1] == 1_000]) == 2 * len(devices) else {}

    windows = await eventually(counted)
    await until_settled(site, reader)
    assert {row[3] for (_, size, _), row in windows.items() if size == 1_000} == {1}
    moved = [
        (record.key, record.headers)
        for records in (await reader.read("readings")).values()
        for record in records
        if any(name == MOVED for name, _ in record.headers)
    ]
    misrouted = [d for d in devices if zlib.crc32(d.encode()) % PARTITIONS != home(d, PARTITIONS)]
    assert len(moved) == 2 * len(misrouted) > 0


async def test_readings_have_the_brokers_time(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """A producer's wrong clock moves nobody's windows: Kafka stamps the records as it gets them."""
    for stamp in (1, int((time() + 86_400) * 1000)):
        await (
            await send(
                producer, f"{site.prefix}readings", "d", packet("d", "s", 1.0, time()), timestamp_ms=stamp
            )
        )
    (records,) = [records for records in (await reader.read("readings")).values() if records]
    assert all(abs(record.timestamp - time() * 1000) < 60_000 for record in records)


async def test_killed_worker_loses_and_doubles_nothing(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """By kill -9 some time after a checkpoint, several times, and SIGTERM: none missing, and what comes again is the same.

    1,200 sensors: more than one block in a partition's checkpoint.
    """
    await limit(site, producer, *LIMITED.values())
    made = signal(12, 1_000, sensors=100)
    worker = await site.worker(STREAMPROC_GROUP_INSTANCE_ID="w")
    for _ in range(4):
        await feed(site, producer, 6, made)
        await until_checkpointed(site)
        feeding = asyncio.create_task(feed(site, producer, 6, made))
        await kill_ahead(site, worker, reader, partial(feed, site, producer, 1, made))
        await feeding
        worker = await site.worker(STREAMPROC_GROUP_INSTANCE_ID="w")
    await feed(site, producer, 5, made)
    code, seconds = await worker.terminate()
    # Amid its work, on a machine that leaves it no time for a last checkpoint, it says so: then more comes again.
    assert code == 0 or (code == CUT_SHORT and seconds > STOP_CHECKPOINT_S)
    await feed(site, producer, 5, made)
    await site.worker(STREAMPROC_GROUP_INSTANCE_ID="w")
    results = await until_settled(site, reader)
    assert len(results.windows) > 1_200 * 50
    assert results.repeated > 0


async def test_stale_owner_spoils_nothing(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """Two workers share; one stands still beyond its session and goes on, then both are killed."""
    await limit(site, producer, *LIMITED.values())
    made = signal(12, 1_000)
    first = await site.worker()
    second = await site.worker()
    await second.until_assigned(PARTITIONS // 2)
    await feed(site, producer, 25, made)
    await until_checkpointed(site)
    before = await written(reader)
    await feed(site, producer, 25, made)
    await until_more(reader, before)
    first.pause()
    await feed(site, producer, 25, made)
    await second.until_assigned(PARTITIONS)
    await feed(site, producer, 25, made)
    await until_checkpointed(site)
    first.go_on()
    await feed(site, producer, 25, made)
    await second.until_assigned(PARTITIONS // 2)
    before = await written(reader)
    await feed(site, producer, 25, made)
    await until_more(reader, before)
    second.kill()
    first.kill()
    await site.worker(STREAMPROC_GROUP_INSTANCE_ID="third")
    results = await until_settled(site, reader)
    assert len(results.windows) > 12 * 150


async def test_damaged_checkpoint_is_told_and_built_anew(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """Garbage under a block's key: the state is made again from the topic, and all results with it."""
    await limit(site, producer, *LIMITED.values())
    worker = await site.worker()
    made = signal(12, 1_000)
    await feed(site, producer, 60, made)
    before = await until_settled(site, reader)
    assert (await worker.terminate())[0] == 0
    partition = home("device-0", PARTITIONS)
    await producer.send_and_wait(f"{site.prefix}checkpoints", b"garbage", b"0", partition=partition)
    worker = await site.worker()
    (told,) = worker.told("checkpoint cannot be used")
    assert (told["partition"], told["level"]) == (partition, "error")
    await feed(site, producer, 20, made)
    after = await until_settled(site, reader)
    assert after.repeated > 0
    assert not after.lacks(before)


async def test_started_by_faust_itself(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """`faust -A streamproc.worker worker` does the same, and stops as well."""
    worker = await site.start("faust", "-m", "faust", "-A", "streamproc.worker", "worker", "--without-web")
    await feed(site, producer, seconds=20)
    results = await until_settled(site, reader)
    assert len(results.windows) > 12 * 20
    assert (await worker.terminate())[0] == 0
    # Faust's level is warning: all lines of streamproc came, those for debugging as warnings.
    assert [line for line in worker.log.read_text().splitlines() if "[info" in line or "[debug" in line] == []


async def test_health_and_metrics(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """Alive at once, ready with its partitions restored, metrics by partition, and it is done within the time to stop."""
    port = free_port()
    worker = await site.start("worker", STREAMPROC_WORKER_PORT=str(port))
    answers = []

    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def ready() -> bool:
            try:
                async with session.get("/ready") as response:
                    answers.append((response.status, await response.json()))
            except aiohttp.ClientConnectionError:
                return False
            return response.status == 200

        await eventually(ready)
        assert worker.told("partitions")
        assert (answers[-1][0], answers[-1][1]["status"]) == (200, "ready")
        async with session.get("/health") as response:
            assert (response.status, await response.json()) == (200, {"status": "alive"})
        await feed(site, producer, seconds=20)
        await until_settled(site, reader)
        async with session.get("/metrics") as response:
            metrics = await response.text()
    counts = [
        float(line.split()[1])
        for line in metrics.splitlines()
        if line.startswith("streamproc_engine_readings_total")
    ]
    assert len(counts) > 1
    assert sum(counts) == 12 * 20 * 10
    code, seconds = await worker.terminate()
    assert code == 0
    assert in_time(seconds, 3)  # of the 5 s that all stages together may take; 1.1 s where nothing else runs


async def test_two_workers_cannot_have_one_port(site: Site) -> None:
    """The second says which setting is wrong, and ends as with any wrong setting."""
    port = free_port()
    await site.worker(STREAMPROC_WORKER_PORT=str(port))
    second = await site.start("worker", STREAMPROC_WORKER_PORT=str(port))
    assert await second.ended() == 2
    assert f"STREAMPROC_WORKER_PORT: cannot listen on 127.0.0.1:{port}" in second.log.read_text()


async def test_a_breach_is_an_event_at_once(site: Site, producer: AIOKafkaProducer) -> None:
    """From the producer's hand to the topic `events` within the quarter of a second that is promised for 99 of 100."""
    sensors = [f"sensor-{number}" for number in range(60)]
    await limit(site, producer, *[SensorEntry(sensor, critical=Range(high=60.0)) for sensor in sensors])
    await site.worker()
    took = []
    async with reading(site.bootstrap, site.prefix, "events") as reader:
        for number, sensor in enumerate(sensors):
            began = monotonic()
            await send(
                producer, f"{site.prefix}readings", f"d-{number}", packet(f"d-{number}", sensor, 99.0, time())
            )

            async def come(count: int = number) -> bool:
                return len(await reader.values("events")) > count

            await eventually(come)
            took.append(monotonic() - began)
        events = [msgspec.json.decode(value, type=SeverityEvent) for value in await reader.values("events")]
    assert sorted(event.sensor for event in events) == sorted(sensors)
    # A wait for a fetch, a tick or a linger would be in each of them, the work of others is in some.
    assert in_time(sorted(took)[len(took) // 4], 0.25), took


async def test_partitions_that_are_not_taken_over_end_the_worker(site: Site) -> None:
    """Whatever taking over hangs at, here at the topic of the registry, which is not there: the worker says so and ends."""
    admin = clients.admin(site.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([f"{site.prefix}registry"])
    finally:
        await admin.close()
    worker = await site.start("worker", STREAMPROC_WATCHDOG_SECONDS="1")
    assert await worker.ended() == 1
    # It looks once a second: beside others' work, the look that finds it late may be late itself.
    assert re.search(r"is assigned, but was not taken over for [1-9]\d* s", worker.log.read_text())
