"""The gateway with a real broker: what is answered 202 is there, and Kafka may come and go."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, ClientTimeout
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic

from streamproc.core.codec import Packet, parse
from streamproc.core.routing import home
from streamproc.errors import GatewayError, SettingsError
from streamproc.gateway.app import serve
from streamproc.kafka import clients
from streamproc.kafka.broker import Broker, Installation
from streamproc.settings import Settings
from streamproc.settings.connection import Connection
from tests.live.oracle import PARTITIONS
from tests.live.processes import SOON_S, eventually, hang, until_ready
from tests.slowness import in_time


def reached(bootstrap: Connection) -> dict[str, Any]:
    """The settings by which a gateway connects so."""
    return {name: value for name, value in bootstrap.variables().items() if value}


@asynccontextmanager
async def gateway(
    bootstrap: Connection, prefix: str = "", *, ready: bool = True, **more: Any
) -> AsyncIterator[ClientSession]:
    """Serve a gateway on a free port and give a client of it, once it is ready if it is to be; it stops within 3 s."""
    given = {
        **reached(bootstrap),
        "topic_prefix": prefix,
        "gateway_port": 0,
        "auto_register": True,
        **more,
    }
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(Settings.model_validate(given), stop, listening))
    url = await asyncio.wait_for(listening, SOON_S)
    try:
        if ready:
            await until_ready(url)
        async with ClientSession(url, timeout=ClientTimeout(SOON_S)) as client:
            yield client
    finally:
        started = time.monotonic()
        stop.set()
        await asyncio.wait_for(serving, SOON_S)
        assert in_time(time.monotonic() - started, 3)


@pytest.fixture
async def readings(bootstrap: Connection, topic_prefix: str) -> str:
    """Give a new topic for readings."""
    await create(bootstrap, topic_prefix + "readings")
    return topic_prefix + "readings"


async def create(bootstrap: Connection, topic: str, **config: str) -> None:
    """Make the topic."""
    admin = clients.admin(bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=config)])
    finally:
        await admin.close()


async def records(bootstrap: Connection, topic: str) -> list[Any]:
    """Read the whole topic."""
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    consumer = clients.consumer(bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found: list[Any] = []
        async with asyncio.timeout(SOON_S):
            while any([await consumer.position(place) < ends[place] for place in places]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += batch
        return found
    finally:
        await consumer.stop()


def packet(device: str, value: float) -> bytes:
    """Make a packet of one reading."""
    return msgspec.json.encode(
        {"device_uuid": device, "readings": [{"sensor_uuid": f"{device}-s", "value": value}]}
    )


async def post_until_accepted(client: ClientSession, body: bytes) -> None:
    """Send as a device does: again, until it is accepted."""
    async with asyncio.timeout(SOON_S):
        while True:
            async with client.post("/ingest/packets", data=body) as response:
                if response.status == 202:
                    return
                assert response.status == 503
                assert "Retry-After" in response.headers


async def test_accepted_is_on_the_topic(bootstrap: Connection, topic_prefix: str, readings: str) -> None:
    """Each packet answered 202 is at the place told, in its key's partition, at the gateway's time."""
    before_ms = time.time_ns() // 1_000_000
    async with gateway(bootstrap, topic_prefix) as client:
        answers = {}
        for number in range(20):
            device = f"DEVICE-{number}"
            async with client.post("/ingest/packets", data=packet(device, number)) as response:
                assert response.status == 202
                answers[device.lower()] = await response.json()
    found = await records(bootstrap, readings)
    assert len(found) == 20
    for record in found:
        key = record.key.decode()
        answer = answers[key]
        assert (answer["topic"], answer["partition"], answer["offset"]) == (
            readings,
            record.partition,
            record.offset,
        )
        assert record.partition == home(key, PARTITIONS)
        assert before_ms <= record.timestamp <= time.time_ns() // 1_000_000
        parsed = parse(record.value)
        assert isinstance(parsed, Packet)
        assert parsed.device_uuid.lower() == key


async def test_many_at_once_are_each_told_their_own_place(
    bootstrap: Connection, topic_prefix: str, readings: str
) -> None:
    """Requests that leave in one batch are each answered with the offset of their own record."""
    async with gateway(bootstrap, topic_prefix) as client:

        async def place(number: int) -> tuple[int, int]:
            async with client.post("/ingest/packets", data=packet(f"many-{number}", number)) as response:
                assert response.status == 202
                answer = await response.json()
                return answer["partition"], answer["offset"]

        places = await asyncio.gather(*(place(number) for number in range(300)))
    found = {(record.partition, record.offset): record.key for record in await records(bootstrap, readings)}
    assert found == {at: f"many-{number}".encode() for number, at in enumerate(places)}


async def test_bulk_is_on_the_topic(bootstrap: Connection, topic_prefix: str, readings: str) -> None:
    """A bulk of the legacy kind has each reading in its own sensor's partition."""
    rows = [{"sensor_id": number, "value": number} for number in range(1_000)]
    bulk = "/ingest/readings/bulk"
    async with (
        gateway(bootstrap, topic_prefix) as client,
        client.post(bulk, json={"readings": rows}) as response,
    ):
        assert response.status == 202
        answer = await response.json()
    assert answer["accepted"] == sum(place["records"] for place in answer["partitions"]) == 1_000
    found = await records(bootstrap, readings)
    assert sorted(int(record.key) for record in found) == list(range(1_000))
    assert all(record.partition == home(record.key.decode(), PARTITIONS) for record in found)


async def test_missing_topic(bootstrap: Connection, topic_prefix: str) -> None:
    """Without its topic the gateway is not ready and takes nothing; once it is there, it does."""
    async with gateway(bootstrap, topic_prefix, ready=False, ack_timeout_seconds=2) as client:
        async with client.post("/ingest/packets", data=packet("d", 1)) as response:
            assert response.status == 503

        async def told() -> bool:
            async with client.get("/ready") as response:
                assert response.status == 503
                return topic_prefix in (await response.json(content_type=None))["detail"]

        await eventually(told)  # before it has found Kafka, it tells that
        await create(bootstrap, topic_prefix + "readings")
        await post_until_accepted(client, packet("d", 1))
        async with asyncio.timeout(SOON_S):
            while (await client.get("/ready")).status != 200:
                pass


async def test_producer_beyond_repair_is_replaced(bootstrap: Connection, topic_prefix: str) -> None:
    """A record that the broker refuses leaves a gap in the producer's sequence: a new one takes its place."""
    topic = topic_prefix + "readings"
    await create(bootstrap, topic, **{"max.message.bytes": "1000"})
    wide = {"device_uuid": "d", "readings": [{"sensor_uuid": "s" * 100, "value": n} for n in range(20)]}
    async with gateway(bootstrap, topic_prefix, ack_timeout_seconds=5) as client:
        await post_until_accepted(client, packet("d", 1))
        async with client.post("/ingest/packets", json=wide) as response:
            assert response.status == 503
            assert "MessageSizeTooLarge" in (await response.json(content_type=None))["detail"]
        await post_until_accepted(client, packet("d", 2))
    values = [parse(record.value) for record in await records(bootstrap, topic)]
    assert [p.readings[0].value for p in values if isinstance(p, Packet)] == [1.0, 2.0]


async def test_partly_acknowledged(bootstrap: Connection, topic_prefix: str) -> None:
    """Of packets one of which the broker refuses, the others are there and are told so: 207, and where they are."""
    await create(bootstrap, topic_prefix + "readings", **{"max.message.bytes": "1000"})
    wide = {"device_uuid": "wide", "readings": [{"sensor_uuid": "s" * 100, "value": n} for n in range(20)]}
    devices = [device for n in range(99) if home(device := f"d-{n}", PARTITIONS) != home("wide", PARTITIONS)]
    small = [msgspec.json.decode(packet(device, 1)) for device in devices[:9]]
    async with gateway(bootstrap, topic_prefix, ack_timeout_seconds=5) as client:
        await post_until_accepted(client, packet("first", 1))
        async with client.post("/ingest/packets", json=[*small, wide]) as response:
            assert response.status == 207
            answer = await response.json()
        await post_until_accepted(client, packet("last", 2))
    assert (answer["accepted"], answer["rejected"]) == (9, 20)
    *taken, lost = answer["results"]
    assert [fault["kind"] for fault in lost["rejected"]] == ["kafka-unavailable"]
    found = {
        (record.partition, record.offset): record.key
        for record in await records(bootstrap, topic_prefix + "readings")
    }
    assert [found[each["partition"], each["offset"]].decode() for each in taken] == devices[:9]
    assert len(found) == 11


async def test_compressed_lines_are_on_the_topic(
    bootstrap: Connection, topic_prefix: str, readings: str
) -> None:
    """Lines of packets in gzip are on the topic, each at the place that the answer tells."""
    body = gzip.compress(b"\n".join(packet(f"d-{number}", number) for number in range(100)))
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    async with (
        gateway(bootstrap, topic_prefix) as client,
        client.post("/ingest/packets", data=body, headers=headers) as response,
    ):
        assert response.status == 202
        answer = await response.json()
    found = {(record.partition, record.offset): record.key for record in await records(bootstrap, readings)}
    told = [found[each["partition"], each["offset"]].decode() for each in answer["results"]]
    assert told == [f"d-{number}" for number in range(100)]


async def test_port_taken(bootstrap: Connection) -> None:
    """An address in use is an error that names it, and ends the gateway."""
    async with gateway(bootstrap, ready=False) as client:
        port = client._base_url.port if client._base_url else None
        settings = Settings.model_validate({**reached(bootstrap), "gateway_port": port})
        with pytest.raises(
            GatewayError, match=f"GATEWAY_PORT: cannot listen on 127.0.0.1:{port}: the port is taken"
        ):
            await asyncio.wait_for(serve(settings, asyncio.Event()), SOON_S)


async def test_bootstrap_that_is_no_address() -> None:
    """What cannot be an address is an error of the settings, at once, not a broker that is away."""
    settings = Settings.model_validate({"kafka_bootstrap": "host:port", "gateway_port": 0})
    with pytest.raises(SettingsError, match="KAFKA_BOOTSTRAP"):
        await asyncio.wait_for(serve(settings, asyncio.Event()), SOON_S)


async def test_kafka_comes_and_goes(installation: Installation, tmp_path: Path, topic_prefix: str) -> None:
    """Away at the start, hung, killed: 503 within the bound, then 202 again without a restart of the gateway.

    What was acknowledged is there, and nothing is twice.
    """
    broker = await Broker.start(installation, tmp_path)
    port = int(broker.bootstrap.rpartition(":")[2])
    await create(broker.connection, topic_prefix + "readings")
    await broker.stop()
    accepted = []
    try:
        async with gateway(broker.connection, topic_prefix, ready=False, ack_timeout_seconds=1) as client:
            await refused(client, packet("never", 0))
            broker = await Broker.start(installation, tmp_path, port)
            await post_until_accepted(client, packet("d", 1))
            await hang(broker)
            await asyncio.gather(*(refused(client, packet(f"hung-{n}", n)) for n in range(50)))
            os.kill(broker.pid, signal.SIGCONT)
            await post_until_accepted(client, packet("d", 2))
            broker.kill()
            await broker.wait()
            await refused(client, packet("killed", 0))
            broker = await Broker.start(installation, tmp_path, port)
            await post_until_accepted(client, packet("d", 3))
            accepted = [1.0, 2.0, 3.0]
        found = await records(broker.connection, topic_prefix + "readings")
    finally:
        await broker.stop()
    assert_there_once(found, accepted)


def assert_there_once(found: list[Any], accepted: list[float]) -> None:
    """Check that device `d` has the accepted values and that no other packet is there twice."""
    packets = [parse(record.value) for record in found]
    values = [p.readings[0].value for p in packets if isinstance(p, Packet) and p.device_uuid == "d"]
    assert sorted(set(values)) == accepted
    others = [p.device_uuid for p in packets if isinstance(p, Packet) and p.device_uuid != "d"]
    assert len(others) == len(set(others))
    assert "never" not in others


async def refused(client: ClientSession, body: bytes) -> None:
    """Post what Kafka cannot take: 503 within the bound, and /ready tells the truth."""
    started = time.monotonic()
    async with client.post("/ingest/packets", data=body) as response:
        assert response.status == 503
        assert "Retry-After" in response.headers
    assert in_time(time.monotonic() - started, 2.5)
    async with client.get("/ready") as response:
        assert response.status == 503


async def test_stops_in_time_while_kafka_hangs(
    installation: Installation, tmp_path: Path, topic_prefix: str
) -> None:
    """A request that waits for a hung broker gets its 503 when the gateway is told to stop, within 3 s."""
    broker = await Broker.start(installation, tmp_path)
    try:
        await create(broker.connection, topic_prefix + "readings")
        async with ClientSession(timeout=ClientTimeout(SOON_S)) as outside:
            async with gateway(broker.connection, topic_prefix, ack_timeout_seconds=60) as client:
                await post_until_accepted(client, packet("d", 1))
                await hang(broker)
                url = f"{client._base_url}/ingest/packets"
                waiting = asyncio.create_task(outside.post(url, data=packet("d", 2)))
                async with asyncio.timeout(SOON_S):
                    while "in_flight_requests 1.0" not in await metrics(client):
                        pass
            assert (await waiting).status == 503
    finally:
        os.kill(broker.pid, signal.SIGCONT)
        await broker.stop()


async def metrics(client: ClientSession) -> str:
    """Return the text of /metrics."""
    async with client.get("/metrics") as response:
        return await response.text()
