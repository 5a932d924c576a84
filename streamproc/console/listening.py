"""The console's address: a bounded number of connections; one more is answered 503."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from yarl import URL

from streamproc.console import metrics
from streamproc.console.problems import unavailable
from streamproc.errors import SettingsError
from streamproc.process import unheard

if TYPE_CHECKING:
    from streamproc.settings import Settings

#: Connections of a page that follows live: a browser opens no more to one place, for all of its tabs.
OF_A_PAGE = 6
#: Those of programs, and of pages that may not follow any more. Without a bound, who opens connections takes all files.
OTHERS = 100


def bound(settings: Settings) -> int:
    """The most connections that are allowed."""
    return settings.console_clients * OF_A_PAGE + OTHERS


class Listening(web.BaseSite):
    """aiohttp's site with a bound on connections: an idle one makes room; if there is none, a new one is answered 503."""

    __slots__ = ("_address", "_most")

    def __init__(self, runner: web.BaseRunner, host: str, port: int, most: int) -> None:
        super().__init__(runner)
        self._address, self._most = (host, port), most

    @property
    def name(self) -> str:
        """The URL; before the start, with the port as it was set."""
        host, port = self._address
        if isinstance(self._server, asyncio.Server):
            port = self._server.sockets[0].getsockname()[1]
        return str(URL.build(scheme="http", host=host, port=port))

    async def start(self) -> None:
        """Listen; raises SettingsError if that is impossible."""
        await super().start()
        server = self._runner.server
        assert server is not None
        host, port = self._address
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Entrance(server, self._most), host, port
            )
        except OSError as error:
            raise SettingsError(unheard("CONSOLE_PORT", host, port, error)) from error


class _Entrance(asyncio.Protocol):
    """Hands a new connection on to aiohttp, or says that there are too many; those accepted together come one by one."""

    def __init__(self, server: web.Server, most: int) -> None:
        self._server, self._most = server, most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find a place for the connection; else answer 503, whatever it would ask."""
        assert isinstance(transport, asyncio.Transport)
        if len(self._server.connections) < self._most or self._make_room():
            handler = self._server()
            transport.set_protocol(handler)
            handler.connection_made(transport)
        else:
            _refuse(transport)

    def _make_room(self) -> bool:
        """End the oldest connection that waits for a request; aiohttp itself leaves them an hour, or for ever."""
        for handler in self._server.connections:
            waiter = handler._waiter  # noqa: SLF001  # nothing else tells that no request is under way
            if waiter is not None and not waiter.done():
                handler.force_close()
                return True
        return False


def _refuse(transport: asyncio.Transport) -> None:
    metrics.CONNECTIONS_REFUSED.inc()
    answer = unavailable("busy", "the console has as many connections as it may").response()
    assert isinstance(answer.body, bytes)
    head = {**answer.headers, "Content-Length": str(len(answer.body)), "Connection": "close"}
    lines = [
        f"HTTP/1.1 {answer.status} {answer.reason}",
        *(f"{name}: {value}" for name, value in head.items()),
    ]
    transport.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
    transport.close()
