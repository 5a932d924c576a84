"""The admin API of the registry: sensors, devices, their keys, recommended actions, and who has changed what."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, get_args

import msgspec
import structlog
from aiohttp import hdrs, web

from streamproc.errors import (
    EntryNotSent,
    RegistryError,
    StaleEntry,
    StoreError,
    StreamprocError,
    UnknownEntry,
)
from streamproc.gateway.admin_access import Doorkeeper
from streamproc.gateway.admin_service import Services
from streamproc.gateway.bodies import check_encoding
from streamproc.gateway.load import Load, Share, read_body
from streamproc.gateway.problems import Problem, unavailable
from streamproc.records import ActionEntry, DeviceEntry, SensorEntry
from streamproc.registry import checks
from streamproc.registry.keys import new_key
from streamproc.registry.thresholds import taken_over
from streamproc.store.edits import (
    AddKey,
    Edit,
    Entry,
    Kind,
    Outcome,
    PutAction,
    PutDevice,
    PutSensor,
    RemoveAction,
    RemoveDevice,
    RemoveSensor,
    RevokeKey,
    actions,
    devices,
    sensors,
    topic_key,
)

T = TypeVar("T")
Answer = Callable[[web.Request], Awaitable[web.Response]]

#: Longer than a database is given for a statement (20 s for the turn of an edit): then somebody has to look.
_SECONDS = 25.0
#: Entries in an answer, unless another number is asked for, and at most.
_PAGE, _LONGEST_PAGE = 1_000, 10_000
#: Largest body: an entry has a few names and numbers.
BODY_BYTES = 65_536
#: So many of them may be on their way at once: admins are few, and their key is checked before.
_BODIES = 64
_AS_IT_IS = {"Accept-Encoding": "identity"}
#: After what time to ask again where the database or Kafka is away.
_RETRY_SECONDS = 5

#: Tells of a sensor that was put which of its ranges will not last: other programs' limits in the database overrule them.
OVERRULED = "Ranges-Overruled-By"
#: The admin's address, which the audit names.
_ADDRESS = web.RequestKey("address", str)

_decode = msgspec.json.Decoder().decode
_log = structlog.get_logger(__name__)


class Admin:
    """The routes under /admin; `services` opens the database and Kafka when they are first asked for."""

    def __init__(self, door: Doorkeeper, services: Services, body_seconds: float) -> None:
        self._door = door
        self._services, self._body_seconds = services, body_seconds
        self._load = Load(_BODIES, _BODIES * BODY_BYTES)

    def add_to(self, app: web.Application) -> None:
        """Add the routes to the gateway's."""
        for method, path, answer in (
            ("GET", "/admin/sensors", self.list_sensors),
            ("GET", "/admin/sensors/{name}", self.get_sensor),
            ("PUT", "/admin/sensors/{name}", self.put_sensor),
            ("DELETE", "/admin/sensors/{name}", self.delete_sensor),
            ("GET", "/admin/devices", self.list_devices),
            ("GET", "/admin/devices/{name}", self.get_device),
            ("PUT", "/admin/devices/{name}", self.put_device),
            ("DELETE", "/admin/devices/{name}", self.delete_device),
            ("POST", "/admin/devices/{name}/keys", self.add_key),
            ("DELETE", "/admin/devices/{name}/keys/{key_id}", self.revoke_key),
            ("GET", "/admin/actions", self.list_actions),
            ("GET", "/admin/actions/{kind}/{cause}", self.get_action),
            ("PUT", "/admin/actions/{kind}/{cause}", self.put_action),
            ("DELETE", "/admin/actions/{kind}/{cause}", self.delete_action),
            ("GET", "/admin/audit", self.audit),
        ):
            app.router.add_route(method, path, self._guarded(answer))
        app.on_cleanup.append(self._close)

    async def _close(self, _app: web.Application) -> None:
        await self._services.close()

    def _guarded(self, answer: Answer) -> Answer:
        async def guarded(request: web.Request) -> web.Response:
            request[_ADDRESS] = self._door.admit(request)
            try:
                async with asyncio.timeout(_SECONDS):
                    response = await answer(request)
            except TimeoutError:
                detail = (
                    "the database or Kafka did not answer in time; whether the change was made is not known"
                )
                raise unavailable("admin-unavailable", detail, _RETRY_SECONDS) from None
            except StreamprocError as error:
                raise _problem(error) from error
            response.headers["Cache-Control"] = "no-store"
            return response

        return guarded

    async def list_sensors(self, request: web.Request) -> web.Response:
        """GET /admin/sensors: by name; `device`, `site` and `tenant` narrow them down, `after` and `limit` turn pages."""
        found = await self._registered()
        return _page(request, "sensors", sensors(found), ("device", "site", "tenant"))

    async def list_devices(self, request: web.Request) -> web.Response:
        """GET /admin/devices: as the sensors; keys are told by their hashes."""
        found = await self._registered()
        return _page(request, "devices", devices(found), ("site", "tenant"))

    async def get_sensor(self, request: web.Request) -> web.Response:
        """GET /admin/sensors/{sensor}: its entry, its version as the ETag."""
        return _entry(await self._one("sensor", request))

    async def get_device(self, request: web.Request) -> web.Response:
        """GET /admin/devices/{device}: its entry, its version as the ETag."""
        return _entry(await self._one("device", request))

    async def put_sensor(self, request: web.Request) -> web.Response:
        """PUT /admin/sensors/{sensor}: the whole entry, but `device` and `sensor_id` stay where they are left out."""
        entry = checks.normal(await self._body(request, "sensor", SensorEntry))
        _check(list(checks.sensor_faults(entry)))
        overruled = await self._overruled(entry)
        response = _made(await self._edit(request, PutSensor(entry, _expected(request))))
        if overruled:
            response.headers[OVERRULED] = f"alert_thresholds; {', '.join(overruled)}"
        return response

    async def put_device(self, request: web.Request) -> web.Response:
        """PUT /admin/devices/{device}: the whole entry; keys in it are added, and none is taken away."""
        entry = await self._body(request, "device", DeviceEntry)
        _check(list(checks.device_faults(entry)))
        return _made(await self._edit(request, PutDevice(entry, _expected(request))))

    async def delete_sensor(self, request: web.Request) -> web.Response:
        """DELETE /admin/sensors/{sensor}: out of the registry; its readings stay."""
        await self._edit(request, RemoveSensor(_name(request), _expected(request)))
        return web.Response(status=204)

    async def delete_device(self, request: web.Request) -> web.Response:
        """DELETE /admin/devices/{device}: with ?sensors=true its sensors, too."""
        whole = request.query.get("sensors", "false").lower() in {"true", "1", "yes"}
        await self._edit(request, RemoveDevice(_name(request), _expected(request), with_sensors=whole))
        return web.Response(status=204)

    async def add_key(self, request: web.Request) -> web.Response:
        """POST /admin/devices/{device}/keys: a new key, told this once; `{"expires_at": ms}` has it end by itself."""
        body = await self._read(request)
        expires_at = body.pop("expires_at", None)
        if body or not (expires_at is None or type(expires_at) is int):
            raise Problem("entry-invalid", 'the body is empty, or {"expires_at": milliseconds since 1970}')
        now_ms = time.time_ns() // 1_000_000
        if expires_at is not None and expires_at <= now_ms:
            raise Problem("entry-invalid", "expires_at is in the past", field="expires_at")
        text, key = new_key(now_ms, expires_at)
        _check(list(checks.device_faults(DeviceEntry("-", keys=(key,)))))
        await self._edit(request, AddKey(_name(request), key))
        told = {"key_id": key.key_id, "key": text, "created_at": now_ms, "expires_at": expires_at}
        return _json(told, status=201)

    async def revoke_key(self, request: web.Request) -> web.Response:
        """DELETE /admin/devices/{device}/keys/{key_id}: no gateway takes it any more, within a second."""
        await self._edit(request, RevokeKey(_name(request), request.match_info["key_id"]))
        return web.Response(status=204)

    async def list_actions(self, request: web.Request) -> web.Response:
        """GET /admin/actions: by name; `kind` and `cause` narrow them down, `after` and `limit` turn pages."""
        return _page(request, "actions", actions(await self._registered()), ("kind", "cause"))

    async def get_action(self, request: web.Request) -> web.Response:
        """GET /admin/actions/{kind}/{cause}: its entry, its version as the ETag."""
        return _entry(await self._one("action", request))

    async def put_action(self, request: web.Request) -> web.Response:
        """PUT /admin/actions/{kind}/{cause}: the whole entry; a language that is left out is taken away."""
        body = await self._read(request)
        named = {field: _part(request, field) for field in ("kind", "cause")}
        for field, given in named.items():
            if body.get(field, given) != given:
                raise Problem("entry-invalid", f"the body is of another {field} than the path", field=field)
        try:
            entry = msgspec.convert({**body, **named}, ActionEntry)
        except msgspec.ValidationError as error:
            raise Problem("entry-invalid", str(error)) from None
        _check(list(checks.action_faults(entry)))
        return _made(await self._edit(request, PutAction(entry, _expected(request))))

    async def delete_action(self, request: web.Request) -> web.Response:
        """DELETE /admin/actions/{kind}/{cause}: what is told is streamproc's own again."""
        await self._edit(request, RemoveAction(_name(request), _expected(request)))
        return web.Response(status=204)

    async def audit(self, request: web.Request) -> web.Response:
        """GET /admin/audit: newest first; `kind` and `name` narrow it down, `before` and `limit` turn pages."""
        kind, name = request.query.get("kind"), request.query.get("name")
        if (kind is None) != (name is None) or kind not in (None, *get_args(Kind)):
            raise Problem("entry-invalid", "kind is sensor, device or action, and name goes with it")
        of: tuple[Kind, str] | None = None
        if name is not None:
            of = (msgspec.convert(kind, Kind), name.lower())
        before = _number(request, "before", None, 2**63 - 1)
        limit = _number(request, "limit", 100, _LONGEST_PAGE) or 100
        async with self._services.store() as store:
            lines = await store.audit(of, before, limit)
        following = lines[-1].id if len(lines) == limit else None
        return _json({"audit": lines, "before": following})

    async def _registered(self) -> dict[str, Entry | None]:
        async with self._services.store() as store:
            return await store.registry()

    async def _one(self, kind: Kind, request: web.Request) -> Entry:
        name = _name(request)
        async with self._services.store() as store:
            found = (await store.registry([topic_key(kind, name)])).get(topic_key(kind, name))
        if found is None:
            raise UnknownEntry(f"no {kind} {name} is registered")
        return found

    async def _overruled(self, entry: SensorEntry) -> list[str]:
        """The ranges that limits of other programs will have changed again soon."""
        async with self._services.store() as store:
            limits = await store.thresholds(entry.sensor)
        kept, _ = taken_over([entry], limits)
        return [
            name
            for name in ("warning", "critical")
            for each in kept
            if getattr(each, name) != getattr(entry, name)
        ]

    async def _edit(self, request: web.Request, edit: Edit) -> list[Outcome]:
        async with self._services.service() as service:
            return await service.edit([edit], f"admin@{request[_ADDRESS]}")

    async def _body(self, request: web.Request, kind: Kind, form: type[T]) -> T:
        """The entry that the body is; its name may be left out, for it is in the path."""
        body = await self._read(request)
        name = _name(request)
        given = body.setdefault(kind, name)
        if not isinstance(given, str) or given.lower() != name:
            raise Problem("entry-invalid", f"the body is of another {kind} than the path", field=kind)
        try:
            return msgspec.convert({**body, kind: name}, form)
        except msgspec.ValidationError as error:
            raise Problem("entry-invalid", str(error)) from None

    async def _read(self, request: web.Request) -> dict[str, Any]:
        if check_encoding(request.headers.getall(hdrs.CONTENT_ENCODING, ())):
            raise Problem("encoding", "send an entry as it is, not compressed", headers=_AS_IT_IS)
        with Share(self._load) as share:
            text = await read_body(request, share, BODY_BYTES, self._body_seconds)
        try:
            body = _decode(text or b"{}")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Problem("malformed", str(error)) from None
        if not isinstance(body, dict):
            raise Problem("entry-invalid", "the body is no JSON object")
        return body


def _problem(error: StreamprocError) -> Problem:
    if isinstance(error, UnknownEntry):
        return Problem("entry-unknown", str(error))
    if isinstance(error, StaleEntry):
        return Problem("entry-changed", str(error))
    if isinstance(error, EntryNotSent):
        return unavailable("registry-not-sent", str(error), _RETRY_SECONDS)
    if isinstance(error, RegistryError):
        return Problem("entry-refused", str(error))
    _log.warning("registry not available to the admin API", reason=str(error))
    if isinstance(error, StoreError):
        return unavailable("admin-unavailable", f"the database: {error}", _RETRY_SECONDS)
    return unavailable("admin-unavailable", str(error), _RETRY_SECONDS)


def _name(request: web.Request) -> str:
    """The name of the entry that the path is of; a recommended action's are its kind and its cause."""
    if "cause" in request.match_info:
        return f"{_part(request, 'kind')}/{_part(request, 'cause')}"
    return _part(request, "name")


def _part(request: web.Request, name: str) -> str:
    return request.match_info[name].lower()


def _expected(request: web.Request) -> int | None:
    """The version that an edit is for: If-Match names it, If-None-Match: * wants that there is none."""
    if request.headers.get("If-None-Match") == "*":
        return 0
    tag = request.headers.get("If-Match")
    if tag is None or tag.strip() == "*":
        return None
    number = tag.strip().removeprefix("W/").strip('"')
    if not number.isdecimal() or len(number) > _DIGITS:
        raise StaleEntry(f"If-Match is {tag[:64]}, no ETag that was given out here")
    return int(number)


#: Digits of a version: those of a database's INT.
_DIGITS = 10


def _number(request: web.Request, name: str, default: int | None, most: int) -> int | None:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not 1 <= int(text[:20]) <= most:
        raise Problem("entry-invalid", f"{name} must be a number of 1 to {most}", field=name)
    return int(text)


def _check(faults: Sequence[str]) -> None:
    if faults:
        raise Problem("entry-invalid", "\n".join(faults))


def _page(request: web.Request, name: str, entries: Sequence[Any], filters: Sequence[str]) -> web.Response:
    limit = _number(request, "limit", _PAGE, _LONGEST_PAGE) or _PAGE
    after = request.query.get("after", "").lower()
    wanted = {field: request.query[field] for field in filters if field in request.query}
    field = "name" if name == "actions" else name.removesuffix("s")
    left = [
        entry
        for entry in entries
        if getattr(entry, field) > after
        and all(getattr(entry, key) == value for key, value in wanted.items())
    ]
    following = getattr(left[limit - 1], field) if len(left) > limit else None
    return _json({name: left[:limit], "after": following})


def _entry(entry: Entry, status: int = 200) -> web.Response:
    """An entry with all its fields, so that it can be changed and put again."""
    response = _json(msgspec.structs.asdict(entry), status)
    response.headers["ETag"] = f'"{entry.version}"'
    return response


def _made(outcomes: Sequence[Outcome]) -> web.Response:
    made = outcomes[-1]
    assert made.entry is not None
    new = made.changed and made.entry.version == 1
    return _entry(made.entry, 201 if new else 200)


def _json(answer: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(answer), content_type="application/json")
