"""The registry as the gateway knows it: followed on its topic, so that nothing of a reading asks the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamproc.gateway.access.keys import Keys
from streamproc.gateway.access.sensors import Sensors
from streamproc.monitor import Check
from streamproc.records import DeviceEntry
from streamproc.registry import Registry
from streamproc.settings import Settings

#: The view is checked every 2 s, and a broker has 5 s to answer: three checks have failed when it is as old as this.
OLD_SECONDS = 20.0


class Known:
    """What the registry says, as far as writing goes; `read` tells whether it was ever read whole."""

    def __init__(self) -> None:
        self.keys = Keys()
        self.sensors = Sensors()
        self.devices: set[str] = set()
        self.read = False

    def put_device(self, name: str, entry: DeviceEntry | None) -> None:
        """Take a device as it is now; None where it is gone."""
        if entry is None:
            self.devices.discard(name.lower())
        else:
            self.devices.add(name.lower())
        self.keys.put(name, entry)
        self.sensors.put_device(name, entry)


class Following(Collector):
    """Follows the topic into `known`, and tells how well it does."""

    def __init__(self, settings: Settings) -> None:
        self.known = Known()
        self._needed = settings.device_keys == "required" or not settings.auto_register
        self._registry = Registry(
            settings.kafka, settings.topic("registry"), self.known.sensors.put, self.known.put_device
        )
        self._starting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow; who asks before it was read is told by `known.read`."""
        self._starting = asyncio.create_task(self._start(), name="registry-start")

    async def _start(self) -> None:
        await self._registry.start()
        self.known.read = True

    async def wait(self, patience_seconds: float) -> None:
        """Wait until it was read, where that is needed, for so long at most."""
        if self._starting is not None and self._needed:
            await asyncio.wait([self._starting], timeout=patience_seconds)

    async def stop(self) -> None:
        """Follow no more."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        await self._registry.stop()

    def checks(self) -> list[Check]:
        """Whether readings can be checked; none where nothing needs to be."""
        if not self._needed:
            return []
        if not self.known.read:
            return [Check("registry", False, "it was not read yet")]
        age = self._registry.age_seconds()
        return [Check("registry", age < OLD_SECONDS, f"up to date {age:.1f} s ago")]

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that being registered asks for nothing."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The gauges of this moment."""
        known = self.known
        yield GaugeMetricFamily(
            "streamproc_gateway_registry_read",
            "Whether the registry was read since the start.",
            float(known.read),
        )
        yield GaugeMetricFamily(
            "streamproc_gateway_registry_age_seconds",
            "How long ago it was last known that no newer entry is on the registry's topic.",
            self._registry.age_seconds(),
        )
        entries = GaugeMetricFamily(
            "streamproc_gateway_registry_entries", "What the registry has, by kind.", labels=["kind"]
        )
        for kind, count in (
            ("sensors", len(known.sensors)),
            ("devices", len(known.devices)),
            ("keys", len(known.keys)),
        ):
            entries.add_metric([kind], count)
        yield entries
