"""Packets sent again: one row, one count, one event, though worker, sink or gateway were killed in between."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from time import time
from typing import Any

import aiohttp
import pytest

from streamproc.kafka.broker import free_port
from streamproc.records import Range, SensorEntry
from streamproc.settings.connection import Connection
from tests.live.feed import send
from tests.live.oracle import Results
from tests.live.pipeline import Pipeline, hour_ago, running_pipeline, select
from tests.live.processes import eventually

LIMITS = [SensorEntry(sensor, critical=Range(high=60.0)) for sensor in ("by-id", "by-ts")]

#: The value of the reading that closes a sensor's windows: of no event, and of no other reading.
CLOSING = 55.0
LATENESS = "STREAMPROC_ALLOWED_LATENESS_MS"


async def packets(line: Pipeline, begin: int, *, again: bool) -> None:
    """Readings of two sensors, told apart by `packet_id` alone and by device and `ts`; `again` writes it otherwise."""
    device = "DEVICE" if again else "device"
    for number, value in enumerate((1.0, 99.0, 98.0)):
        by_id = {"packet_id": f"p-{number}", "readings": [{"sensor_uuid": "by-id", "value": value}]}
        by_ts = {"ts": begin + number / 10, "readings": [{"sensor_uuid": "by-ts", "value": value}]}
        for packet in (by_id, by_ts):
            body = json.dumps({"device_uuid": device} | packet).encode()
            await (await send(line.producer, line.topic, "device", body))


def counted(results: Results, sensor: str) -> list[float]:
    """How many readings of the sensor each of its windows of 10 s has, but for the closing reading's own."""
    windows = [row for key, row in results.windows.items() if key[:2] == (sensor, 10_000)]
    return [row[3] for row in windows if row[4] != CLOSING]  # its mean


def events(line: Pipeline) -> list[tuple[Any, ...]]:
    """The sensors that became CRITICAL by the database, once for each time."""
    query = "SELECT uuid FROM ml_events e JOIN sensors s ON s.id = e.sensor_id WHERE severity = 'CRITICAL'"
    return select(line.site, query)


@pytest.mark.parametrize("kill", [True, False])
async def test_retries_across_a_restart(bootstrap: Connection, tmp_path: Path, kill: bool) -> None:
    """Sent again after worker and sink were killed, or stopped, while they are away and later: one row, count and event.

    By `packet_id` alone, at another time of arrival; and by device and `ts`.
    """
    begin = hour_ago()
    async with running_pipeline(bootstrap, tmp_path, **{LATENESS: "20000"}) as line:
        await line.limit(*LIMITS)
        await packets(line, begin, again=False)
        await eventually(partial(_has_events, line, 2))
        for stage in line.site.stages[:2]:
            if kill:
                stage.kill()
            assert (await stage.ended() if kill else (await stage.terminate())[0]) == (-9 if kill else 0)
        await packets(line, begin, again=True)
        await line.site.worker()
        await line.site.sink()
        await packets(line, begin, again=True)
        await line.send("device", ("by-ts", CLOSING, begin + 40), ("by-id", CLOSING, time() + 50))
        results = await line.until_settled()
        assert sum(counted(results, "by-ts")) == sum(counted(results, "by-id")) == 3
        rows = await line.rows()
        assert sorted(row[:2] for row in rows) == sorted(
            (sensor, value) for sensor in ("by-id", "by-ts") for value in (1.0, 99.0, 98.0, CLOSING)
        )
        await eventually(partial(_has_events, line, 2))
        assert events(line) == [("by-id",), ("by-ts",)]


async def _has_events(line: Pipeline, count: int) -> bool:
    return len(events(line)) >= count


class Client:
    """A device that posts packets and sends each again until it is answered 202."""

    def __init__(self, name: str, url: str) -> None:
        self.name, self.url = name, url
        #: What was told with each 202, by packet: partition and offset.
        self.answers: dict[str, tuple[int, int]] = {}
        self.again = 0

    async def post(self, session: aiohttp.ClientSession, number: int, begin: int) -> None:
        """Post a packet, again and again until it is accepted."""
        packet_id = f"{self.name}/{number}"
        packet = {
            "device_uuid": self.name,
            "packet_id": packet_id,
            "readings": [{"sensor_uuid": f"sensor-{self.name}", "value": 99.0 if number == 30 else 1.0}],
            "ts": begin + number / 10,
        }

        async def accepted() -> bool:
            try:
                async with session.post(f"{self.url}/ingest/packets", json=packet) as response:
                    if response.status == 202:
                        told = await response.json()
                        self.answers[packet_id] = (told["partition"], told["offset"])
                        return True
            except aiohttp.ClientError:
                pass
            self.again += 1
            return False

        await eventually(accepted)


async def test_a_gateway_killed_amid_requests(bootstrap: Connection, tmp_path: Path) -> None:
    """What it has answered 202 is on the topic; what clients send again is one row, one count, one event."""
    port, begin = free_port(), hour_ago()
    clients = [Client(f"d-{number}", f"http://127.0.0.1:{port}") for number in range(16)]
    limits = [SensorEntry(f"sensor-{client.name}", critical=Range(high=60.0)) for client in clients]
    async with (
        running_pipeline(bootstrap, tmp_path, **{LATENESS: "300000"}) as line,  # a restart takes seconds
        aiohttp.ClientSession() as session,
    ):
        await line.limit(*limits)
        start = partial(line.site.start, "gateway", GATEWAY_PORT=str(port))
        gateway = await start()

        async def work(client: Client) -> None:
            for number in range(100):
                await client.post(session, number, begin)

        working = asyncio.gather(*(work(client) for client in clients))
        for answered in (200, 700, 1_200):
            await eventually(partial(_answered, clients, answered))
            gateway.kill()
            assert await gateway.ended() == -9
            gateway = await start()
        await working
        assert sum(client.again for client in clients) > 3
        for client in clients:
            await line.send(client.name, (f"sensor-{client.name}", CLOSING, begin + 320))
        results = await line.until_settled()
        assert_on_the_topic(await line.reader.read("readings"), clients)
        rows = await line.rows()
        assert len(rows) == len(clients) * 101
        assert len({(sensor, ts) for sensor, _, ts in rows}) == len(rows)
        assert all(counted(results, limit.sensor) == [100.0] for limit in limits)
        await eventually(partial(_has_events, line, len(clients)))
        assert events(line) == sorted((limit.sensor,) for limit in limits)


async def _answered(clients: list[Client], count: int) -> bool:
    return sum(len(client.answers) for client in clients) >= count


def assert_on_the_topic(records: dict[int, list[Any]], clients: list[Client]) -> None:
    """Each packet that was answered 202 is where the answer says (or anywhere, where Kafka no longer knew)."""
    at = {
        (partition, record.offset): json.loads(record.value).get("packet_id")
        for partition, held in records.items()
        for record in held
        if record.value
    }
    for client in clients:
        assert len(client.answers) == 100
        for packet, (partition, offset) in client.answers.items():
            assert at[partition, offset] == packet if offset >= 0 else packet in at.values()


Posted = tuple[str, Any, int]


async def post(session: aiohttp.ClientSession, url: str, key: str, posted: Posted) -> None:
    """Post under an idempotency key until it is answered at all, and check the answer's status."""
    path, body, status = posted

    async def answered() -> bool:
        try:
            headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
            async with session.post(f"{url}/ingest/{path}", data=body, headers=headers) as response:
                if response.status == 503:
                    return False
                assert response.status == status, await response.text()
                return True
        except aiohttp.ClientError:
            return False

    await eventually(answered)


async def test_a_request_sent_again_under_its_key(bootstrap: Connection, tmp_path: Path) -> None:
    """By its `Idempotency-Key` alone a retry is one row and one event; a mended one adds what was wrong."""
    port = free_port()
    packet = '{"device_uuid": "d", "readings": [{"sensor_uuid": "a", "value": NaN}, {"sensor_uuid": "by-id", "value": 99}]}'
    single = '{"device_uuid": "d", "sensor_id": "legacy", "value": 2}'
    requests: dict[str, Posted] = {
        "one": ("packets", packet, 207),
        "array": ("packets", f"[{packet}, {packet.replace('NaN', '1')}]", 207),
        "reading": ("readings", single, 202),
        "bulk": ("readings/bulk", f"[{single}, {single}, {{}}]", 207),
    }
    async with running_pipeline(bootstrap, tmp_path) as line, aiohttp.ClientSession() as session:
        await line.limit(*LIMITS)
        gateway = partial(line.site.start, "gateway", GATEWAY_PORT=str(port))
        first = await gateway()
        for key, posted in requests.items():
            await post(session, f"http://127.0.0.1:{port}", key, posted)
        first.kill()
        await first.ended()
        await gateway()
        for _ in range(2):
            for key, posted in requests.items():
                await post(session, f"http://127.0.0.1:{port}", key, posted)
        await post(session, f"http://127.0.0.1:{port}", "one", ("packets", packet.replace("NaN", "7"), 202))
        found = sorted(row[:2] for row in await line.rows())
        assert found == [("a", 1.0), ("a", 7.0), *[("by-id", 99.0)] * 3, *[("legacy", 2.0)] * 3]
        assert len((await line.until_settled()).events) == 1
        await eventually(partial(_has_events, line, 1))
        assert events(line) == [("by-id",)]
