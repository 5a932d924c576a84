"""`/api/`: sensors, their windows and events, a page at a time, from the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from streamproc.console import parameters
from streamproc.console.answers import Events, Sensor, Sensors, Windows
from streamproc.console.problems import Problem
from streamproc.store.views import EventsAsked, SensorRow, SensorsAsked, WindowsAsked

if TYPE_CHECKING:
    from streamproc.console.access import Readers
    from streamproc.console.reading import Reading
    from streamproc.store.protocol import Store
    from streamproc.store.sensor_status import SensorStatus, SeverityName

_encode = msgspec.json.Encoder().encode


class Api:
    """Answers requests that `readers` admits, from the database that `reading` gives."""

    def __init__(self, readers: Readers, reading: Reading) -> None:
        self._readers, self._reading = readers, reading

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.get("/api/sensors", self.sensors),
            web.get("/api/sensors/{id}", self.sensor),
            web.get("/api/sensors/{id}/windows", self.windows),
            web.get("/api/sensors/{id}/events", self.events),
            web.get("/api/events", self.events),
        ]

    async def sensors(self, request: web.Request) -> web.Response:
        """GET /api/sensors: the sensors and how they stand, the worst first."""
        self._readers.admit(request)
        query = request.query
        parameters.only(query, "severity", "search", "cursor", "limit")
        wanted, cursor = parameters.severity(query), parameters.sensors_cursor(query)
        search, limit = parameters.text(query, "search"), parameters.limit(query)
        levels = (wanted,) if wanted else parameters.SEVERITIES
        after = ""
        if cursor is not None:
            level, after = cursor
            levels = levels[levels.index(level) :] if level in levels else ()
        found: list[tuple[SeverityName, SensorRow]] = []
        async with self._reading.store() as store:
            for level in levels:
                room = limit + 1 - len(found)
                rows = await store.sensors_page(SensorsAsked(level, after, search, room)) if room else []
                found += [(level, row) for row in rows]
                after = ""
        last = found[limit - 1] if len(found) > limit else None
        return _json(Sensors([row for _, row in found[:limit]], last and f"{last[0]}:{last[1].sensor}"))

    async def sensor(self, request: web.Request) -> web.Response:
        """GET /api/sensors/{id}: how one stands; `id` is its key (sensor_uuid), or its sensor_id."""
        self._readers.admit(request)
        parameters.only(request.query)
        async with self._reading.store() as store:
            found = await _known(store, request)
            return _json(Sensor.of(found, site=found.entry.site))

    async def windows(self, request: web.Request) -> web.Response:
        """GET /api/sensors/{id}/windows: its closed windows of one size, newest first."""
        self._readers.admit(request)
        query = request.query
        parameters.only(query, "size", "before", "limit")
        size_ms, limit = parameters.size_ms(query), parameters.limit(query)
        before = parameters.time(query, "before")
        async with self._reading.store() as store:
            sensor = (await _known(store, request)).entry.sensor
            rows = await store.windows_page(WindowsAsked(sensor, size_ms, before, limit + 1))
        shown = rows[:limit]
        return _json(Windows(shown, shown[-1].start if len(rows) > limit else None))

    async def events(self, request: web.Request) -> web.Response:
        """GET /api/events, /api/sensors/{id}/events: changes of severity, newest first."""
        self._readers.admit(request)
        query = request.query
        of_one = "id" in request.match_info
        parameters.only(
            query, *(() if of_one else ("sensor",)), "severity", "since", "until", "cursor", "limit"
        )
        asked = EventsAsked(
            parameters.text(query, "sensor"),
            parameters.severity(query),
            parameters.time(query, "since"),
            parameters.time(query, "until"),
            parameters.events_cursor(query),
            parameters.limit(query),
        )
        async with self._reading.store() as store:
            if of_one or asked.sensor is not None:
                found = await _known(store, request, asked.sensor)
                asked = EventsAsked(
                    found.entry.sensor, asked.severity, asked.since, asked.until, asked.before, asked.limit
                )
            page = await store.events_page(asked)
        return _json(Events(page.events, parameters.told(page.following)))


async def _known(store: Store, request: web.Request, name: str | None = None) -> SensorStatus:
    """The sensor of this name, or of the path's; raises the Problem of one that is not registered."""
    name = (name or request.match_info["id"]).lower()
    found = await store.status(name) if len(name) <= parameters.LONGEST else None
    if found is None:
        raise Problem("unknown-sensor", "no sensor of this sensor_uuid or sensor_id is registered")
    return found


def _json(answer: msgspec.Struct) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=_encode(answer), content_type="application/json", headers=headers)
