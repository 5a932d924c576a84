"""The only place that makes Kafka clients, so that each connects as the settings say."""

from __future__ import annotations

import asyncio
import logging
from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from streamproc.kafka.given_up import close_connections
from streamproc.kafka.requests import encode_at_once
from streamproc.kafka.stray import is_asked_to_end
from streamproc.settings.connection import Connection, tls

_log = structlog.get_logger(__name__)

encode_at_once()
close_connections()


def producer(kafka: Connection, **options: Any) -> AIOKafkaProducer:
    """A producer that is not started yet; `options` are aiokafka's."""
    return AIOKafkaProducer(**arguments(kafka), **options)


class Consumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's consumer, which can be stopped whatever its fetches are doing."""

    async def stop(self) -> None:
        """Leave the group and disconnect.

        aiokafka 0.14 ends half-way with the cancellation of a fetch that waited to ask an absent broker again.
        """
        try:
            await super().stop()
        except asyncio.CancelledError:
            if is_asked_to_end():
                raise
            fetches = tuple(self._fetcher._pending_tasks)  # noqa: SLF001  # as it does itself
            for fetch in fetches:
                fetch.cancel()
            if fetches:
                await asyncio.wait(fetches)
            await self._client.close()


def consumer(kafka: Connection, *topics: str, **options: Any) -> Consumer:
    """A consumer that is not started yet; `options` are aiokafka's."""
    return Consumer(*topics, **arguments(kafka), **options)


def admin(kafka: Connection, **options: Any) -> AIOKafkaAdminClient:
    """An admin client that is not started yet; `options` are aiokafka's."""
    return AIOKafkaAdminClient(**arguments(kafka), **options)


def arguments(kafka: Connection) -> dict[str, Any]:
    """The arguments with which aiokafka's clients connect; raises SettingsError if a certificate cannot be used."""
    return {"bootstrap_servers": kafka.bootstrap, **security(kafka)}


def security(kafka: Connection) -> dict[str, Any]:
    """The part of `arguments` that concerns security, not the address."""
    its = kafka.security
    given: dict[str, Any] = {"security_protocol": its.protocol}
    if its.encrypted:
        given["ssl_context"] = tls(its)
    if its.logs_in:
        _warn_of(kafka)
        # At debug, it logs all that is sent: the password too.
        logging.getLogger("aiokafka.conn").setLevel(logging.INFO)
        given |= {
            "sasl_mechanism": its.mechanism,
            "sasl_plain_username": its.username,
            "sasl_plain_password": its.password.get_secret_value() if its.password else "",
        }
    return given


@lru_cache(maxsize=8)  # once a process and connection
def _warn_of(kafka: Connection) -> None:
    if kafka.security.tells_password:
        _log.warning("KAFKA_SASL_PASSWORD is sent unencrypted: use SASL_SSL, or SCRAM", kafka=kafka.bootstrap)
