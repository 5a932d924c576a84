"""The gateway's address: bounded connections, over TLS where there is a certificate."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from yarl import URL

from streamproc.errors import GatewayError
from streamproc.gateway.access.address import Addresses
from streamproc.gateway.connections import Bounds, Connection, Crowd
from streamproc.process import unheard

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from streamproc.gateway.tls import Certificates
    from streamproc.settings import Settings

log = structlog.get_logger()

#: Connections that may wait to be accepted: a fleet that comes back at once.
_BACKLOG = 1_024
#: Those that are accepted in one turn of the loop; asyncio takes all that wait, and 1,000 hold the others up for 60 ms. A
#: packet takes several turns, which are to be short; a turn by itself costs less than half of a connection.
_AT_ONCE = 4
#: Files besides connections: Kafka's sockets, the log, what Python has open, connections whose handshake is under way.
_OTHER_FILES = 256


class Listener(web.BaseSite):
    """aiohttp's site, whose connections are ours."""

    __slots__ = ("_address", "_crowd", "_reuse_port", "_tls_seconds")

    def __init__(
        self,
        runner: web.BaseRunner,
        settings: Settings,
        certificates: Certificates | None,
        registry: CollectorRegistry,
        *,
        reuse_port: bool | None = None,
    ) -> None:
        super().__init__(runner, ssl_context=certificates.context if certificates else None, backlog=_BACKLOG)
        self._address = (settings.gateway_host, settings.gateway_port)
        self._reuse_port = reuse_port
        self._tls_seconds = settings.body_timeout_seconds if certificates else None
        bounds = Bounds(
            connections=min(settings.connection_limit, _file_limit(settings.connection_limit)),
            of_one=settings.connection_limit_ip,
            head_seconds=settings.body_timeout_seconds,
        )
        self._crowd = Crowd(bounds, Addresses(settings.proxies), registry)

    @property
    def name(self) -> str:
        """The URL; before the start, with the port as it was set."""
        host, port = self._address
        sockets = self._server.sockets if isinstance(self._server, asyncio.Server) else ()
        port = sockets[0].getsockname()[1] if sockets else port
        return str(URL.build(scheme="https" if self._ssl_context else "http", host=host, port=port))

    async def start(self) -> None:
        """Listen; raises GatewayError where that cannot be."""
        await super().start()
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()
        options = server._kwargs  # noqa: SLF001  # what the runner was given for its connections: aiohttp has no other way
        host, port = self._address
        try:
            self._server = await loop.create_server(
                lambda: Connection(self._crowd, server, loop=loop, **options),
                host,
                port,
                ssl=self._ssl_context,
                backlog=_AT_ONCE,
                reuse_port=self._reuse_port,
                ssl_handshake_timeout=self._tls_seconds,
            )
        except OSError as error:
            raise GatewayError(unheard("GATEWAY_PORT", host, port, error)) from error
        for listening in self._server.sockets:
            _let_wait(listening.fileno(), self._backlog)


def _let_wait(listening: int, connections: int) -> None:
    """Let so many connections wait to be accepted: to asyncio that is how many it accepts at once, as well."""
    with socket.socket(fileno=os.dup(listening)) as same:
        same.listen(connections)


def _file_limit(connections: int) -> int:
    """How many connections the process may have, after it has asked for as many as it is to have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("connections_limited", connections=allowed - _OTHER_FILES, wanted=connections, files=hard)
    return max(1, allowed - _OTHER_FILES)
