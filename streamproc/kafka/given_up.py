"""Closes the connections of client starts that are given up: by a time limit, or because the process ends.

aiokafka 0.14 leaves the connection that asked for the brokers open until the garbage collector finds it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiokafka.client
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection

_connect, _bootstrap = aiokafka.client.create_conn, AIOKafkaClient.bootstrap
#: What each task that starts a client has connected by now.
_connected: dict[asyncio.Task[Any] | None, list[AIOKafkaConnection]] = {}


def close_connections() -> None:
    """Make all aiokafka clients of this process close their connections when their start is given up."""
    aiokafka.client.create_conn = _noted
    AIOKafkaClient.bootstrap = bootstrap


async def bootstrap(client: AIOKafkaClient) -> None:
    """As aiokafka's own, but a cancellation leaves no connection open."""
    task = asyncio.current_task()
    connected = _connected[task] = []
    try:
        await _bootstrap(client)
    except asyncio.CancelledError:
        for connection in connected:
            connection.close()
        raise
    finally:
        del _connected[task]


async def _noted(*where: Any, **how: Any) -> AIOKafkaConnection:
    connection = await _connect(*where, **how)
    _connected.get(asyncio.current_task(), []).append(connection)
    return connection
