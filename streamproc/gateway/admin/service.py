"""The database and the producer of the admin API; the producer starts with the first edit, as the ingest needs none of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamproc.errors import KafkaUnavailable
from streamproc.kafka import clients
from streamproc.kafka.diagnosis import failure
from streamproc.registry.sender import sending
from streamproc.registry.service import Service
from streamproc.settings import Settings
from streamproc.store.opening import Database
from streamproc.store.protocol import Store

#: Calls of the database at once: an admin's page asks for a few things, and the ingest shares the process.
CALLS = 4
#: A producer that takes longer to start has no Kafka to talk to.
_START_SECONDS = 10.0
#: The gateway as a whole ends within 3 s, of which what is under way to Kafka has most.
_STOP_SECONDS = 0.3


class Services(Protocol):
    """What the admin API works with."""

    def store(self) -> AbstractAsyncContextManager[Store]:
        """The database, open, for one call; raises StoreError."""

    def service(self) -> AbstractAsyncContextManager[Service]:
        """What edits, for one edit; raises StoreError, or KafkaUnavailable before anything is changed."""

    async def close(self) -> None:
        """Close everything."""


class LazyServices:
    """Those that the settings name."""

    def __init__(self, settings: Settings, database: Database) -> None:
        """`database` is closed by its owner."""
        self._settings, self._database = settings, database
        self._opening = asyncio.Lock()
        self._places = asyncio.Semaphore(CALLS)
        self._producer: AIOKafkaProducer | None = None
        self._service: Service | None = None

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The database, open; its schema is left as it is."""
        async with self._places, self._database.opened() as store:
            yield store

    @asynccontextmanager
    async def service(self) -> AsyncIterator[Service]:
        """What edits the database and the topic."""
        async with self._places, self._database.opened() as store:
            if self._service is None:
                topic = self._settings.topic("registry")
                self._service = Service(store, sending(await self._started(), topic))
            yield self._service

    async def _started(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = clients.producer(self._settings.kafka, acks="all")
                try:
                    async with asyncio.timeout(_START_SECONDS):
                        await producer.start()
                except (KafkaError, TimeoutError) as error:
                    await producer.stop()
                    reason = await failure(self._settings.kafka, error)
                    raise KafkaUnavailable(f"nothing was changed: {reason}") from error
                self._producer = producer
            return self._producer

    async def close(self) -> None:
        """Disconnect from Kafka; what does not end soon ends with the process."""
        if self._producer is not None:
            with suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._producer.stop()
