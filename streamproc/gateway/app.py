"""The routes, and the process around them."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http import HttpProcessingError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streamproc.errors import GatewayError, SettingsError
from streamproc.gateway.access import Open
from streamproc.gateway.bodies import ACCEPT_ENCODING, ACCEPT_POST
from streamproc.gateway.ingest import Ingest
from streamproc.gateway.problems import Problem, of_http, unavailable
from streamproc.gateway.publisher import KafkaPublisher
from streamproc.monitor import Check, report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.typedefs import Handler, Middleware

    from streamproc.gateway.access import Access
    from streamproc.gateway.metrics import Metrics
    from streamproc.gateway.publisher import Publisher
    from streamproc.settings import Settings

log = structlog.get_logger()

#: With Kafka there, the first request finds a connection; without, /ready is there to tell so.
_PATIENCE_SECONDS = 2.0
#: On stopping, what is under way gets so long to be acknowledged; with what follows it stays below 3 s.
_GRACE_SECONDS = 1.0
#: aiohttp waits for handlers this long, twice; those that wait for Kafka have been answered by then.
_SHUTDOWN_SECONDS = 0.3
#: How long the rest of a refused body is read and dropped, so that the client sees the answer.
_LINGER_SECONDS = 2.0
#: An idle connection is kept for a device that posts once a minute.
_KEEP_ALIVE_SECONDS = 75.0
#: aiohttp's own bounds, named so that they are ours: a URL (the longest is a sensor's, 128 characters of 4 bytes, each
#: written as three), a header (a proxy's or a token may be long), how many. Bodies are inflated by us, within a bound.
_HEADS_AND_BODIES = {
    "max_line_size": 4_096,
    "max_field_size": 8_190,
    "max_headers": 128,
    "auto_decompress": False,
}
#: Connections that may wait to be accepted: a fleet that comes back at once.
_BACKLOG = 1_024


def build(settings: Settings, publisher: Publisher, access: Access | None = None) -> web.Application:
    """Make the application over a publisher that its caller starts and closes."""
    ingest = Ingest(settings, publisher, access or Open(settings.ingest_api_key))
    app = web.Application(middlewares=[_guard(ingest.metrics)], handler_args=_HEADS_AND_BODIES)
    expect = _expect(ingest)
    app.router.add_post("/ingest/packets", ingest.packet, expect_handler=expect)
    app.router.add_post("/ingest/readings", ingest.reading, expect_handler=expect)
    app.router.add_post("/ingest/readings/bulk", ingest.bulk, expect_handler=expect)
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", _ready(publisher))
    app.router.add_get("/metrics", _metrics(ingest.metrics))
    return app


async def serve(
    settings: Settings, stop: asyncio.Event, listening: asyncio.Future[str] | None = None
) -> None:
    """Run the gateway until `stop` is set, then answer what is under way and end, within 3 s.

    `listening` is given the URL once there is one. Kafka may be away at the start, as at any time.
    Raises GatewayError where the address cannot be listened on, SettingsError without a KAFKA_BOOTSTRAP.
    """
    if settings.kafka_bootstrap is None:
        raise SettingsError("KAFKA_BOOTSTRAP: the gateway needs a broker")
    publisher = KafkaPublisher(settings.kafka, settings.topic("readings"), settings.ack_timeout_seconds)
    runner = _runner(build(settings, publisher))
    await runner.setup()
    try:
        await publisher.start(_PATIENCE_SECONDS)
        url = await _listen(runner, settings.gateway_host, settings.gateway_port)
        log.info("gateway_listening", url=url)
        if listening is not None:
            listening.set_result(url)
        await publisher.run(stop)
    finally:
        for site in runner.sites:
            await site.stop()
        await publisher.close(_GRACE_SECONDS)
        await runner.cleanup()
        log.info("gateway_stopped")


def _runner(app: web.Application) -> web.AppRunner:
    return web.AppRunner(
        app,
        logger=_quiet_log(),
        access_log=None,  # a line a request would cost as much as the request; /metrics counts them
        keepalive_timeout=_KEEP_ALIVE_SECONDS,
        lingering_time=_LINGER_SECONDS,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )


def _quiet_log() -> logging.Logger:
    """Give aiohttp a log without a traceback for all that is sent and no HTTP: anyone could fill a disk."""
    quiet = logging.getLogger("streamproc.gateway.http")
    quiet.addFilter(_is_ours)
    return quiet


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    site = web.TCPSite(runner, host, port, backlog=_BACKLOG)
    try:
        await site.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise GatewayError(f"{host}:{port} is taken; set GATEWAY_PORT to another port") from error
        raise GatewayError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return site.name


def _guard(metrics: Metrics) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer whatever is refused as a problem, and count."""
        try:
            response = await handler(request)
        except Problem as problem:
            response = problem.response()
        except web.HTTPMethodNotAllowed as error:
            response = _options(error) if request.method == hdrs.METH_OPTIONS else of_http(error).response()
        except web.HTTPException as error:
            response = of_http(error).response()
        except ConnectionError:
            raise  # the client is gone: there is nobody to answer
        except Exception:  # the task's edge: what a client can send never gets here
            log.exception("request_failed", path=request.path)
            response = Problem("internal", "see the gateway's log").response()
        resource = request.match_info.route.resource
        metrics.requests.labels(resource.canonical if resource else "other", response.status).inc()
        if not request.content.is_eof():
            response.force_close()
        return response

    return guard


def _options(error: web.HTTPMethodNotAllowed) -> web.Response:
    """Tell what may be sent here, to who asks."""
    methods = {*error.allowed_methods, hdrs.METH_OPTIONS}
    headers: dict[str, str] = {"Allow": ", ".join(sorted(methods))}
    if hdrs.METH_POST in methods:
        headers |= ACCEPT_POST | ACCEPT_ENCODING
    return web.Response(status=204, headers=headers)


def _expect(ingest: Ingest) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
    async def expect(request: web.Request) -> web.StreamResponse | None:
        """Refuse on the headers alone where a client asks before it sends the body (curl, from 1 MB on)."""
        if request.version < HttpVersion11 or request.headers[hdrs.EXPECT].lower() != "100-continue":
            return None  # nothing that is known is expected (RFC 9110, 10.1.1), and HTTP/1.0 knows no 100
        try:
            ingest.keep_head(request)
        except Problem as problem:
            response = problem.response()
            response.force_close()
            return response
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer proper has not begun
        return None

    return expect


async def _health(_request: web.Request) -> web.Response:
    """GET /health: the process runs."""
    return _json({"status": "alive"})


def _ready(publisher: Publisher) -> Handler:
    async def ready(_request: web.Request) -> web.Response:
        """GET /ready: Kafka takes records now."""
        fault = await publisher.fault()
        answer = report([Check("broker", not fault, fault or f"{publisher.topic} has a leader everywhere")])
        if fault:
            raise unavailable("kafka-unavailable", fault, checks=answer["checks"])
        return _json(answer | {"topic": publisher.topic})

    return ready


def _metrics(metrics: Metrics) -> Handler:
    async def show(_request: web.Request) -> web.Response:
        """GET /metrics: the counters in Prometheus' text format."""
        return web.Response(
            body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    return show


def _json(answer: dict[str, Any]) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
