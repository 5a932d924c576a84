"""The parts of one machine's streamproc and how each is started."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from streamproc import topics
from streamproc.dev.place import reachable
from streamproc.dev.process import Process
from streamproc.dev.readiness import answers, consuming, until
from streamproc.dev.simulator import gateway_url
from streamproc.dev.supervisor import Child, Running, Supervisor
from streamproc.kafka import clients
from streamproc.kafka.broker import Broker, Installation, install
from streamproc.settings import Settings
from streamproc.settings.connection import Connection

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stack:
    """Starts the parts under `supervisor`, broker first; it is stopped last."""

    settings: Settings
    supervisor: Supervisor
    progress: Progress

    async def broker(self) -> Connection:
        """Start the embedded broker unless the settings name another one; gives how it is reached."""
        if self.settings.kafka_bootstrap:
            return self.settings.kafka
        installation = await install(self.progress)
        self.progress("Kafka is starting")
        data_dir = self.settings.data_dir.absolute() / "kafka"
        start = partial(_start_broker, installation, data_dir, self.settings.kafka_port)
        await self.supervisor.add(Child("kafka", start, data_dir / "broker.log", base=True))
        return self.settings.kafka

    async def topics(self, kafka: Connection) -> None:
        """Create or change the topics that topics.yaml declares; raises TopicsError."""
        self.progress("topics are being compared with topics.yaml")
        specs = topics.prefixed(topics.load(), self.settings.topic_prefix)
        await topics.apply(kafka, await topics.plan(kafka, specs))

    async def stages(self, kafka: Connection) -> None:
        """Start all stages; returns once sink, worker and gateway work and the console answers. Nobody waits for jobs."""
        self.progress("sink, worker, gateway, console and notify are starting")
        for name in ("sink", "worker", "gateway", "console", "notify"):
            await self.command(name, (name,), kafka)
        async with aiohttp.ClientSession() as session:
            await until(partial(answers, session, f"{gateway_url(self.settings)}/ready"))
            await until(partial(answers, session, f"{console_url(self.settings)}health"))
        admin = clients.admin(kafka)
        await admin.start()
        try:
            for stage in ("worker", "sink"):
                self.progress(f"{stage} waits for its partitions")
                await until(partial(consuming, admin, self.settings.group(stage)))
        finally:
            await admin.close()
        await self.command("jobs", ("jobs",), kafka)

    async def command(self, name: str, arguments: tuple[str, ...], kafka: Connection) -> None:
        """Keep `streamproc ARGUMENTS` running as child `name`."""
        command = (sys.executable, "-m", "streamproc", *arguments)
        log = self.settings.data_dir / "logs" / f"{name}.log"
        start = partial(_start_command, command, environment(self.settings, kafka, name), log)
        await self.supervisor.add(Child(name, start, log))


def console_url(settings: Settings) -> str:
    """Where the console's page is, from this machine."""
    return f"http://{reachable(settings.console_host)}:{settings.console_port}/"


async def _start_broker(installation: Installation, data_dir: Path, port: int) -> Running:
    return await Broker.start(installation, data_dir, port)


async def _start_command(command: tuple[str, ...], variables: dict[str, str], log: Path) -> Running:
    return await Process.start(command, variables, log)


def environment(settings: Settings, kafka: Connection, name: str) -> dict[str, str]:
    """The environment of child `name`: this process's own, and what `dev` has decided.

    The gateway wants no device's key and speaks no TLS. Static membership, so that a stage that is restarted gets its
    partitions back without a rebalance.
    """
    instance = settings.group_instance_id or "dev"
    return (
        os.environ
        | kafka.variables()
        | {
            "GATEWAY_HOST": settings.gateway_host,
            "GATEWAY_PORT": str(settings.gateway_port),
            "CONSOLE_HOST": settings.console_host,
            "CONSOLE_PORT": str(settings.console_port),
            "STREAMPROC_DATA_DIR": str(settings.data_dir.absolute()),
            "STREAMPROC_DATABASE": str(settings.database_path.absolute()),
            "GATEWAY_TLS_CERTIFICATE": "",
            "GATEWAY_TLS_KEY": "",
            "GATEWAY_TLS_CLIENT_CA": "",
            "STREAMPROC_DEVICE_KEYS": "off",
            "STREAMPROC_AUTO_REGISTER": "true",
            "STREAMPROC_GROUP_INSTANCE_ID": f"{instance}-{name}",
            "PYTHONUNBUFFERED": "1",
        }
    )
