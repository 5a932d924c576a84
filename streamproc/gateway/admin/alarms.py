"""The admin API's routes of alarms: sensors that are not NORMAL, and who looks after them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from aiohttp import web

from streamproc.gateway.admin.answers import (
    LONGEST_PAGE,
    check,
    entry_answer,
    json_answer,
    name_of,
    number_of,
)
from streamproc.gateway.admin.desk import Answer, Desk, converted
from streamproc.gateway.problems import Problem
from streamproc.process import epoch_ms
from streamproc.registry.alarms import alarms
from streamproc.registry.document_checks import document_faults
from streamproc.registry.handling import handled, sensor_named
from streamproc.registry.silences import of_all_that_has
from streamproc.store.documents import RemoveDocument

#: What narrows a list down.
FILTERS = ("device", "kind", "site", "tenant")


class Acknowledgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """That somebody looks after an alarm: `by` is who, if not the admin's address."""

    note: str | None = None
    by: str | None = None


class Snooze(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """That people are told nothing of a sensor for some `seconds`, or `until` a time in ms."""

    seconds: int | None = None
    until: int | None = None
    note: str | None = None
    by: str | None = None


class Alarms:
    """Alarms as the database has them; what is said of them is a document of the registry."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> Iterator[tuple[str, str, Answer]]:
        """Method, path and answer of each."""
        yield "GET", "/admin/alarms", self.list
        yield "POST", "/admin/alarms/{name}/acknowledge", self.acknowledge
        yield "POST", "/admin/alarms/{name}/snooze", self.snooze
        yield "DELETE", "/admin/alarms/{name}/handling", self.unhandle

    async def list(self, request: web.Request) -> web.Response:
        """GET /admin/alarms: the gravest and oldest first; `count` is how many there are.

        `device`, `kind`, `site` and `tenant` narrow them down.
        """
        fields = {field: request.query[field] for field in FILTERS if field in request.query}
        limit = number_of(request, "limit", LONGEST_PAGE, LONGEST_PAGE)
        async with self._desk.services.store() as store:
            found = await alarms(store, epoch_ms(), of_all_that_has(**fields))
        return json_answer({"alarms": found[:limit], "count": len(found)})

    async def acknowledge(self, request: web.Request) -> web.Response:
        """POST /admin/alarms/{sensor or event}/acknowledge: somebody looks after it."""
        said: Acknowledgement = converted(await self._desk.read(request), Acknowledgement)
        return await self._handle(request, said.by, said.note, None)

    async def snooze(self, request: web.Request) -> web.Response:
        """POST /admin/alarms/{sensor or event}/snooze: nothing is told for a while."""
        said: Snooze = converted(await self._desk.read(request), Snooze)
        now = epoch_ms()
        if (said.seconds is None) == (said.until is None):
            raise Problem("entry-invalid", "give either seconds or until, in ms since 1970")
        until = said.until if said.until is not None else now + (said.seconds or 0) * 1_000
        if until <= now:
            raise Problem("entry-invalid", "it would be over already")
        return await self._handle(request, said.by, said.note, until)

    async def _handle(
        self, request: web.Request, by: str | None, note: str | None, until: int | None
    ) -> web.Response:
        async with self._desk.services.store() as store:
            edit = await handled(
                store, name_of(request), by or self._desk.actor(request), epoch_ms(), note=note, until=until
            )
        check(list(document_faults(edit.entry)))
        made = (await self._desk.edit(request, edit))[-1].entry
        assert made is not None
        return entry_answer(made)

    async def unhandle(self, request: web.Request) -> web.Response:
        """DELETE /admin/alarms/{sensor or event}/handling: neither acknowledged nor snoozed any more."""
        async with self._desk.services.store() as store:
            sensor = await sensor_named(store, name_of(request))
        await self._desk.edit(request, RemoveDocument("handling", sensor))
        return web.Response(status=204)
