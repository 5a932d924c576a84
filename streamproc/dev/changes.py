"""Follows the topic `events` from now on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog
from aiokafka.errors import KafkaError

from streamproc.core.chunk import REDRIVEN
from streamproc.kafka import clients
from streamproc.records import SeverityEvent
from streamproc.settings.connection import Connection

log = structlog.get_logger(__name__)

#: Between two attempts while the broker is away; it takes about 4 s to come back.
PAUSE_S = 1.0
_decode = msgspec.json.Decoder(SeverityEvent).decode


class Changes:
    """The severity changes that are sent after `start`."""

    def __init__(self, kafka: Connection, topic: str) -> None:
        self._topic = topic
        self._consumer = clients.consumer(kafka, topic, enable_auto_commit=False, auto_offset_reset="latest")

    async def start(self) -> None:
        """Connect and note the end of the topic; raises KafkaError."""
        await self._consumer.start()
        await self._consumer.seek_to_end()

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def follow(self, show: Callable[[SeverityEvent], None]) -> None:
        """Show each change as it comes, until cancelled; a record that is no event is logged."""
        while True:
            try:
                record = await self._consumer.getone()
            except KafkaError as error:
                log.warning("events cannot be read", error=str(error))
                await asyncio.sleep(PAUSE_S)
                continue
            if any(name == REDRIVEN for name, _ in record.headers):
                continue  # sent again for the database alone: it was shown when it happened
            try:
                show(_decode(record.value or b""))
            except msgspec.MsgspecError as error:
                log.warning("not an event", offset=record.offset, error=str(error))
