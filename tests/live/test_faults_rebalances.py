"""Three workers that join, leave, are killed and come back as stale owners: the results are those of the core."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import pytest

from streamproc.records import Range, SensorEntry
from streamproc.settings.connection import Connection
from tests.live.feed import send, signal
from tests.live.oracle import PARTITIONS
from tests.live.pipeline import Pipeline, running_pipeline
from tests.live.processes import Stage, eventually

#: Device 0 of the made signal goes beyond it now and then.
LIMIT = SensorEntry("sensor-0", critical=Range(high=60.0))


async def feed(line: Pipeline, made: Iterator[list[tuple[str, bytes]]], seconds: int = 10) -> None:
    """Send so much of the made signal."""
    for batch in islice(made, seconds):
        sent = [await send(line.producer, line.topic, device, value) for device, value in batch]
        await asyncio.gather(*sent)


async def until_shared(*workers: Stage) -> None:
    """Wait until these workers have the partitions among them, each its share, by the newest word of each."""
    fewest, most = PARTITIONS // len(workers), -(-PARTITIONS // len(workers))

    async def is_shared() -> bool:
        told = [(await worker.until_told("partitions"))["assigned"] for worker in workers]
        is_fair = all(fewest <= len(assigned) <= most for assigned in told)
        return is_fair and sorted(chain(*told)) == list(range(PARTITIONS))

    await eventually(is_shared)


@pytest.mark.timeout(400)
async def test_three_workers(bootstrap: Connection, tmp_path: Path) -> None:
    """Readings flow before and after each change of owners, a worker paused beyond its session among them."""
    made = signal(12, 10_000)
    async with running_pipeline(bootstrap, tmp_path, "worker") as line:
        await line.limit(LIMIT)
        (first,) = line.site.stages
        await feed(line, made)
        second = await line.site.worker()
        third = await line.site.worker()
        await feed(line, made)
        await until_shared(first, second, third)
        await feed(line, made)
        third.pause()
        await feed(line, made)
        await until_shared(first, second)
        await feed(line, made)
        assert (await second.terminate())[0] == 0
        await until_shared(first)
        third.go_on()
        await feed(line, made)
        await until_shared(first, third)
        first.kill()
        await feed(line, made)
        await until_shared(third)
        await line.site.worker()
        await feed(line, made)
        results = await line.until_settled()
        assert len(results.windows) > 12 * 70
        assert len(results.events) > 2
