"""Devices, sensors and their ranges: kept in the database, distributed to all processes by the topic `registry`.

`service` edits both, for the commands and the gateway's admin API; `view` follows the topic; `files` and `checks` read what
people write; `mending` brings the topic up to a database that others have edited.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from streamproc.records import SensorEntry
from streamproc.registry.sender import sending
from streamproc.registry.service import Service
from streamproc.registry.view import Registry
from streamproc.store.edits import PutSensor, sensors_of
from streamproc.store.protocol import Store

__all__ = ["Registry", "Service", "put"]


async def put(
    store: Store, producer: AIOKafkaProducer, entries: Sequence[SensorEntry], topic: str = "registry"
) -> list[SensorEntry]:
    """Save sensors in the database, then send them to the topic; returns them as saved.

    `producer` must have acks="all". Raises RegistryError, which tells whether the database has them.
    """
    edits = [PutSensor(entry) for entry in entries]
    return sensors_of(await Service(store, sending(producer, topic)).edit(edits, "streamproc"))
