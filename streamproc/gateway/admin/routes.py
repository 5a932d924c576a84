"""Sensors, devices and their keys, recommended actions, and the audit; the other routes are added here as well."""

from __future__ import annotations

import msgspec
from aiohttp import hdrs, web

from streamproc.gateway.admin.access import Doorkeeper
from streamproc.gateway.admin.alarms import FILTERS, Alarms
from streamproc.gateway.admin.answers import (
    LONGEST_PAGE,
    by_fields,
    check,
    entry_answer,
    expected,
    json_answer,
    made_answer,
    name_of,
    number_of,
    page,
    part_of,
)
from streamproc.gateway.admin.desk import Desk, converted
from streamproc.gateway.admin.documents import Documents
from streamproc.gateway.admin.service import Services
from streamproc.gateway.problems import Problem
from streamproc.process import epoch_ms
from streamproc.records import ActionEntry, DeviceEntry, SensorEntry
from streamproc.registry import checks
from streamproc.registry.keys import new_key
from streamproc.registry.thresholds import overruled
from streamproc.store.edits import (
    KINDS,
    AddKey,
    Kind,
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
)

#: Tells of a sensor that was put which of its ranges will not last: other programs' limits in the database overrule them.
OVERRULED = "Ranges-Overruled-By"


class Admin:
    """The routes under /admin; `services` opens the database and Kafka when they are first asked for."""

    def __init__(self, door: Doorkeeper, services: Services, body_seconds: float) -> None:
        self._desk = Desk(door, services, body_seconds)

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
            *Documents(self._desk).routes(),
            *Alarms(self._desk).routes(),
        ):
            guarded = self._desk.guarded(answer)
            if method == hdrs.METH_GET:
                app.router.add_get(path, guarded)  # and HEAD
            else:
                app.router.add_route(method, path, guarded)
        app.on_cleanup.append(self._close)

    async def _close(self, _app: web.Application) -> None:
        await self._desk.services.close()

    async def list_sensors(self, request: web.Request) -> web.Response:
        """GET /admin/sensors: by name; some fields narrow them down, `after` and `limit` turn pages."""
        found = sensors(await self._desk.registered())
        return page(request, "sensors", found, by_fields(request, FILTERS))

    async def list_devices(self, request: web.Request) -> web.Response:
        """GET /admin/devices: as the sensors; keys are told by their hashes."""
        found = devices(await self._desk.registered())
        return page(request, "devices", found, by_fields(request, ("site", "tenant")))

    async def get_sensor(self, request: web.Request) -> web.Response:
        """GET /admin/sensors/{sensor}: its entry, its version as the ETag."""
        return entry_answer(await self._desk.one("sensor", name_of(request)))

    async def get_device(self, request: web.Request) -> web.Response:
        """GET /admin/devices/{device}: its entry, its version as the ETag."""
        return entry_answer(await self._desk.one("device", name_of(request)))

    async def put_sensor(self, request: web.Request) -> web.Response:
        """PUT /admin/sensors/{sensor}: the whole entry, but `device` and `sensor_id` stay where they are left out."""
        entry = checks.normal(converted(await self._desk.read_entry(request, "sensor"), SensorEntry))
        check(list(checks.sensor_faults(entry)))
        others = await self._overruled(entry)
        response = made_answer(await self._desk.edit(request, PutSensor(entry, expected(request))))
        if others:
            response.headers[OVERRULED] = f"alert_thresholds; {', '.join(others)}"
        return response

    async def put_device(self, request: web.Request) -> web.Response:
        """PUT /admin/devices/{device}: the whole entry; keys in it are added, and none is taken away."""
        entry: DeviceEntry = converted(await self._desk.read_entry(request, "device"), DeviceEntry)
        check(list(checks.device_faults(entry)))
        return made_answer(await self._desk.edit(request, PutDevice(entry, expected(request))))

    async def delete_sensor(self, request: web.Request) -> web.Response:
        """DELETE /admin/sensors/{sensor}: out of the registry; its readings stay."""
        await self._desk.edit(request, RemoveSensor(name_of(request), expected(request)))
        return web.Response(status=204)

    async def delete_device(self, request: web.Request) -> web.Response:
        """DELETE /admin/devices/{device}: with ?sensors=true its sensors, too."""
        whole = request.query.get("sensors", "false").lower() in {"true", "1", "yes"}
        await self._desk.edit(request, RemoveDevice(name_of(request), expected(request), with_sensors=whole))
        return web.Response(status=204)

    async def add_key(self, request: web.Request) -> web.Response:
        """POST /admin/devices/{device}/keys: a new key, told this once; `{"expires_at": ms}` has it end by itself."""
        body = await self._desk.read(request)
        expires_at = body.pop("expires_at", None)
        if body or not (expires_at is None or type(expires_at) is int):
            raise Problem("entry-invalid", 'the body is empty, or {"expires_at": milliseconds since 1970}')
        now_ms = epoch_ms()
        if expires_at is not None and expires_at <= now_ms:
            raise Problem("entry-invalid", "expires_at is in the past", field="expires_at")
        text, key = new_key(now_ms, expires_at)
        check(list(checks.device_faults(DeviceEntry("-", keys=(key,)))))
        await self._desk.edit(request, AddKey(name_of(request), key))
        told = {"key_id": key.key_id, "key": text, "created_at": now_ms, "expires_at": expires_at}
        return json_answer(told, status=201)

    async def revoke_key(self, request: web.Request) -> web.Response:
        """DELETE /admin/devices/{device}/keys/{key_id}: no gateway takes it any more, within a second."""
        await self._desk.edit(request, RevokeKey(name_of(request), request.match_info["key_id"]))
        return web.Response(status=204)

    async def list_actions(self, request: web.Request) -> web.Response:
        """GET /admin/actions: by name; `kind` and `cause` narrow them down, `after` and `limit` turn pages."""
        found = actions(await self._desk.registered())
        return page(request, "actions", found, by_fields(request, ("kind", "cause")))

    async def get_action(self, request: web.Request) -> web.Response:
        """GET /admin/actions/{kind}/{cause}: its entry, its version as the ETag."""
        return entry_answer(await self._desk.one("action", name_of(request)))

    async def put_action(self, request: web.Request) -> web.Response:
        """PUT /admin/actions/{kind}/{cause}: the whole entry; a language that is left out is taken away."""
        body = await self._desk.read(request)
        named = {field: part_of(request, field) for field in ("kind", "cause")}
        for field, given in named.items():
            if body.get(field, given) != given:
                raise Problem("entry-invalid", f"the body is of another {field} than the path", field=field)
        entry: ActionEntry = converted({**body, **named}, ActionEntry)
        check(list(checks.action_faults(entry)))
        return made_answer(await self._desk.edit(request, PutAction(entry, expected(request))))

    async def delete_action(self, request: web.Request) -> web.Response:
        """DELETE /admin/actions/{kind}/{cause}: what is told is streamproc's own again."""
        await self._desk.edit(request, RemoveAction(name_of(request), expected(request)))
        return web.Response(status=204)

    async def audit(self, request: web.Request) -> web.Response:
        """GET /admin/audit: newest first; `kind` and `name` narrow it down, `before` and `limit` turn pages."""
        kind, name = request.query.get("kind"), request.query.get("name")
        if (kind is None) != (name is None) or kind not in (None, *KINDS):
            raise Problem("entry-invalid", f"kind is one of {', '.join(KINDS)}, and name goes with it")
        of: tuple[Kind, str] | None = None
        if name is not None:
            of = (msgspec.convert(kind, Kind), name.lower())
        before = number_of(request, "before", None, 2**63 - 1)
        limit = number_of(request, "limit", 100, LONGEST_PAGE) or 100
        async with self._desk.services.store() as store:
            lines = await store.audit(of, before, limit)
        following = lines[-1].id if len(lines) == limit else None
        return json_answer({"audit": lines, "before": following})

    async def _overruled(self, entry: SensorEntry) -> list[str]:
        """The ranges that other programs' limits will soon overwrite."""
        async with self._desk.services.store() as store:
            limits = await store.thresholds(entry.sensor)
        return overruled([entry], limits).get(entry.sensor, [])
