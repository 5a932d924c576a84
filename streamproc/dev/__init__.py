"""Everything on one machine: a real broker, the stages as child processes, and a simulator."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from streamproc.dev.changes import Changes
from streamproc.dev.place import claim_port, hold
from streamproc.dev.process import set_aside
from streamproc.dev.screen import Screen
from streamproc.dev.simulator import gateway_url
from streamproc.dev.stack import Stack, console_url
from streamproc.dev.supervisor import Supervisor
from streamproc.errors import SettingsError
from streamproc.settings import Settings
from streamproc.settings.connection import Connection
from streamproc.store import connect

#: All of it is gone within 5 s of Ctrl-C; the rest is for this process's own end.
STOP_S = 4.4


@dataclass(frozen=True, slots=True)
class Options:
    """Whether `dev` plays the simulator, and how many times as fast as measured its real series runs."""

    simulate: bool = True
    speed: float = 3_600.0


async def run(settings: Settings, options: Options, console: Console) -> None:
    """Set up, start and watch everything until SIGINT or SIGTERM; a second one kills.

    Raises SettingsError where the data directory or a port is taken, StoreError where its database cannot be used,
    BrokerError or TopicsError where set-up fails.
    """
    screen = Screen(console, settings.data_dir)
    supervisor = Supervisor(screen.notice)
    with hold(settings.data_dir):
        log_file(settings).parent.mkdir(exist_ok=True)
        set_aside(log_file(settings))
        settings = _claim_ports(settings)
        await _try_database(settings)
        work = asyncio.create_task(_work(Stack(settings, supervisor, screen.step), options, screen))
        with _signals(work, supervisor, screen) as asked:
            try:
                await asyncio.wait({work})
            finally:
                screen.settle()
                await supervisor.stop(STOP_S)
        if asked.is_set() and not screen.is_ready:
            _leave_at_once()
        if not (asked.is_set() and work.cancelled()):
            work.result()


def _leave_at_once() -> None:
    """End without waiting for threads: Kafka's download may be in some, and nothing ends a thread."""
    sys.stdout.flush()
    os._exit(0)


def log_file(settings: Settings) -> Path:
    """Where `dev` logs what is of no interest on the screen."""
    return settings.data_dir / "logs" / "dev.log"


async def _try_database(settings: Settings) -> None:
    """Refuse a file of a newer version, or one that is no database: the sink would end with it again and again."""
    if settings.store == "sqlite":
        store = connect(settings, process="dev")
        try:
            await store.open()
        finally:
            await store.close()


def _claim_ports(settings: Settings) -> Settings:
    wanted = {
        "GATEWAY_PORT": (settings.gateway_host, settings.gateway_port),
        "CONSOLE_PORT": (settings.console_host, settings.console_port),
    }
    if settings.kafka_bootstrap is None:
        wanted["KAFKA_PORT"] = ("127.0.0.1", settings.kafka_port)
    taken: dict[tuple[str, int], str] = {}
    for setting, (host, port) in wanted.items():
        place = host, claim_port(host, port, setting)
        if place in taken:
            raise SettingsError(f"{setting}: {place[1]} is that of {taken[place]}; set {setting} to another")
        taken[place] = setting
    ports = {setting.lower(): port for (_, port), setting in taken.items() if setting != "KAFKA_PORT"}
    return settings.model_copy(update=ports)


@contextmanager
def _signals(work: asyncio.Task[None], supervisor: Supervisor, screen: Screen) -> Iterator[asyncio.Event]:
    """Have the first SIGINT or SIGTERM end `work` and the next one kill; the event tells whether one came."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def on_signal() -> None:
        if asked.is_set():
            supervisor.kill()
            return
        asked.set()
        screen.settle()
        screen.line("stopping; once more to kill")
        work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield asked
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _work(stack: Stack, options: Options, screen: Screen) -> None:
    kafka = await stack.broker()
    await stack.topics(kafka)
    changes = Changes(kafka, stack.settings.topic("events"))
    await changes.start()
    try:
        await stack.stages(kafka)
        if options.simulate:
            await stack.command("simulator", ("simulate", "--speed", f"{options.speed:g}"), kafka)
        screen.ready(_addresses(stack, kafka))
        await changes.follow(screen.event)
    finally:
        await changes.stop()


def _addresses(stack: Stack, kafka: Connection) -> str:
    gateway, console = gateway_url(stack.settings), console_url(stack.settings)
    return f"console {console}  gateway {gateway}  kafka {kafka}  database {stack.settings.database_place}"
