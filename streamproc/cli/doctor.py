"""`streamproc doctor`: checks that this machine has what streamproc needs, and says what to do where it has not."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from streamproc import __version__
from streamproc.core.counted import counted
from streamproc.errors import KafkaRefused, StoreError, StreamprocError, TopicsError
from streamproc.settings import Settings
from streamproc.settings.notify import EMAIL, ESCALATION, WEBHOOK
from streamproc.store.commands import verdict
from streamproc.store.schema import schema
from streamproc.store.sqlserver import driver
from streamproc.topics import admin, spec

#: A broker that does not answer within this is not there for who waits.
ANSWER_S = 10.0
#: What listens on this machine and is ours answers in milliseconds.
PORT_S = 2.0
#: What a day of one sensor in a hundred takes at the least; Kafka and SQLite stop where the disk is full.
DISK_BYTES = 1 << 30
_WEB_PORTS = {"http": 80, "https": 443}


class State(Enum):
    """How a finding stands; one that is WRONG keeps something from working."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do."""

    state: State
    subject: str
    told: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f"\n{'':17}{self.advice}" if self.advice else ""
        return f"{self.state.value:<6}{self.subject:<11}{self.told}{advice}"


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """All findings, each as soon as it is known."""
    yield Finding(
        State.OK, "streamproc", f"{__version__} on Python {platform.python_version()}, {sys.executable}"
    )
    yield packages(settings)
    if settings.store == "sqlserver":
        for finding in odbc(settings.odbc_driver):
            yield finding
    yield await database(settings)
    yield await kafka(settings)
    for name, host, port in ports(settings):
        yield await listening(name, host, port)
    for name, host, port in receivers(settings):
        yield await reachable(name, host, port)
    yield disk(settings.data_dir)


def packages(settings: Settings) -> Finding:
    """Whether all that streamproc is installed with is there, and the extras that these settings ask for."""
    wanted = {
        "": True,
        "sqlserver": settings.store == "sqlserver",
        "embedded": settings.kafka_bootstrap is None,
    }
    try:
        declared = metadata.requires("streamproc") or []
    except metadata.PackageNotFoundError:
        return Finding(
            State.NOTE, "packages", "streamproc is run from its sources: what it needs is not listed"
        )
    missing: dict[str, list[str]] = {}
    for requirement in declared:
        name, extra = split(requirement)
        if wanted.get(extra) and not _installed(name):
            missing.setdefault(extra, []).append(name)
    if not missing:
        extras = ", ".join(extra for extra, asked in wanted.items() if extra and asked)
        return Finding(State.OK, "packages", f"all there{f', with {extras}' if extras else ''}")
    names = ", ".join(name for group in missing.values() for name in group)
    extras = ",".join(extra for extra in missing if extra)
    command = f"pip install 'streamproc[{extras}]'" if extras else "pip install --force-reinstall streamproc"
    # Without a broker of its own, `dev` alone cannot run.
    state = State.NOTE if set(missing) == {"embedded"} else State.WRONG
    return Finding(state, "packages", f"missing: {names}", command)


def split(requirement: str) -> tuple[str, str]:
    """The name of a requirement and the extra that it belongs to.

    >>> split('pyodbc<6,>=5.3; extra == "sqlserver"'), split("aiohttp<4,>=3.14")
    (('pyodbc', 'sqlserver'), ('aiohttp', ''))
    """
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
    extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
    return name, extra[1] if extra else ""


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def odbc(wanted: str | None) -> list[Finding]:
    """Whether pyodbc can be loaded, which driver there is, and whether that can be loaded."""
    try:
        version = driver.pyodbc().version
    except StoreError as error:
        return [Finding(State.WRONG, "odbc", str(error))]
    findings = [Finding(State.OK, "odbc", f"pyodbc {version}")]
    try:
        found = driver.find(wanted)
    except StoreError as error:
        return [*findings, Finding(State.WRONG, "driver", str(error))]
    if reason := driver.unloadable(found):
        return [*findings, Finding(State.WRONG, "driver", reason, f"install what it needs: {driver.SYSTEM}")]
    return [*findings, Finding(State.OK, "driver", f"{found.name} ({found.found})")]


async def database(settings: Settings) -> Finding:
    """Whether the database answers, and has the schema of this program."""
    if settings.store == "sqlite" and not settings.database_path.exists():
        return Finding(State.OK, "database", f"{settings.database_path}: not there yet; the sink makes it")
    try:
        found = schema(settings)
        state = await found.status()
    except StreamprocError as error:
        return Finding(State.WRONG, "database", str(error))
    current = state.fault is None and not state.pending
    return Finding(State.OK if current else State.WRONG, "database", f"{found.place}: {verdict(state)}")


async def kafka(settings: Settings) -> Finding:
    """Whether the broker answers, and has the topics as they are declared."""
    own = settings.kafka_bootstrap is None
    try:
        specs = spec.prefixed(spec.load(None), settings.topic_prefix)
        async with asyncio.timeout(ANSWER_S):
            differences = await admin.check(settings.kafka, specs)
    except (TopicsError, TimeoutError) as error:
        if isinstance(error.__cause__, KafkaRefused):
            return Finding(State.WRONG, "kafka", str(error), "docs/kafka-security.md says what it takes")
        if own:
            return Finding(State.OK, "kafka", "KAFKA_BOOTSTRAP names none: `streamproc dev` starts its own")
        told = str(error) or f"Kafka at {settings.bootstrap}: no answer within {ANSWER_S:g} s"
        return Finding(State.WRONG, "kafka", told, "start it, or set KAFKA_BOOTSTRAP to where it is")
    if differences:
        told = f"{settings.bootstrap}: not as declared: {counted(len(differences), 'topic')}"
        return Finding(
            State.WRONG, "kafka", told, "see `streamproc topics plan`, then `streamproc topics apply`"
        )
    if settings.kafka.security.tells_password:
        told = f"{settings.bootstrap}: KAFKA_SASL_PASSWORD is sent unencrypted"
        return Finding(State.NOTE, "kafka", told, "use SASL_SSL, or a KAFKA_SASL_MECHANISM of SCRAM")
    return Finding(State.OK, "kafka", f"{settings.bootstrap}: as declared: {counted(len(specs), 'topic')}")


def ports(settings: Settings) -> list[tuple[str, str, int]]:
    """The ports that streamproc listens on by these settings, with their variables."""
    all_of_them = [
        ("GATEWAY_PORT", settings.gateway_host, settings.gateway_port),
        ("STREAMPROC_WORKER_PORT", settings.worker_host, settings.worker_port),
        ("STREAMPROC_SINK_PORT", settings.sink_host, settings.sink_port),
        ("STREAMPROC_NOTIFY_PORT", settings.notify_host, settings.notify_port),
        ("CONSOLE_PORT", settings.console_host, settings.console_port),
        ("STREAMPROC_JOBS_PORT", settings.jobs_host, settings.jobs_port),
    ]
    return [(name, host, port) for name, host, port in all_of_them if port]


async def listening(name: str, host: str, port: int) -> Finding:
    """Whether a port is free, or taken by streamproc itself."""
    place = f"{name}: {host}:{port}"
    if _free(host, port):
        return Finding(State.OK, "port", f"{place} is free")
    if await _is_ours(host, port):
        return Finding(State.OK, "port", f"{place} is in use by a streamproc that runs")
    return Finding(State.WRONG, "port", f"{place} is in use by another program", f"set {name} to another")


def receivers(settings: Settings) -> list[tuple[str, str, int]]:
    """Who takes notifications by these settings, with the variable: where a connection is made, and nothing else of a URL."""
    urls = {
        WEBHOOK: ("STREAMPROC_NOTIFY_WEBHOOK_URL", settings.notify_webhook_urls),
        ESCALATION + WEBHOOK: (
            "STREAMPROC_NOTIFY_ESCALATION_WEBHOOK_URL",
            settings.notify_escalation_webhook_urls,
        ),
    }
    found = []
    for kind, (name, its) in urls.items():
        if kind in settings.notify_kinds:
            parts = map(urlsplit, its)
            found += [(name, part.hostname or "", part.port or _WEB_PORTS[part.scheme]) for part in parts]
    if {EMAIL, ESCALATION + EMAIL} & set(settings.notify_kinds) and settings.smtp_host:
        found.append(("STREAMPROC_SMTP_HOST", settings.smtp_host, settings.smtp_port))
    return found


async def reachable(name: str, host: str, port: int) -> Finding:
    """Whether somebody listens where notifications go; nothing is sent."""
    place = f"{name}: {host}:{port}"
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or f"no answer within {ANSWER_S:g} s"
        return Finding(State.WRONG, "notify", f"{place} cannot be reached: {reason}", f"see {name}")
    writer.close()
    return Finding(State.OK, "notify", f"{place} is there")


def _free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


async def _is_ours(host: str, port: int) -> bool:
    address = f"[{host}]" if ":" in host else host
    limit = aiohttp.ClientTimeout(total=PORT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.get(f"http://{address}:{port}/metrics") as answer,
        ):
            return "streamproc_" in await answer.text()
    except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
        return False


def disk(folder: Path) -> Finding:
    """Whether the data directory, or where it will be made, can be written to and has room."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return Finding(
            State.WRONG, "disk", f"{place} cannot be written to", "set STREAMPROC_DATA_DIR to another"
        )
    free = shutil.disk_usage(place).free
    told = f"{free / 1e9:.1f} GB free for {folder}"
    if free < DISK_BYTES:
        return Finding(State.WRONG, "disk", told, "make room, or set STREAMPROC_DATA_DIR to another disk")
    return Finding(State.OK, "disk", told)
