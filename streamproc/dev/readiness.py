"""Whether the stages really work: asked of them or of Kafka, not guessed from their logs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import aiohttp
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

#: Between two questions: short beside the seconds that a stage takes to start.
INTERVAL_S = 0.2
TIMEOUT_S = 2.0


async def until(ready: Callable[[], Awaitable[bool]]) -> None:
    """Return once `ready` says so."""
    while not await ready():  # noqa: ASYNC110  # what is asked runs elsewhere and sets no event here
        await asyncio.sleep(INTERVAL_S)


async def answers(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether `url` answers 200."""
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as answer:
            return answer.status == HTTPStatus.OK
    except (aiohttp.ClientError, TimeoutError):
        return False


async def consuming(admin: AIOKafkaAdminClient, group: str) -> bool:
    """Whether the group has members and each has been given its partitions (Kafka calls it Stable)."""
    try:
        (answer,) = await admin.describe_consumer_groups([group])
    except KafkaError:
        return False
    _, _, state, _, _, members, *_ = answer.groups[0]
    return state == "Stable" and len(members) > 0
