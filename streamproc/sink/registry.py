"""Each sink follows the topic `registry`; the one with the first partition of `readings` also keeps it up to the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import structlog
from aiokafka.errors import KafkaError

from streamproc.errors import KafkaUnavailable, StreamprocError
from streamproc.registry.mending import Mender
from streamproc.registry.service import Send
from streamproc.registry.view import Registry
from streamproc.settings import Settings
from streamproc.sink import metrics
from streamproc.store.protocol import Store

#: The first comparison is so soon after the partition has come, as a part of the time between two: a sink that is often
#: started anew compares all the same.
_FIRST = 0.1

_log = structlog.get_logger(__name__)


class Following:
    """The sink's one view of the topic: for the owners of sensors, and for comparisons with the database."""

    def __init__(self, settings: Settings) -> None:
        self.view = Registry(settings.kafka, settings.topic("registry"))
        self._wait_s = settings.watchdog_seconds
        self._starting = asyncio.Lock()
        self._started = False

    async def started(self) -> Registry:
        """The view, once everything is read that is there; raises KafkaUnavailable if that takes too long."""
        async with self._starting:
            if not self._started:
                try:
                    async with asyncio.timeout(self._wait_s):
                        await self.view.start()
                except TimeoutError:
                    raise KafkaUnavailable(
                        f"the topic `registry` was not read within {self._wait_s:.0f} s: see that it is there (`streamproc "
                        "topics apply` makes it), and that this user of Kafka may read it"
                    ) from None
                self._started = True
        return self.view

    async def stop(self) -> None:
        """Stop following the topic."""
        await self.view.stop()


class RegistryKeeper:
    """Compares the database with the topic every SENSOR_MAP_TTL_SECONDS, while it is this sink's `turn`."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        sender: Callable[[], Awaitable[Send]],
        turn: Callable[[], bool],
        followed: Callable[[], Awaitable[Registry]],
    ) -> None:
        self._store, self._sender, self._turn, self._followed = store, sender, turn, followed
        self._ttl_s = settings.sensor_map_ttl_seconds
        self._due_at: float | None = None

    async def look(self) -> None:
        """Compare if it is time to. Call it again and again; failures are logged, and retried when it is time again."""
        if not self._turn():
            self._due_at = None
            return
        now = monotonic()
        if self._due_at is None:
            self._due_at = now + self._ttl_s * _FIRST
        if now < self._due_at:
            return
        self._due_at = now + self._ttl_s
        try:
            await self._compare()
        except (StreamprocError, KafkaError, OSError) as error:
            metrics.REGISTRY_FAILURES.inc()
            _log.warning(
                "registry not compared with the topic: tried again", reason=str(error) or repr(error)
            )

    async def _compare(self) -> None:
        mended = await Mender(self._store, await self._sender(), await self._followed()).mend()
        metrics.REGISTRY_COMPARISONS.inc()
        metrics.REGISTRY_SENT.inc(mended.sent)
        metrics.REGISTRY_REFUSED.set(mended.refused)
        metrics.REGISTRY_STRAYS.set(mended.strays)
