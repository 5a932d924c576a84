"""Sensors change hands amid readings and kills: the database has what the engine counts, and no more, whoever wrote it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamproc.core.chunk import MOVED
from streamproc.records import SensorEntry
from streamproc.settings.connection import Connection
from tests.live.databases import Disturbed
from tests.live.pipeline import Pipeline, device_in, hour_ago, pipeline_on, select
from tests.live.processes import Stage, eventually
from tests.live.test_replay import replay
from tests.live.worked import until_checkpointed

#: Three phases of kills and settling, on each kind of database; others' work can make that minutes.
pytestmark = pytest.mark.timeout(600)
A, B = device_in(0), device_in(1)
#: Readings of each device in a phase before the registry is edited, and amid it.
BEFORE, AMID = 5, 40


@pytest.fixture
async def line(bootstrap: Connection, held: Disturbed, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """A worker and a sink, which take up their partitions at once when they are started again; the tank is A's."""
    one = {"STREAMPROC_GROUP_INSTANCE_ID": "one"}
    async with pipeline_on(held, bootstrap, tmp_path, "worker", **one) as line:
        await line.limit(SensorEntry("tank", device=A, version=1))
        await line.site.sink()
        yield line


async def speak(line: Pipeline, device: str, first: int, count: int) -> None:
    """Have a device send readings of the tank, one by one, straight to Kafka: values that no other has."""
    # The devices' times lie a day apart: of a window in both of their partitions only one could be stored.
    begin, sign = (hour_ago(), 1) if device == A else (hour_ago() - 86_400, -1)
    for number in range(first + 1, first + count + 1):
        await line.send(device, ("tank", float(sign * number), begin + number))


async def misroute(line: Pipeline, number: int) -> None:
    """Have B write two records into A's partition, one of the tank, one of a sensor that is nobody's, and see them sent on.

    Nothing else tells that the worker has come to them: the results of what was before them may be all that there are.
    """
    before = await sent_on(line)
    for sensor, value in (("tank", -number), ("free", -number - 0.5)):
        told = {
            "device_uuid": B,
            "readings": [{"sensor_uuid": sensor, "value": value}],
            "ts": hour_ago() - 86_400,
        }
        await line.producer.send_and_wait(line.topic, json.dumps(told).encode(), B.encode(), partition=0)

    async def both() -> bool:
        return await sent_on(line) == before + 2

    await eventually(both)


async def sent_on(line: Pipeline) -> int:
    """How many records the worker has sent on to their own partition."""
    held = (await line.reader.read("readings")).values()
    return sum(any(name == MOVED for name, _ in record.headers) for records in held for record in records)


async def counted(line: Pipeline) -> tuple[list[float], list[float]]:
    """The values that the engine has taken in, and those for which it has a dead letter."""
    await line.until_settled()
    refused = set(await line.letters())
    values: dict[bool, set[float]] = {True: set(), False: set()}
    for partition, records in (await line.reader.read("readings")).items():
        for record in records:
            if record.value:  # no edit, no tick
                (reading,) = json.loads(record.value)["readings"]
                values[(partition, record.offset) in refused].add(reading["value"])
    return sorted(values[False] - values[True]), sorted(values[True])


async def until_alike(line: Pipeline) -> list[float]:
    """The values that the engine has refused, once the database has exactly the others, and knows of all edits."""
    taken, refused = await counted(line)
    rows = await line.rows()
    assert sorted(value for _, value, _ in rows) == taken
    return refused


async def again(sink: Stage, line: Pipeline) -> Stage:
    """Kill the sink, and start another."""
    sink.kill()
    await sink.ended()
    return await line.site.sink()


async def test_the_database_has_what_the_engine_counts(line: Pipeline, held: Disturbed) -> None:
    """Whoever has the tank, however often the sink is killed in between; and a replay makes the same rows again."""
    sink = line.site.stages[-1]
    for phase, owner in enumerate((B, A, B)):
        first = phase * 100
        await asyncio.gather(*(speak(line, device, first, BEFORE) for device in (A, B)))
        await misroute(line, first + 90)
        await until_alike(line)
        await asyncio.gather(
            *(speak(line, device, first + BEFORE, AMID) for device in (A, B)),
            line.limit(SensorEntry("tank", device=owner, version=phase + 2)),
            kill := asyncio.ensure_future(again(sink, line)),
        )
        sink = kill.result()
    refused = await until_alike(line)
    assert min(refused) < 0 < max(refused), "each of the devices was refused"
    await eventually(lambda: knows(line, 4))
    sink = await from_before(line, held, sink)
    await asyncio.gather(*(speak(line, device, 400, AMID) for device in (A, B)))
    assert len(await until_alike(line)) == len(refused) + AMID
    await until_checkpointed(line.site)  # what is not committed is not compared
    _, found, text = await replay(line.site)
    # Of other tables, the newest windows may be closed by a tick that comes meanwhile.
    assert "readings" in text
    assert not [each for each in found if each["table"] == "readings"], text


async def knows(line: Pipeline, position: int) -> bool:
    """Whether the partitions of A and B are judged by the registry as of this position in the database."""
    query = f"SELECT registry_position FROM stream_offsets WHERE topic = '{line.topic}' AND registry_position >= 0"  # noqa: S608  # the test's own
    return [at for (at,) in select(line.site, query)].count(position) >= 2  # A's and B's


async def from_before(line: Pipeline, held: Disturbed, sink: Stage) -> Stage:
    """Another sink, on a database that is as one of before sinks kept positions of the registry."""
    sink.kill()
    await sink.ended()
    held.execute("UPDATE stream_offsets SET registry_position = NULL")
    return await line.site.sink()
