"""What a group has committed, of a real broker that has just started."""

from __future__ import annotations

from pathlib import Path

from aiokafka import TopicPartition

from streamproc.kafka import clients
from streamproc.kafka.broker import Broker, Installation
from streamproc.kafka.groups import committed
from streamproc.topics import apply, load, plan

GROUP = "workers"
#: Without waiting for the coordinator every second start told of nothing.
STARTS = 3


async def test_a_coordinator_that_has_just_started_is_waited_for(
    installation: Installation, tmp_path: Path
) -> None:
    """It tells what was committed; what never was is not there."""
    place, other = (TopicPartition("readings", number) for number in range(2))
    broker = await Broker.start(installation, tmp_path / "kafka")
    try:
        kafka = broker.connection
        await apply(kafka, await plan(kafka, load()))
        consumer = clients.consumer(kafka, group_id=GROUP, enable_auto_commit=False)
        async with consumer:
            consumer.assign([place])
            await consumer.commit({place: (7, "low")})
        for _ in range(STARTS):
            broker.kill()
            await broker.wait()
            broker = await Broker.start(installation, tmp_path / "kafka", int(kafka.bootstrap.split(":")[1]))
            assert await committed(kafka, GROUP, [place, other]) == {place: (7, "low")}
    finally:
        broker.kill()
        await broker.wait()
