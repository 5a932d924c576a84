"""What all routes of the admin API share: who is let in, what is read of a request, what the registry holds, and edits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import hdrs, web

from streamproc.errors import StreamprocError, UnknownEntry
from streamproc.gateway.admin.access import Doorkeeper
from streamproc.gateway.admin.answers import RETRY_SECONDS, name_of, problem_of
from streamproc.gateway.admin.service import Services
from streamproc.gateway.bodies import check_encoding
from streamproc.gateway.load import Load, Share, read_body
from streamproc.gateway.problems import Problem, unavailable
from streamproc.registry import plain_json
from streamproc.store.documents import Unreadable
from streamproc.store.edits import Edit, Entry, Kind, Outcome, Registered, topic_key

Answer = Callable[[web.Request], Awaitable[web.Response]]

#: Longer than a database is given for a statement (20 s for the turn of an edit): then somebody has to look.
_SECONDS = 25.0
#: Largest body: an entry has a few names and numbers.
BODY_BYTES = 65_536
#: So many of them may be on their way at once: admins are few, and their key is checked before.
_BODIES = 64
_AS_IT_IS = {"Accept-Encoding": "identity"}
#: The admin's address, which the audit names.
_ADDRESS = web.RequestKey("address", str)


class Desk:
    """Where calls are let in, read and carried out; `services` opens the database and Kafka when they are first asked for."""

    def __init__(self, door: Doorkeeper, services: Services, body_seconds: float) -> None:
        self.services = services
        self._door, self._body_seconds = door, body_seconds
        self._load = Load(_BODIES, _BODIES * BODY_BYTES)

    def guarded(self, answer: Answer) -> Answer:
        """The route for those who have the key, within the time, with errors told as problems."""

        async def guarded(request: web.Request) -> web.Response:
            request[_ADDRESS] = self._door.admit(request)
            try:
                async with asyncio.timeout(_SECONDS):
                    response = await answer(request)
            except TimeoutError:
                detail = (
                    "the database or Kafka did not answer in time; whether the change was made is not known"
                )
                raise unavailable("admin-unavailable", detail, RETRY_SECONDS) from None
            except StreamprocError as error:
                raise problem_of(error) from error
            response.headers["Cache-Control"] = "no-store"
            return response

        return guarded

    def actor(self, request: web.Request) -> str:
        """Who makes an edit, as the audit names them."""
        return f"admin@{request[_ADDRESS]}"

    async def registered(self) -> Registered:
        """All that the registry holds."""
        async with self.services.store() as store:
            return await store.registry()

    async def one(self, kind: Kind, name: str) -> Entry:
        """One entry; raises UnknownEntry."""
        async with self.services.store() as store:
            found = (await store.registry([topic_key(kind, name)])).get(topic_key(kind, name))
        if isinstance(found, Unreadable):
            raise UnknownEntry(
                f"{kind} {name} in the database is none, so it is not in force: {found.reason}"
            )
        if found is None:
            raise UnknownEntry(f"no {kind} {name} is registered")
        return found

    async def edit(self, request: web.Request, edit: Edit) -> list[Outcome]:
        """Make an edit in the name of who asks."""
        async with self.services.service() as service:
            return await service.edit([edit], self.actor(request))

    async def read_entry(self, request: web.Request, field: str) -> dict[str, Any]:
        """The entry that the body is; its name may be left out, for it is in the path."""
        body = await self.read(request)
        name = name_of(request)
        given = body.setdefault(field, name)
        if not isinstance(given, str) or given.lower() != name:
            raise Problem("entry-invalid", f"the body is of another {field} than the path", field=field)
        return {**body, field: name}

    async def read(self, request: web.Request) -> dict[str, Any]:
        """The body, a JSON object; none is an empty one, but where it is an entry: that would lose all that it has."""
        if check_encoding(request.headers.getall(hdrs.CONTENT_ENCODING, ())):
            raise Problem("encoding", "send an entry as it is, not compressed", headers=_AS_IT_IS)
        with Share(self._load) as share:
            text = await read_body(request, share, BODY_BYTES, self._body_seconds)
        if not text and request.method == hdrs.METH_PUT:
            raise Problem("malformed", "the body is empty")
        try:
            body = plain_json.load(text or b"{}")
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise Problem("malformed", str(error)) from None
        if not isinstance(body, dict):
            raise Problem("entry-invalid", "the body is no JSON object")
        return body


def converted(body: dict[str, Any], form: type[Any]) -> Any:
    """The body as a struct; refuses what is none."""
    try:
        return msgspec.convert(body, form)
    except msgspec.ValidationError as error:
        raise Problem("entry-invalid", str(error)) from None
