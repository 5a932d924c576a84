"""What the console's routes say of themselves, for the OpenAPI document and its page."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import msgspec

from streamproc.console.answers import Events, Sensor, Sensors, Windows
from streamproc.console.page import FILES
from streamproc.console.parameters import LARGEST_PAGE, MOST_FOLLOWED, PAGE, SEVERITIES, SIZES
from streamproc.console.problems import KINDS, ProblemDetails
from streamproc.openapi import Answer, Content, Operation, Parameter, Problems, Title, revalidated

TOLD = Problems(KINDS, ProblemDetails)
_ANY = ("bad-request", "method-not-allowed", "internal")
_READERS = (*_ANY, "parameter", "token-missing", "token-wrong", "host", "busy", "database-unavailable")


class Alive(msgspec.Struct, frozen=True):
    """The answer of `/health`."""

    status: str


class Checked(msgspec.Struct, frozen=True):
    """One check of `/ready`."""

    name: str
    ok: bool
    detail: str


class Ready(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of `/ready`, with status 200 or 503; `detail` tells what fails."""

    status: str
    checks: list[Checked]
    detail: str | None = None


_NOON = "2026-11-21T14:19:26Z"
_ID = Parameter(
    "id", "path", "A `sensor_uuid`, or a `sensor_id`.", {"type": "string", "minLength": 1}, "boiler-2"
)
_SEVERITY = Parameter("severity", "query", "Of this severity.", {"enum": list(SEVERITIES)})
_LIMIT = Parameter(
    "limit",
    "query",
    "Most rows of the page.",
    {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE},
)
_CURSOR = Parameter("cursor", "query", "What `next` of the page before said.")
_SINCE = Parameter("since", "query", "From this time on: epoch seconds or ISO 8601.", example=_NOON)
_UNTIL = Parameter("until", "query", "Before this time.", example=_NOON)
_SIZE = Parameter("size", "query", "The size of the windows.", {"enum": list(SIZES), "default": "1s"})


def _read(
    path: str, name: str, words: tuple[str, str], form: Any, parameters: tuple[Parameter, ...]
) -> Operation:
    summary, description = words
    one = "{id}" in path
    return Operation(
        method="get",
        path=path,
        name=name,
        tag="sensors",
        summary=summary,
        description=description,
        answers={200: Answer(summary, [Content(form=form)])},
        kinds=(*_READERS, *(("unknown-sensor",) if one or name == "getEvents" else ())),
        parameters=((_ID,) if one else ()) + parameters,
        security=("token",),
    )


_STREAM = Content(
    "text/event-stream",
    description="`state`, `change`, `window`, `reset` and `end`, each with JSON; `id` is for `Last-Event-ID`.",
)
_LIVE = Operation(
    method="get",
    path="/api/live",
    name="followLive",
    tag="live",
    summary="What happens, as it does",
    description="Server-sent events: every change of severity, and the closed windows of the sensors that are named. Who"
    " comes back with the last `id` misses nothing, or is told by `reset` to read the lists anew. A comment comes each 15 s.",
    answers={200: Answer("A stream that goes on.", [_STREAM])},
    kinds=(*_ANY, "parameter", "token-missing", "token-wrong", "host", "busy"),
    parameters=(
        Parameter(
            "sensor",
            "query",
            "Whose windows to follow.",
            {"type": "array", "items": {"type": "string"}, "maxItems": MOST_FOLLOWED},
        ),
        _SIZE,
        Parameter("Last-Event-ID", "header", "Where to go on: the last `id`.", example="0:17,1:5"),
    ),
    security=("token",),
)

SENSORS = (
    _read(
        "/api/sensors",
        "getSensors",
        (
            "The sensors and how they stand",
            "Those in alarm first: CRITICAL, WARN, the others; within each by their key.",
        ),
        Sensors,
        (_SEVERITY, Parameter("search", "query", "A part of name, key, device or site."), _LIMIT, _CURSOR),
    ),
    _read(
        "/api/sensors/{id}",
        "getSensor",
        (
            "How one sensor stands",
            "Its last reading, its alarm, its newest windows, and what it is judged by.",
        ),
        Sensor,
        (),
    ),
    _read(
        "/api/sensors/{id}/windows",
        "getWindows",
        ("Closed windows of a sensor", "Newest first."),
        Windows,
        (
            _SIZE,
            Parameter("before", "query", "That start before this time, such as `next`.", example=_NOON),
            _LIMIT,
        ),
    ),
    _read(
        "/api/sensors/{id}/events",
        "getEventsOfSensor",
        ("Changes of a sensor's severity", "Newest first."),
        Events,
        (_SEVERITY, _SINCE, _UNTIL, _LIMIT, _CURSOR),
    ),
    _read(
        "/api/events",
        "getEvents",
        (
            "Changes of severity",
            "Newest first. A page may be short, or empty, while there is a `next`.",
        ),
        Events,
        (Parameter("sensor", "query", "Of this sensor."), _SEVERITY, _SINCE, _UNTIL, _LIMIT, _CURSOR),
    ),
)


def _told(path: str, name: str, words: tuple[str, str], content: Content, *further: int) -> Operation:
    summary, description = words
    answers = {status: Answer(summary, [content]) for status in (200, *further)}
    return Operation("get", path, name, "operation", summary, description, answers, _ANY)


OPERATION = (
    revalidated(
        _told("/", "getPage", ("The page", "Sensors, and what happens to them."), Content("text/html"))
    ),
    replace(
        revalidated(
            _told(
                "/page/{name}",
                "getFile",
                ("A file of the page", "Its style and scripts."),
                Content("text/plain"),
            )
        ),
        parameters=(Parameter("name", "path", "Its name.", {"enum": list(FILES)}),),
        kinds=(*_ANY, "not-found"),
    ),
    _told("/health", "getHealth", ("The process runs", "For who restarts it."), Content(form=Alive)),
    _told(
        "/ready",
        "getReady",
        ("Kafka and the database answer", "503 where one does not."),
        Content(form=Ready),
        503,
    ),
    _told("/metrics", "getMetrics", ("Metrics for Prometheus", "In its text format."), Content("text/plain")),
    revalidated(
        _told("/openapi.json", "getOpenapi", ("This document", "OpenAPI 3.1."), Content(form=dict[str, Any]))
    ),
    revalidated(
        _told("/docs", "getDocs", ("This document as a page", "Needs no script."), Content("text/html"))
    ),
)

TITLE = Title(
    name="streamproc console",
    version=version("streamproc"),
    description="The read side: nothing is written. Every refusal is a problem (RFC 9457, `application/problem+json`);"
    " unknown paths are answered 404 `not-found`, 503 says with `Retry-After` when to try again. Times are in UTC.",
    tags={
        "sensors": "Sensors, their windows, and what was told of them.",
        "live": "What happens, as it does.",
        "operation": "The page, health, metrics, and this document.",
    },
    schemes={
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "The token of `STREAMPROC_CONSOLE_TOKEN`, where that is set.",
        }
    },
)


def described(*, needs_token: bool) -> tuple[Operation, ...]:
    """The console's routes, with or without a token."""
    operations = (*SENSORS, _LIVE, *OPERATION)
    return operations if needs_token else tuple(replace(each, security=()) for each in operations)
