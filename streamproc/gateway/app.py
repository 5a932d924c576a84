"""The routes, and the process around them."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http import HttpProcessingError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from streamproc.errors import SettingsError
from streamproc.gateway.access.following import Following
from streamproc.gateway.access.gate import Gate
from streamproc.gateway.access.metrics import Counts
from streamproc.gateway.admin.access import Doorkeeper
from streamproc.gateway.admin.routes import Admin
from streamproc.gateway.admin.service import LazyServices
from streamproc.gateway.guard import guard, take_short_way
from streamproc.gateway.ingest import READS, Ingest
from streamproc.gateway.listener import Listener
from streamproc.gateway.operations import TITLE, described
from streamproc.gateway.problems import TOLD, Problem, unavailable
from streamproc.gateway.protocol import FIELD_BYTES, FIELDS, URL_BYTES
from streamproc.gateway.publisher import KafkaPublisher
from streamproc.gateway.siblings import Siblings
from streamproc.gateway.status import Sensors
from streamproc.gateway.tls import Certificates, certificates
from streamproc.monitor import Check, report
from streamproc.openapi import document
from streamproc.openapi.pages import Pages
from streamproc.process import is_loopback
from streamproc.store.opening import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp.typedefs import Handler

    from streamproc.gateway.access import Access
    from streamproc.gateway.access.callers import Callers
    from streamproc.gateway.publisher import Publisher
    from streamproc.gateway.siblings import Member, Standing
    from streamproc.settings import Settings

log = structlog.get_logger()

#: With Kafka there, the first request finds a connection; without, /ready is there to tell so.
_PATIENCE_SECONDS = 2.0
#: On stopping, what is under way gets so long to be acknowledged; with what follows it stays below 3 s.
_GRACE_SECONDS = 1.0
#: aiohttp waits for handlers this long, twice; those that wait for Kafka have been answered by then.
_SHUTDOWN_SECONDS = 0.3
#: An idle connection is kept for a device that posts once a minute.
_KEEP_ALIVE_SECONDS = 75.0
#: What /metrics tells is told to all who ask within so long: it takes a millisecond, and anyone may ask, at any rate.
_METRICS_FRESH_SECONDS = 0.05
#: Where the application keeps the way in, and what that counts.
INGEST = web.AppKey("ingest", Ingest)
#: Where it keeps the other processes of its port, where there are any.
SIBLINGS = web.AppKey("siblings", Siblings)
#: aiohttp's own bounds, named so that they are ours. Bodies are inflated by us, within a bound.
_HEADS_AND_BODIES = {
    "max_line_size": URL_BYTES,
    "max_field_size": FIELD_BYTES,
    "max_headers": FIELDS,
    "auto_decompress": False,
}


def build(
    settings: Settings,
    publisher: Publisher,
    access: Access,
    following: Following | None = None,
    counts: Counts | None = None,
    member: Member | None = None,
) -> web.Application:
    """Make the application over a publisher, and a registry that is followed, which its caller starts and closes.

    `member`: it is one of several processes.
    """
    callers = access.callers
    ingest = Ingest(settings, publisher, access, callers.name)
    for collector in (*(counts.collectors() if counts else ()), *filter(None, [following])):
        ingest.metrics.registry.register(collector)
    app = web.Application(middlewares=[guard(ingest.metrics)], handler_args=_HEADS_AND_BODIES)
    app[INGEST] = ingest
    expect = _expect(ingest)
    for path, read in READS.items():
        app.router.add_post(path, ingest.handler(read), expect_handler=expect)
    app.router.add_get("/health", _health)
    standing = _standing(publisher, following)
    siblings = Siblings(member, standing, ingest.metrics.registry) if member else None
    if siblings:
        app[SIBLINGS] = siblings
    app.router.add_get(
        "/ready", _limited(callers, _ready(siblings.checks if siblings else standing, publisher))
    )
    app.router.add_get("/metrics", _limited(callers, _metrics(ingest.metrics.registry, siblings)))
    database = Database(settings, "gateway")
    if key := settings.admin_api_key:
        services = LazyServices(settings, database)
        door = Doorkeeper(key.get_secret_value(), callers)
        Admin(door, services, settings.body_timeout_seconds).add_to(app)
    app.router.add_get("/sensors/{id}/status", Sensors(access, database.opened).status)
    app.on_cleanup.append(database.close)
    Pages(lambda: document(TITLE, described(settings), TOLD)).add_to(app)
    return app


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    listening: asyncio.Future[str] | None = None,
    member: Member | None = None,
) -> None:
    """Run the gateway until `stop` is set, then answer what is under way and end, within 3 s.

    `listening` is given the URL once there is one. Kafka may be away at the start, as at any time.
    Raises GatewayError where the address cannot be listened on, SettingsError without a KAFKA_BOOTSTRAP.
    """
    if settings.kafka_bootstrap is None:
        raise SettingsError("KAFKA_BOOTSTRAP: the gateway needs a broker")
    publisher = KafkaPublisher(settings.kafka, settings.topic("readings"), settings.ack_timeout_seconds)
    following, counts = Following(settings), Counts()
    app = build(settings, publisher, Gate(settings, following.known, counts), following, counts, member)
    runner = _runner(app)
    async with _tls(settings) as tls, _told(app.get(SIBLINGS)):
        await runner.setup()
        try:
            following.start()
            await publisher.start(_PATIENCE_SECONDS)
            await following.wait(_PATIENCE_SECONDS)
            shared = True if member else None
            ingest = app[INGEST]
            take_short_way(runner, ingest)
            listener = Listener(runner, settings, tls, ingest.metrics.registry, reuse_port=shared)
            await listener.start()
            log.info("gateway_listening", url=listener.name)
            _warn_if_open(settings)
            if listening is not None:
                listening.set_result(listener.name)
            await publisher.run(stop)
        finally:
            for site in runner.sites:
                await site.stop()
            await publisher.close(_GRACE_SECONDS)
            await runner.cleanup()
            await following.stop()
            log.info("gateway_stopped")


@asynccontextmanager
async def _told(siblings: Siblings | None) -> AsyncIterator[None]:
    """Have the other processes of the port told what this one knows of itself."""
    if siblings is None:
        yield
        return
    runner = _runner(siblings.application())
    await runner.setup()
    try:
        await web.UnixSite(runner, siblings.socket).start()
        yield
    finally:
        await runner.cleanup()


def _runner(app: web.Application) -> web.AppRunner:
    return web.AppRunner(
        app,
        logger=_quiet_log(),
        access_log=None,  # a line a request would cost as much as the request; /metrics counts them
        keepalive_timeout=_KEEP_ALIVE_SECONDS,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )


def _quiet_log() -> logging.Logger:
    """Give aiohttp a log without a traceback for all that is sent and no HTTP: anyone could fill a disk."""
    quiet = logging.getLogger("streamproc.gateway.http")
    quiet.addFilter(_is_ours)
    return quiet


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


@asynccontextmanager
async def _tls(settings: Settings) -> AsyncIterator[Certificates | None]:
    """The certificates, followed, and read again at once on SIGHUP; raises SettingsError where they are wrong."""
    found = certificates(settings)
    if found is None:
        yield None
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, found.renew)
    following = asyncio.create_task(found.follow(), name="certificates")
    try:
        yield found
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        following.cancel()
        await asyncio.wait([following])


def _warn_if_open(settings: Settings) -> None:
    """Say so where other machines may write without a key: it is seldom meant."""
    if settings.device_keys == "required" or settings.ingest_api_key or settings.tls_client_ca:
        return
    if not is_loopback(settings.gateway_host):
        advice = "set STREAMPROC_DEVICE_KEYS=required, or INGEST_API_KEY"
        log.warning("gateway_open_to_all", host=settings.gateway_host, advice=advice)


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


def _limited(callers: Callers, handler: Handler) -> Handler:
    """Count requests that anyone may make as those of writers are: /metrics costs ten times as much as a packet."""

    async def limited(request: web.Request) -> web.StreamResponse:
        callers.limit(request)
        return await handler(request)

    return limited


async def _health(_request: web.Request) -> web.Response:
    """GET /health: the process runs."""
    return _json({"status": "alive"})


def _standing(publisher: Publisher, following: Following | None) -> Standing:
    async def checks() -> list[Check]:
        """Whether Kafka takes records now, and readings can be checked."""
        fault = await publisher.fault()
        broker = Check("broker", not fault, fault or f"{publisher.topic} has a leader everywhere")
        return [broker, *(following.checks() if following else [])]

    return checks


def _ready(standing: Standing, publisher: Publisher) -> Handler:
    async def ready(_request: web.Request) -> web.Response:
        """GET /ready: Kafka takes records now, and readings can be checked, by each process."""
        checks = await standing()
        answer = report(checks)
        if "detail" in answer:
            broker = next((check for check in checks if check.name == "broker" and not check.ok), None)
            kind = "kafka-unavailable" if broker else "registry-unavailable"
            raise unavailable(kind, broker.detail if broker else answer["detail"], checks=answer["checks"])
        return _json(answer | {"topic": publisher.topic})

    return ready


def _metrics(registry: CollectorRegistry, siblings: Siblings | None) -> Handler:
    told, until, telling = b"", 0.0, asyncio.Lock()

    async def show(_request: web.Request) -> web.Response:
        """GET /metrics: the counters in Prometheus' text format, those of each process."""
        nonlocal told, until
        loop = asyncio.get_running_loop()
        async with telling:
            if loop.time() >= until:
                told = await siblings.metrics() if siblings else generate_latest(registry)
                until = loop.time() + _METRICS_FRESH_SECONDS
        return web.Response(body=told, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return show


def _json(answer: dict[str, Any]) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
