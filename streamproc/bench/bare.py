"""A bare aiohttp handler that only reads the body: what `streamproc bench gateway` compares the gateway with."""

from __future__ import annotations

import asyncio
import signal

from aiohttp import web


async def _read(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(status=202)


async def serve(port: int) -> None:
    """Listen until SIGTERM, with no access log, as the gateway has none."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    app = web.Application()
    app.router.add_post("/ingest/packets", _read)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1_024).start()
    await stop.wait()
    await runner.cleanup()


def child(port: int) -> None:
    """The process that is measured."""
    asyncio.run(serve(port))
