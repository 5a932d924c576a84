"""`GET /sensors/{id}/status`: how a sensor stands, from the database. Few requests at once, each within a time bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import msgspec
import structlog
from aiohttp import web

from streamproc.core.attention.silences import Silences
from streamproc.errors import StoreError
from streamproc.gateway.problems import Problem, of_fault, unavailable
from streamproc.process import epoch_ms
from streamproc.registry.attended import Attended, attended
from streamproc.registry.silences import silences
from streamproc.store.sensor_status import ToldStatus

if TYPE_CHECKING:
    from streamproc.gateway.access import Access, Writer
    from streamproc.store.protocol import Store

#: Six rows are found by indexes within milliseconds; a first login takes half a second. Who waits longer has better things
#: to do.
_SECONDS = 5.0
#: A dashboard asks for some sensors at once; who comes when so many wait is told so.
WAITING = 64
#: Of these the database is asked so many at once: it has other work to do.
_AT_ONCE = 4
#: As long as a sensor's name may be.
_NAME_LIMIT = 128
_RETRY_SECONDS = 5
#: A site may have thousands of silences: they are read no oftener, and an edit is in force within a second everywhere.
_FRESH_SECONDS = 1.0

Opened = Callable[[], AbstractAsyncContextManager["Store"]]

log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode


class Status(ToldStatus, frozen=True, kw_only=True):
    """How a sensor stands; times in UTC.

    `severity` is NORMAL until something was told of the sensor, and `since` is then null; `event` is the last change of
    it. `attention` says who looks after its alarm, and what keeps people from being told. `windows` has the newest closed
    window of each size that there is one of. A value outside `warning` or `critical` raises the severity; `rules` are what it
    is judged by besides.
    """

    attention: Attended


class Sensors:
    """Answers how sensors stand, to whom `access` admits; `opened` gives the database for one call, or raises StoreError."""

    def __init__(self, access: Access, opened: Opened, wait_s: float = _SECONDS) -> None:
        self._access, self._opened, self._wait_s = access, opened, wait_s
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._silences, self._silences_at = Silences(), float("-inf")

    async def status(self, request: web.Request) -> web.Response:
        """GET /sensors/{id}/status: `id` is a sensor_uuid or a sensor_id."""
        writer = self._access.admit(request)
        name = request.match_info["id"].lower()
        _check_owner(writer, name)
        status = await self._find(name, writer) if len(name) <= _NAME_LIMIT else None
        if status is None:
            raise Problem("unknown-sensor", "no sensor of this sensor_uuid or sensor_id is registered")
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=_encode(status), content_type="application/json", headers=headers)

    async def _find(self, name: str, writer: Writer) -> Status | None:
        if self._waiting >= WAITING:
            detail = f"{WAITING} requests are waiting for the database"
            raise unavailable("busy", detail, limit="status_requests", allowed=WAITING)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s), self._places, self._opened() as store:
                found = await store.status(name)
                if found is None:
                    return None
                if found.entry.sensor != name:
                    _check_owner(writer, found.entry.sensor)
                now = epoch_ms()
                attention = await attended(store, found, await self._in_force(store), now)
                return Status.of(found, attention=attention)
        except TimeoutError:
            raise _away(f"the database did not answer within {self._wait_s:g} s") from None
        except StoreError as error:
            log.warning("database_unavailable", reason=str(error))
            raise _away("the database cannot be asked; the gateway's log has the reason") from None
        finally:
            self._waiting -= 1

    async def _in_force(self, store: Store) -> Silences:
        """The silences of the registry, as of a moment ago."""
        now = asyncio.get_running_loop().time()
        if now - self._silences_at > _FRESH_SECONDS:
            self._silences, self._silences_at = Silences(silences(await store.documents())), now
        return self._silences


def _check_owner(writer: Writer, sensor: str) -> None:
    """Raise the Problem of who may not write the sensor: a device sees its own ones."""
    if writer.refuses is not None and (fault := writer.refuses(None, sensor)):
        raise of_fault(fault)


def _away(detail: str) -> Problem:
    return unavailable("database-unavailable", detail, _RETRY_SECONDS)
