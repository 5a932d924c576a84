"""The outbox against a real broker: order, Kafka's word on each message, the bound, and what is not taken."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from prometheus_client import REGISTRY

from streamproc.engine.outbox import UNCONFIRMED_BYTES, Outbox
from streamproc.engine.outputs import Message
from streamproc.settings.connection import Connection
from tests.live.oracle import reading

TIMEOUT_S = 60.0


def late(number: int, size: int = 0) -> Message:
    """A message for the topic `late`, numbered, of at least so many bytes."""
    return Message("late", None, str(number).encode().ljust(size), 0)


def waits(label: str) -> float:
    """How often that outbox had to wait for Kafka."""
    return REGISTRY.get_sample_value("streamproc_engine_waits_total", {"partition": label}) or 0.0


async def test_all_are_sent_in_order_without_a_wait(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """More messages than a batch holds are taken at once, and are on the topic in their order."""
    outbox = Outbox(producer, lambda name: topics + name, "order")
    words = [outbox.put(late(number, 10_000)) for number in range(200)]
    assert outbox.unconfirmed == (200, 2_000_000)
    async with asyncio.timeout(TIMEOUT_S):
        places = await asyncio.gather(*words)
        await outbox.settle()
    assert [place.offset for place in places] == list(range(200))
    assert outbox.unconfirmed == (0, 0)
    async with reading(bootstrap, topics, "late") as reader:
        assert [int(value) for value in await reader.values("late")] == list(range(200))


async def test_settling_waits_only_beyond_the_bound(topics: str, producer: AIOKafkaProducer) -> None:
    """Up to the bound nothing waits for Kafka; beyond it, until no more than that is unconfirmed."""
    outbox = Outbox(producer, lambda name: topics + name, "bound")
    size = 900_000
    for number in range(UNCONFIRMED_BYTES // size):
        outbox.put(late(number, size))
    async with asyncio.timeout(TIMEOUT_S):
        await outbox.settle()
        assert waits("bound") == 0
        for number in range(5):
            outbox.put(late(number, size))
        await outbox.settle()
        assert waits("bound") > 0
        assert outbox.unconfirmed[1] <= UNCONFIRMED_BYTES
        await asyncio.gather(*outbox.waiting())


async def test_after_one_that_is_not_taken_none_is_sent(topics: str, producer: AIOKafkaProducer) -> None:
    """A message that the producer refuses is told by `settle`, and those after it do not overtake it."""
    outbox = Outbox(producer, lambda name: topics + name, "refused")
    first, large, last = outbox.put(late(0)), outbox.put(late(1, 50_000_000)), outbox.put(late(2))
    async with asyncio.timeout(TIMEOUT_S):
        assert (await first).offset == 0
        for word in (large, last):
            with pytest.raises(MessageSizeTooLargeError):
                await word
        with pytest.raises(MessageSizeTooLargeError):
            await outbox.settle()
