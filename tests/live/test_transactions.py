"""Producers that write in transactions: what they commit counts, what they abort was never there, and nothing is held up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer

from streamproc.core.routing import home
from streamproc.kafka import clients
from streamproc.settings.connection import Connection
from tests.live.oracle import PARTITIONS
from tests.live.pipeline import Pipeline, hour_ago, running_pipeline
from tests.live.processes import eventually


@asynccontextmanager
async def transacting(line: Pipeline, name: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer with a transaction id of its own."""
    producer = clients.producer(line.site.bootstrap, transactional_id=line.site.prefix + name)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def write(line: Pipeline, producer: AIOKafkaProducer, value: float, ts: float) -> None:
    """Have a reading of the device in the partition, under the transaction that is open."""
    body = {"device_uuid": "d", "readings": [{"sensor_uuid": "s", "value": value}], "ts": ts}
    await producer.send_and_wait(line.topic, json.dumps(body).encode(), b"d", partition=home("d", PARTITIONS))


async def test_transactions(bootstrap: Connection, tmp_path: Path) -> None:
    """Rows and windows are of the committed readings, and the windows close: a marker is no record that waits."""
    begin = hour_ago()
    async with (
        running_pipeline(bootstrap, tmp_path) as line,
        transacting(line, "a") as first,
        transacting(line, "b") as second,
    ):
        async with first.transaction():
            await write(line, first, 1.0, begin)
        await second.begin_transaction()
        await write(line, second, 100.0, begin + 1)
        await first.begin_transaction()
        await write(line, first, 2.0, begin + 2)
        await second.abort_transaction()
        await write(line, first, 3.0, begin + 3)
        await first.commit_transaction()
        seconds = {(1, begin + at): (1, value, value, value) for at, value in ((0, 1.0), (2, 2.0), (3, 3.0))}
        longer = {(size, begin): (3, 2.0, 1.0, 3.0) for size in (5, 10)}
        assert await line.windows("s", begin) == seconds | longer

        async def stored() -> bool:
            return len(await line.rows("s")) == 3

        await eventually(stored)
        assert [value for _, value, _ in await line.rows("s")] == [1.0, 2.0, 3.0]
        await line.send("d", ("s", 4.0, begin + 20.0))
        assert (await line.windows("s", begin + 20))[10, begin + 20] == (1, 4.0, 4.0, 4.0)
