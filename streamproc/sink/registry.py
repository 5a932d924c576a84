"""The sink that has the first partition of `readings` has the topic `registry` follow the database; the others do not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic

import structlog
from aiokafka.errors import KafkaError

from streamproc.errors import StreamprocError
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


class RegistryKeeper:
    """Compares the database with the topic every SENSOR_MAP_TTL_SECONDS, while it is this sink's `turn`."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        sender: Callable[[], Awaitable[Send]],
        turn: Callable[[], bool],
    ) -> None:
        self._store, self._sender, self._turn = store, sender, turn
        self._kafka, self._topic = settings.kafka, settings.topic("registry")
        self._ttl_s = settings.sensor_map_ttl_seconds
        self._due_at: float | None = None
        self._view: Registry | None = None

    async def look(self) -> None:
        """Compare if it is time to. To be called again and again; what fails is told, and tried again in its time."""
        if not self._turn():
            self._due_at = None
            await self.stop()
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
        if self._view is None:
            self._view = await Registry(self._kafka, self._topic).start()
        mended = await Mender(self._store, await self._sender(), self._view).mend()
        metrics.REGISTRY_COMPARISONS.inc()
        metrics.REGISTRY_SENT.inc(mended.sent)
        metrics.REGISTRY_REFUSED.set(mended.refused)
        metrics.REGISTRY_STRAYS.set(mended.strays)

    async def stop(self) -> None:
        """Follow the topic no more."""
        if self._view is not None:
            view, self._view = self._view, None
            await view.stop()
