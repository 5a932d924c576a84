"""Sends entries of the registry to Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamproc.errors import RegistryError
from streamproc.kafka import clients
from streamproc.kafka.diagnosis import failure
from streamproc.registry.service import Send
from streamproc.settings import Settings


def sending(producer: AIOKafkaProducer, topic: str) -> Send:
    """A function that sends records to the topic `registry`; the producer must have acks="all"."""

    async def send(records: Mapping[str, bytes | None]) -> None:
        sent = [await producer.send(topic, key=key.encode(), value=value) for key, value in records.items()]
        await asyncio.gather(*sent)

    return send


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Send]:
    """A function that sends records to the topic, with a producer of its own; raises RegistryError without Kafka."""
    producer = clients.producer(settings.kafka, acks="all")
    try:
        await producer.start()
    except KafkaError as error:
        await producer.stop()
        raise RegistryError(f"nothing was changed: {await failure(settings.kafka, error)}") from error
    try:
        yield sending(producer, settings.topic("registry"))
    finally:
        await producer.stop()
