"""A gateway served as its process serves it: over its own connections, readings by the short way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry
from yarl import URL

from streamproc.gateway.app import INGEST
from streamproc.gateway.guard import take_short_way
from streamproc.gateway.listener import Listener
from streamproc.settings import Settings

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Served(TestServer):
    """An application of `gateway.app.build` for a `TestClient`; without settings, on any free port."""

    def __init__(self, app: web.Application, settings: Settings | None = None) -> None:
        super().__init__(app)
        self.settings = settings or Settings.model_validate({"gateway_host": "127.0.0.1", "gateway_port": 0})
        #: Whether readings are answered by the short way, as the gateway's process has it, or by aiohttp's own.
        self.short_way = True
        #: How long requests that are under way are waited for at the end.
        self.shutdown_timeout = 60.0
        #: What the connections count.
        self.counted = CollectorRegistry()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def start_server(self, loop: Any = None, **given: Any) -> None:
        """Listen."""
        del loop, given
        if self.runner is not None:
            return
        runner = self.runner = web.AppRunner(
            self.app, access_log=None, shutdown_timeout=self.shutdown_timeout
        )
        await runner.setup()
        if self.short_way:
            take_short_way(runner, self.app[INGEST])
        listener = Listener(runner, self.settings, None, self.counted)
        await listener.start()
        self.url = listener.name
        self._root = URL(self.url)
        self.scheme, self.port = self._root.scheme, self._root.port


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Pair]:
    """Open a bare connection, to send what no client library would."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
