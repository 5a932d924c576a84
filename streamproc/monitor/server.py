"""The HTTP endpoint of stages that have no other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from streamproc import __version__
from streamproc.errors import SettingsError
from streamproc.monitor.checks import Check, report
from streamproc.process import unheard

#: A scrape that is under way as the process stops is given this long, twice; the whole stop has 5 s.
SHUTDOWN_S = 0.1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a stage listens; with port 0, nowhere. `setting` is the variable that sets the port."""

    host: str
    port: int
    setting: str


@dataclass(frozen=True, slots=True)
class Told:
    """What a stage reports: its name, its checks and its gauges. They are called in the event loop, at each request."""

    stage: str
    checks: Callable[[], Sequence[Check]]
    gauges: Callable[[], Iterable[Metric]]


class _Live(Collector):
    """Metrics that are made when they are asked for: a partition that has gone leaves none behind."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def describe(self) -> list[Metric]:
        """Nothing, so that being registered asks for nothing."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The gauges of this moment."""
        yield build_info(self._told.stage)
        checks = GaugeMetricFamily(
            "streamproc_check", "Whether a check of /ready is passed.", labels=["check"]
        )
        for check in self._told.checks():
            checks.add_metric([check.name], float(check.ok))
        yield checks
        yield from self._told.gauges()


def build_info(stage: str) -> Metric:
    """The version of streamproc that runs, and which stage of it."""
    return InfoMetricFamily(
        "streamproc_build", "What runs here.", value={"version": __version__, "stage": stage}
    )


@asynccontextmanager
async def serving(address: Address, told: Told) -> AsyncIterator[None]:
    """Answer `/metrics`, `/health` and `/ready` on this address; raises SettingsError if it cannot listen there."""
    if not address.port:
        yield
        return
    app = web.Application()
    app.add_routes(routes(told))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    with collected(told):
        await runner.setup()
        try:
            await _listen(runner, address, told.stage)
            yield
        finally:
            await runner.cleanup()


@contextmanager
def collected(told: Told) -> Iterator[None]:
    """Include what is told in the process's metrics until the block ends."""
    live = _Live(told)
    REGISTRY.register(live)
    try:
        yield
    finally:
        REGISTRY.unregister(live)


def routes(told: Told) -> list[web.RouteDef]:
    """`/metrics`, `/health` and `/ready`, for a stage that has an application of its own."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(_: web.Request) -> web.Response:
        """Alive: the event loop answers. What is stuck behind it, the stage's own watchdog ends."""
        return web.json_response({"status": "alive"})

    async def ready(_: web.Request) -> web.Response:
        checks = told.checks()
        return web.json_response(report(checks), status=200 if all(check.ok for check in checks) else 503)

    return [web.get("/metrics", metrics), web.get("/health", health), web.get("/ready", ready)]


async def _listen(runner: web.AppRunner, address: Address, stage: str) -> None:
    host, port = address.host, address.port
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise SettingsError(unheard(address.setting, host, port, error)) from error
    _log.info(f"{stage} listens", url=f"http://{host}:{port}")
