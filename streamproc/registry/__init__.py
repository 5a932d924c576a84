"""Devices, sensors and their ranges: the database is their home, the topic `registry` brings them to all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamproc.errors import RegistryError
from streamproc.records import SensorEntry
from streamproc.registry.view import Registry
from streamproc.store.protocol import Store

__all__ = ["Registry", "put"]


async def put(
    store: Store, producer: AIOKafkaProducer, entries: Sequence[SensorEntry], topic: str = "registry"
) -> list[SensorEntry]:
    """Save entries in the database, then send them to the topic; returns them as saved.

    `producer` must have acks="all". Unchanged entries are sent, too: so a put that failed in between is
    mended by doing it again. Raises RegistryError, which tells whether the database has them.
    """
    saved = await store.save_entries(entries)
    try:
        sent = [
            await producer.send(topic, key=entry.sensor.encode(), value=msgspec.json.encode(entry))
            for entry in saved
        ]
        await asyncio.gather(*sent)
    except KafkaError as error:
        raise RegistryError(
            f"saved in the database, but not sent to Kafka; run it again: {error!r}"
        ) from error
    return saved
