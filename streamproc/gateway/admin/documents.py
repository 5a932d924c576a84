"""The admin API's routes of policies, silences and trials: how people are told of sensors."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any, get_args

from aiohttp import web

from streamproc.gateway.admin.answers import (
    by_fields,
    check,
    entry_answer,
    expected,
    made_answer,
    name_of,
    page,
)
from streamproc.gateway.admin.desk import Answer, Desk, converted
from streamproc.gateway.problems import Problem
from streamproc.process import epoch_ms
from streamproc.records.alerting import SilenceEntry
from streamproc.registry.document_checks import document_faults, normal
from streamproc.registry.silences import ID_BYTES, State, state
from streamproc.store.documents import FORMS, DocumentKind, PutDocument, RemoveDocument, name_field
from streamproc.store.edits import Entry, documents, kind_of

#: What each kind is called in paths and answers, and what narrows its list down.
ROUTES: dict[DocumentKind, tuple[str, tuple[str, ...]]] = {
    "policy": ("policies", ()),
    "silence": ("silences", ("sensor", "device", "kind", "site", "tenant")),
    "trial": ("trials", ("kind",)),
}


class Documents:
    """One way for all of them."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> Iterator[tuple[str, str, Answer]]:
        """Method, path and answer of each."""
        for kind, (several, fields) in ROUTES.items():
            path = f"/admin/{several}"
            yield "GET", path, self._bound(self._list, kind, several, fields)
            yield "GET", f"{path}/{{name}}", self._bound(self._get, kind)
            yield "PUT", f"{path}/{{name}}", self._bound(self._put, kind)
            yield "DELETE", f"{path}/{{name}}", self._bound(self._delete, kind)
        yield "POST", "/admin/silences", self.add_silence

    def _bound(self, answer: Callable[..., Any], *more: Any) -> Answer:
        async def bound(request: web.Request) -> web.Response:
            answered: web.Response = await answer(request, *more)
            return answered

        return bound

    async def _list(
        self, request: web.Request, kind: DocumentKind, several: str, fields: tuple[str, ...]
    ) -> web.Response:
        """By name; `after` and `limit` turn pages."""
        async with self._desk.services.store() as store:
            found = [entry for entry in documents(await store.documents()) if _is(entry, kind)]
        like, wanted = by_fields(request, fields), _states(request) if kind == "silence" else None
        now = epoch_ms()
        return page(
            request,
            several,
            sorted(found, key=lambda entry: kind_of(entry)[1]),
            lambda entry: (
                like(entry)
                and (wanted is None or not isinstance(entry, SilenceEntry) or state(entry, now) in wanted)
            ),
        )

    async def _get(self, request: web.Request, kind: DocumentKind) -> web.Response:
        """Its entry, its version as the ETag."""
        return entry_answer(await self._desk.one(kind, name_of(request)))

    async def _put(self, request: web.Request, kind: DocumentKind) -> web.Response:
        """The whole entry; what is left out is as it is by default."""
        body = await self._desk.read_entry(request, name_field(kind))
        return made_answer(await self._desk.edit(request, self._edit(request, kind, body)))

    async def add_silence(self, request: web.Request) -> web.Response:
        """POST /admin/silences: a silence from now on, with an id that is made for it."""
        body = await self._desk.read(request)
        if "silence" in body:
            raise Problem("entry-invalid", "its id is made for it: PUT one that has an id", field="silence")
        body |= {"silence": secrets.token_hex(ID_BYTES)}
        body.setdefault("begin", epoch_ms())
        edit = self._edit(request, "silence", body, fresh=True)
        answer = made_answer(await self._desk.edit(request, edit))
        answer.headers["Location"] = f"/admin/silences/{body['silence']}"
        return answer

    def _edit(
        self, request: web.Request, kind: DocumentKind, body: dict[str, Any], *, fresh: bool = False
    ) -> PutDocument:
        if kind == "silence":
            body.setdefault("by", self._desk.actor(request))
        entry = normal(converted(body, FORMS[kind]))
        check(list(document_faults(entry)))
        return PutDocument(entry, 0 if fresh else expected(request))

    async def _delete(self, request: web.Request, kind: DocumentKind) -> web.Response:
        """Out of the registry."""
        await self._desk.edit(request, RemoveDocument(kind, name_of(request), expected(request)))
        return web.Response(status=204)


def _is(entry: Entry, kind: DocumentKind) -> bool:
    return isinstance(entry, FORMS[kind])


def _states(request: web.Request) -> set[str] | None:
    wanted = request.query.get("state")
    if wanted not in (None, *get_args(State)):
        raise Problem("entry-invalid", f"state is one of {', '.join(get_args(State))}", field="state")
    return None if wanted is None else {wanted}
