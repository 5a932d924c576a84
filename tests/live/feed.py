"""Readings as a direct producer sends them, for the live tests."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from time import time
from typing import Any

from aiokafka import AIOKafkaProducer

from streamproc.core.routing import home
from streamproc.kafka import clients
from streamproc.settings.connection import Connection
from tests.live.oracle import PARTITIONS


@asynccontextmanager
async def producing(bootstrap: Connection) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that waits for all replicas."""
    producer = clients.producer(bootstrap, acks="all", enable_idempotence=True, linger_ms=5)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def packet(device: str, sensor: str, value: float, ts: float) -> bytes:
    """A packet with one reading."""
    return json.dumps(
        {"device_uuid": device, "readings": [{"sensor_uuid": sensor, "value": value}], "ts": ts}
    ).encode()


async def send(producer: AIOKafkaProducer, topic: str, device: str, value: bytes | None, **more: Any) -> Any:
    """Hand a record to the producer for the device's own partition; gives what tells when Kafka has it."""
    key = device.lower().encode()
    return await producer.send(topic, value, key, partition=home(device.lower(), PARTITIONS), **more)


def signal(devices: int, seconds: int, seed: int = 1, sensors: int = 1) -> Iterator[list[tuple[str, bytes]]]:
    """One batch for each second of event time, an hour ago: ten readings of each device, some out of order, some late.

    With several `sensors` a device, one packet with a reading of each takes the place of the ten. Device 0 is high for
    ten seconds of each forty, so that severities change. It begins with a window of ten seconds: after tens of seconds, the
    last ones of silent sensors are closed soon.
    """
    chance = random.Random(seed)  # noqa: S311  # made data, the same in each run
    begin = int(time()) // 10 * 10 - 3_600
    for second in range(seconds):
        batch = []
        for device in range(devices):
            level = 100.0 if device == 0 and second % 40 >= 30 else 20.0
            for tenth in range(10 if sensors == 1 else 1):
                shift = chance.choice((0, 0, 0, 0, -0.4, -0.8, -5.0))
                values = {
                    f"sensor-{device + devices * index}": chance.gauss(level, 1) for index in range(sensors)
                }
                batch.append(
                    (f"device-{device}", _packet(device, values, begin + second + tenth / 10 + shift))
                )
        yield batch


def _packet(device: int, values: dict[str, float], ts: float) -> bytes:
    readings = [{"sensor_uuid": sensor, "value": value} for sensor, value in values.items()]
    return json.dumps({"device_uuid": f"device-{device}", "readings": readings, "ts": ts}).encode()
