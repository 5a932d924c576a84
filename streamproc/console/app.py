"""The routes, and the process around them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from streamproc.console import health, metrics
from streamproc.console.access import Readers
from streamproc.console.api import Api
from streamproc.console.following import Following
from streamproc.console.listening import Listening, bound
from streamproc.console.live import Live
from streamproc.console.operations import TITLE, TOLD, described
from streamproc.console.page import Page
from streamproc.console.problems import Problem, of_http
from streamproc.console.reading import Reading
from streamproc.console.stream import Streams
from streamproc.errors import SettingsError
from streamproc.monitor import Told, collected, routes
from streamproc.openapi import document
from streamproc.openapi.pages import Pages
from streamproc.process import is_loopback
from streamproc.store.opening import Database

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler
    from prometheus_client.core import Metric

    from streamproc.settings import Settings

#: What is under way when the process is asked to end has this long, twice; the whole stop has 5 s.
_SHUTDOWN_S = 0.5
#: A consumer that waits for a broker which is away does not always hear that it is to end; then it is told again.
_CANCEL_AGAIN_S = 0.5
#: How often: with the above, the process ends within 3 s.
_CANCELS = 3

_log = structlog.get_logger(__name__)


def build(settings: Settings, live: Live, reading: Reading, told: Told) -> web.Application:
    """Make the application over the live records and the database; its caller opens and closes both."""
    readers = Readers(settings)
    app = web.Application(middlewares=[_guarded])
    app.add_routes(routes(told))
    app.add_routes(Api(readers, reading).routes())
    app.add_routes(Streams(readers, live).routes())
    app.add_routes(Page(settings.language, needs_token=readers.needs_token).routes())
    Pages(lambda: document(TITLE, described(needs_token=readers.needs_token), TOLD)).add_to(app)
    app.on_response_prepare.append(_shield)
    app.on_shutdown.append(_closing(live))
    return app


async def run(settings: Settings, stop: asyncio.Event) -> bool:
    """Answer until `stop` is set, then end within 3 s; returns whether all has ended. What has not ends with the process.

    Kafka and the database may be away at the start, as at any time. Raises SettingsError where it cannot listen.
    """
    if settings.kafka_bootstrap is None:
        raise SettingsError("KAFKA_BOOTSTRAP: the console follows what happens on a broker")
    live, database = Live(settings.console_clients), Database(settings, "console")
    reading, following = Reading(database.opened), Following(settings, live)

    def gauges() -> Iterable[Metric]:
        yield from health.gauges(live, reading, settings.console_clients)
        yield from health.connections(runner.server, bound(settings))

    told = Told("console", lambda: [reading.standing.check(), following.check()], gauges)
    runner = web.AppRunner(
        build(settings, live, reading, told), access_log=None, shutdown_timeout=_SHUTDOWN_S
    )
    tasks = [
        asyncio.create_task(following.run(), name="following"),
        asyncio.create_task(reading.probe(), name="probing"),
    ]
    with collected(told):
        try:
            await runner.setup()
            await _listen(runner, settings)
            await _stopped(stop, tasks)
        finally:
            await runner.cleanup()
            heard = all([await _ended(task) for task in tasks])
            await database.close()
            _log.info("console stopped")
    return heard


async def _listen(runner: web.AppRunner, settings: Settings) -> None:
    host = settings.console_host
    site = Listening(runner, host, settings.console_port, bound(settings))
    await site.start()
    _log.info("console listens", url=site.name)
    if settings.console_token is None and not is_loopback(host):
        _log.warning("console open to all", host=host, advice="set STREAMPROC_CONSOLE_TOKEN")


async def _stopped(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait until the process is asked to end, or a task has: by an error, which is raised."""
    asked = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        asked.cancel()


async def _ended(task: asyncio.Task[None]) -> bool:
    """End a task; whether it has heard it."""
    for _ in range(_CANCELS):
        task.cancel()
        if (await asyncio.wait((task,), timeout=_CANCEL_AGAIN_S))[0]:
            return True
    return False


def _closing(live: Live) -> Callable[[web.Application], Coroutine[Any, Any, None]]:
    async def close(_: web.Application) -> None:
        live.close()

    return close


async def _shield(_request: web.Request, response: web.StreamResponse) -> None:
    """What each answer says to browsers: take it for what it is, and tell nobody where it came from."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer whatever is refused as a problem, and count."""
    resource = request.match_info.route.resource
    path = resource.canonical if resource else "other"
    began = perf_counter()
    response = await _answered(request, handler)
    metrics.REQUESTS.labels(path, response.status).inc()
    if path != "/api/live":
        metrics.SECONDS.labels(path).observe(perf_counter() - began)
    return response


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        return of_http(error).response()
    except ConnectionError:
        raise  # the client is gone: there is nobody to answer
    except Exception as error:  # noqa: BLE001  # the task's edge: each kind has its answer
        _log.error("request failed", path=request.path, exc_info=error)
        return Problem("internal", "see the console's log").response()
