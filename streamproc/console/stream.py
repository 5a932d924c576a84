"""`/api/live`: server-sent events; a client that reads too slowly is cut off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from streamproc.console import metrics, parameters
from streamproc.console.live import Client
from streamproc.console.problems import Problem, unavailable

if TYPE_CHECKING:
    from streamproc.console.access import Readers
    from streamproc.console.live import Live

#: Proxies close what is silent for a minute; a client that has heard nothing for two of these knows that it is cut off.
HEARTBEAT_S = 15.0
#: A client that takes nothing for so long, beside what the system holds for it, is not there any more.
WRITE_S = 10.0
#: Where a client was cut off, it comes back so soon.
RETRY_MS = 2_000
_HEARTBEAT = b": still here\n\n"
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    # nginx would keep what comes until it has some kilobytes of it.
    "X-Accel-Buffering": "no",
}


class Streams:
    """Lets clients that `readers` admits follow `live`."""

    def __init__(self, readers: Readers, live: Live) -> None:
        self._readers, self._live = readers, live

    def routes(self) -> list[web.RouteDef]:
        """The route."""
        return [web.get("/api/live", self.live, allow_head=False)]

    async def live(self, request: web.Request) -> web.StreamResponse:
        """GET /api/live: changes of severity, and the windows of the sensors that are named."""
        self._readers.admit(request)
        query = request.query
        parameters.only(query, "sensor", "size")
        sensors = {name.lower() for name in query.getall("sensor", [])}
        if len(sensors) > parameters.MOST_FOLLOWED:
            detail = f"at most {parameters.MOST_FOLLOWED} sensors can be followed at once"
            raise Problem("parameter", detail, field="sensor")
        client = Client(sensors, parameters.size_ms(query))
        if not self._live.join(client, parameters.places(request.headers.get("Last-Event-ID"))):
            raise unavailable("busy", "as many follow the console live as may; STREAMPROC_CONSOLE_CLIENTS")
        response = web.StreamResponse(headers=_HEADERS)
        try:
            await response.prepare(request)
            await self._hand_on(client, response)
        except ConnectionError:
            pass  # the client is gone
        except TimeoutError:
            if not client.over:  # else that was counted
                metrics.CUT_OFF.inc()
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._live.leave(client)
        return response

    async def _hand_on(self, client: Client, response: web.StreamResponse) -> None:
        """Write what comes for the client until that is over; raises TimeoutError where he takes nothing."""
        text = b"retry: %d\n\n" % RETRY_MS
        while True:
            text += await client.take(HEARTBEAT_S)
            over = client.over  # what says so is the last that was taken
            async with asyncio.timeout(WRITE_S):
                await response.write(text or _HEARTBEAT)
            if over:
                return
            text = b""
