"""Several gateway processes on one port report as one: whichever is asked asks the others, each over a Unix socket.

Otherwise a scrape or a health check would see one of them by chance. Each process's samples carry its number in the label
`worker` and are not summed: a process that was restarted begins at 0 again, and only its own series may show that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector, web
from prometheus_client import generate_latest
from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamproc.monitor import Check

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

#: Beyond the 2 s that Kafka is asked for, within the 3 s that who asks /ready waits.
_ANSWER_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class Member:
    """One of `count` processes, the `number`th from 1 on; `directory` has their socket files."""

    number: int
    count: int
    directory: Path

    def socket(self, number: int) -> str:
        """The socket file of a process."""
        return str(self.directory / f"{number}.sock")


#: What a process knows of itself: the checks of its /ready.
Standing = Callable[[], Awaitable[list[Check]]]


class Family(msgspec.Struct):
    """A metric with all its samples: name, labels and value of each."""

    name: str
    documentation: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


class Siblings:
    """All processes of the port, as one of them sees them."""

    def __init__(self, member: Member, standing: Standing, registry: CollectorRegistry) -> None:
        self._member = member
        self._own = standing
        self._registry = registry

    @property
    def socket(self) -> str:
        """Where the others ask this process."""
        return self._member.socket(self._member.number)

    def application(self) -> web.Application:
        """What this process answers to the others."""
        app = web.Application()
        app.router.add_get("/standing", self._standing)
        app.router.add_get("/families", self._families)
        return app

    async def _standing(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(await self._own()))

    async def _families(self, _request: web.Request) -> web.Response:
        families = [
            Family(metric.name, metric.documentation, metric.type, list(map(_plain, metric.samples)))
            for metric in self._registry.collect()
        ]
        return web.Response(body=msgspec.json.encode(families))

    async def checks(self) -> list[Check]:
        """The checks of all processes as one has them: each is passed where all pass it; and whether all answer."""
        answers = await self._ask("/standing")
        told = {
            number: msgspec.json.decode(answer, type=list[Check])
            for number, answer in enumerate(answers, 1)
            if answer is not None
        }
        here = Check("workers", len(told) == len(answers), f"{len(told)} of {len(answers)} answer")
        return [here, *_united(told)]

    async def metrics(self) -> bytes:
        """The metrics of all processes in Prometheus' text format."""
        joined = CollectorRegistry()
        joined.register(Joined(await self._ask("/families")))
        return generate_latest(joined)

    async def _ask(self, path: str) -> Sequence[bytes | None]:
        return await asyncio.gather(
            *(self._ask_one(number, path) for number in range(1, self._member.count + 1))
        )

    async def _ask_one(self, number: int, path: str) -> bytes | None:
        connector = UnixConnector(self._member.socket(number))
        try:
            async with (
                ClientSession(connector=connector, timeout=ClientTimeout(_ANSWER_SECONDS)) as client,
                client.get(f"http://sibling{path}") as response,
            ):
                return await response.read()
        except (ClientError, TimeoutError, OSError):
            return None


def _united(told: dict[int, list[Check]]) -> Iterator[Check]:
    """Each check once, with the detail of those that fail it, or of the first."""
    names = dict.fromkeys(check.name for checks in told.values() for check in checks)
    for name in names:
        of_all = [
            (number, check) for number, checks in told.items() for check in checks if check.name == name
        ]
        failing = [f"worker {number}: {check.detail}" for number, check in of_all if not check.ok]
        yield Check(name, not failing, "; ".join(failing) or of_all[0][1].detail)


def _plain(sample: Sample) -> tuple[str, dict[str, str], float]:
    return sample.name, dict(sample.labels), sample.value


class Joined(Collector):
    """The families that the processes told, those of one name as one; None of a process that did not answer."""

    def __init__(self, told: Sequence[bytes | None]) -> None:
        self._told = told

    def collect(self) -> Iterable[Metric]:
        """All families, each sample with its process's number."""
        up = GaugeMetricFamily(
            "streamproc_gateway_worker_up", "Whether the process answers.", labels=["worker"]
        )
        joined: dict[str, Metric] = {}
        for number, answer in enumerate(self._told, 1):
            up.add_metric([str(number)], float(answer is not None))
            for family in msgspec.json.decode(answer, type=list[Family]) if answer else ():
                metric = joined.setdefault(
                    family.name, Metric(family.name, family.documentation, family.kind)
                )
                for name, labels, value in family.samples:
                    metric.add_sample(name, labels | {"worker": str(number)}, value)
        yield up
        yield from joined.values()
