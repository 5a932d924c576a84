"""Many readings for a sink alone, and what becomes of them in its database."""

from __future__ import annotations

import json

from streamproc.core.routing import home
from tests.live.oracle import PARTITIONS
from tests.live.pipeline import Pipeline, select
from tests.live.processes import Stage, eventually

#: What a sink tells whenever it has to wait for its database.
AWAY = "database away, trying again"
#: Readings in a packet of `flood`; a record of 16 KB.
PACKET = 500


async def flood(line: Pipeline, readings: int, begin: int, first: int = 0, last: float = 1.0) -> None:
    """Put so many readings, each of another time, on all partitions; the value of each packet's last one is `last`."""
    for number in range(first, first + readings, PACKET):
        device = f"device-{number // PACKET % 20}"
        values = [1.0] * (PACKET - 1) + [last]
        items = [
            {"sensor_uuid": device, "value": value, "ts": begin + (number + i) / 1000}
            for i, value in enumerate(values)
        ]
        body = json.dumps({"device_uuid": device, "readings": items}).encode()
        await line.producer.send(line.topic, body, partition=home(device, PARTITIONS))
    await line.producer.flush()


def stored(line: Pipeline) -> tuple[int, int]:
    """How many rows the database has, and how many different readings they are."""
    query = (
        "SELECT count(*), (SELECT count(*) FROM (SELECT DISTINCT sensor_id, device_timestamp FROM sensor_readings) d)"
        " FROM sensor_readings"
    )
    ((count, different),) = select(line.site, query)
    return count, different


async def until_stored(line: Pipeline, readings: int) -> None:
    """Wait until the sink has caught up; each reading is a row then, once."""
    await line.until_stored()
    assert stored(line) == (readings, readings)


async def until_waiting(sink: Stage, tries: int) -> None:
    """Wait until the sink has told so many times more that the database is away."""
    before = len(sink.told(AWAY))

    async def told() -> bool:
        return len(sink.told(AWAY)) >= before + tries

    await eventually(told)
