"""The gateway's processes: one, or several on one port (SO_REUSEPORT), kept running by a parent that serves nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from streamproc.errors import GatewayError
from streamproc.gateway.app import serve
from streamproc.gateway.siblings import Member
from streamproc.process import REFUSED, tune_collector, unheard

if TYPE_CHECKING:
    from streamproc.settings import Settings

log = structlog.get_logger()

#: A worker that ends is started again after such a pause, the last for ever.
_PAUSES_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
#: One that has run for so long was well: its next end counts as its first.
_STEADY_SECONDS = 20.0
#: A worker ends within 3 s by itself; what is longer is ended by force, so that the parent keeps a container's 10 s.
_STOP_SECONDS = 5.0


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the gateway until `stop` is set, in this process or in `gateway_workers` of them.

    Raises GatewayError where the address cannot be listened on, or a worker cannot start for its settings.
    """
    if settings.gateway_workers == 1:
        _spare_collections()
        await serve(settings, stop)
        return
    with tempfile.TemporaryDirectory(prefix="streamproc-gateway-") as directory, _reserve(settings) as held:
        port = held.getsockname()[1]
        log.info("gateway_workers", workers=settings.gateway_workers, host=settings.gateway_host, port=port)
        members = [
            Member(number, settings.gateway_workers, Path(directory))
            for number in range(1, settings.gateway_workers + 1)
        ]
        tasks = [asyncio.create_task(_Worker(member, port, stop).keep()) for member in members]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def run_member(settings: Settings, stop: asyncio.Event, member: Member) -> None:
    """Be one of several processes until `stop` is set or the parent, at the other end of standard input, is gone."""
    structlog.contextvars.bind_contextvars(worker=member.number)
    asyncio.get_running_loop().add_reader(0, _until_gone, stop)
    _spare_collections()
    await serve(settings, stop, member=member)


def _until_gone(stop: asyncio.Event) -> None:
    if not os.read(0, 1):
        asyncio.get_running_loop().remove_reader(0)
        stop.set()


def _spare_collections() -> None:
    """Look for cycles less often, and never in what a start leaves, of which what is garbage goes first."""
    gc.collect()
    tune_collector()


def _reserve(settings: Settings) -> socket.socket:
    """Take the port for all workers; nobody else's must be on it, as connections would be dealt to both."""
    host, port = settings.gateway_host, settings.gateway_port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with _bound(family, address, socket.SO_REUSEADDR) as alone:
            address = alone.getsockname()
        return _bound(family, address, socket.SO_REUSEADDR, socket.SO_REUSEPORT)
    except OSError as error:
        raise GatewayError(unheard("GATEWAY_PORT", host, port, error)) from error


def _bound(family: int, address: Any, *options: int) -> socket.socket:
    bound = socket.socket(family)
    try:
        for option in options:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as asyncio does
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


class _Worker:
    """One of the processes, kept running."""

    def __init__(self, member: Member, port: int, stop: asyncio.Event) -> None:
        self._member, self._port, self._stop = member, port, stop

    async def keep(self) -> None:
        """Run it, again where it ends, until `stop` is set; raises GatewayError where that would not help."""
        stopping = asyncio.create_task(self._stop.wait())
        clock = asyncio.get_running_loop().time
        ends = 0
        try:
            while not self._stop.is_set():
                born = clock()
                code = await self._run(stopping)
                if self._stop.is_set():
                    return
                if code == REFUSED:
                    raise GatewayError(f"worker {self._member.number} refused to start; it has said why")
                ends = 1 if clock() - born >= _STEADY_SECONDS else ends + 1
                pause = _PAUSES_SECONDS[min(ends, len(_PAUSES_SECONDS)) - 1]
                log.error("gateway_worker_ended", worker=self._member.number, code=code, again_in_s=pause)
                await asyncio.wait([stopping], timeout=pause)
        finally:
            stopping.cancel()

    async def _run(self, stopping: asyncio.Task[bool]) -> int:
        """Start it and give its exit code; ends it where `stopping` is done."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamproc", "gateway", "--workers", str(self._member.count)),
            *("--worker", str(self._member.number), "--port", str(self._port)),
            *("--directory", str(self._member.directory)),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        ended = asyncio.create_task(process.wait())
        try:
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await asyncio.wait([ended], timeout=_STOP_SECONDS)
            if process.returncode is None:
                process.kill()
        return await ended
