"""The worker's HTTP endpoint: its metrics, and whether it is alive and ready."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streamproc.errors import SettingsError

#: A scrape that is under way as the worker stops is given this long, twice; the whole stop has 5 s.
SHUTDOWN_S = 0.1

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def serving(host: str, port: int, waits_for: Callable[[], str | None]) -> AsyncIterator[None]:
    """Answer `/metrics`, `/health` and `/ready` on this address; port 0 answers nothing.

    `waits_for` tells what keeps the worker from being ready, None where nothing does. Raises SettingsError where the
    address cannot be listened on.
    """
    if not port:
        yield
        return
    app = web.Application()
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", _ready(waits_for))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await _listen(runner, host, port)
        yield
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise SettingsError(
            f"STREAMPROC_WORKER_PORT: cannot listen on {host}:{port}: {error.strerror}"
        ) from error
    _log.info("worker listens", url=f"http://{host}:{port}")


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _health(_: web.Request) -> web.Response:
    """Alive: the event loop answers. What is stuck behind it, the worker's own watchdog ends."""
    return web.json_response({"status": "alive"})


def _ready(waits_for: Callable[[], str | None]) -> Handler:
    async def ready(_: web.Request) -> web.Response:
        reason = waits_for()
        if reason:
            return web.json_response({"status": "not ready", "detail": reason}, status=503)
        return web.json_response({"status": "ready"})

    return ready
