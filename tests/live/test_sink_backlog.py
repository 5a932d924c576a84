"""The sink after an outage: what waits for it is far more than it may hold at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaProducer

from streamproc.core.windows import SIZES_MS
from tests.live.oracle import PARTITIONS
from tests.live.pipeline import select
from tests.live.processes import Site, Stage, eventually
from tests.store.databases import Database

#: As many as a message of the engine has, which makes 600 KB of it.
ROWS = 4_000
#: 72 MB, 480,000 rows: decoded all at once, they are 400 MB.
MESSAGES = 120
#: The program has 90 MB, SQLite's cache 32, and what was fetched can be all of the messages.
MEMORY_MB = 300
#: It takes six seconds where nothing else runs; a T-SQL server beside it on two cores takes a minute.
CATCH_UP_S = 300.0
_START_MS = 1_700_000_000_000


def window_message(partition: int, number: int) -> bytes:
    """A window of each of so many sensors, all of one second, each number with all its digits."""
    at = np.arange(ROWS)
    values = np.random.default_rng(number).normal(20, 5, ROWS)
    return orjson.dumps(
        {
            "size_ms": SIZES_MS[0],
            "topic": "readings",
            "partition": partition,
            "sensor": [f"sensor-{partition}-{i}" for i in range(ROWS)],
            "start": np.full(ROWS, _START_MS + number * 1000),
            "count": at + 1,
            **dict.fromkeys(("mean", "min", "max", "deviation", "first", "last", "trend"), values),
            "first_offset": number * ROWS + at,
            "last_offset": number * ROWS + at,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def prediction_message(partition: int, number: int) -> bytes:
    """A prediction for each of so many sensors."""
    values = np.random.default_rng(number).normal(20, 5, ROWS)
    stamps = np.full(ROWS, _START_MS + number * 1000)
    return orjson.dumps(
        {
            "model": "level@1",
            "sensor": [f"sensor-{partition}-{i}" for i in range(ROWS)],
            "made_at": stamps,
            "target": stamps + 1000,
            **dict.fromkeys(("value", "lower", "upper", "anomaly_score"), values),
            "is_anomaly": [False] * ROWS,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


async def put_before_sink(site: Site, producer: AIOKafkaProducer) -> None:
    """Send the messages, of both topics in turn, over all partitions."""
    for number in range(MESSAGES):
        partition, made = number // 2 % PARTITIONS, (window_message, prediction_message)[number % 2]
        topic = ("windows", "predictions")[number % 2]
        await producer.send_and_wait(site.prefix + topic, made(partition, number), partition=partition)


def peak_mb(stage: Stage) -> int:
    """The most memory that the process has had at once."""
    lines = Path(f"/proc/{stage._process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


@pytest.mark.timeout(900)
async def test_a_backlog_of_columns_is_not_held_at_once(
    site: Site, held: Database, producer: AIOKafkaProducer
) -> None:
    """Megabytes of messages wait, the database is locked meanwhile: they go through a bounded memory, each row once."""
    site.held = held
    await put_before_sink(site, producer)
    sink = await site.sink()

    async def begun() -> bool:
        return select(site, "SELECT count(*) FROM sensor_windows") > [(0,)]

    async def caught_up() -> bool:
        return select(site, "SELECT sum(next_offset) FROM stream_offsets") == [(MESSAGES,)]

    await eventually(begun)
    with held.locked():
        await sink.until_told("database away, trying again")
    await eventually(caught_up, CATCH_UP_S)
    for table in ("sensor_windows", "predictions"):
        assert select(site, f"SELECT count(*) FROM {table}") == [(MESSAGES // 2 * ROWS,)]  # noqa: S608  # names above
    assert peak_mb(sink) < MEMORY_MB
