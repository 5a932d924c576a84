"""What the gateway's own routes say of themselves, for the OpenAPI document and the page made of it."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from streamproc.core.codec import Packet, Single
from streamproc.gateway.access.gate import PACKETS
from streamproc.gateway.admin.document_operations import DOCUMENTS
from streamproc.gateway.admin.operations import ADMIN
from streamproc.gateway.answers import Checked, Taken
from streamproc.gateway.intake import Bulk
from streamproc.gateway.problems import ANY
from streamproc.gateway.status import Status
from streamproc.openapi import LINES, Answer, Content, Operation, Parameter, Title, revalidated

if TYPE_CHECKING:
    from streamproc.settings import Settings


class Alive(msgspec.Struct, frozen=True):
    """The answer of `/health`."""

    status: str


class Ready(msgspec.Struct, frozen=True):
    """The answer of `/ready` where all checks are good."""

    status: str
    checks: list[Checked]
    topic: str


_DEVICE = "00000000-0000-0000-0000-000000000001"
_SENSOR = "00000000-0000-0000-0000-000000000101"
_PACKET: dict[str, Any] = {
    "device_uuid": _DEVICE,
    "readings": [{"sensor_uuid": _SENSOR, "value": 23.5}],
    "ts": "2026-11-21T14:19:26Z",
    "packet_id": "boot-7/42",
}
_SINGLE: dict[str, Any] = {"sensor_id": 7, "value": 23.5, "ts": 1_795_270_766.25}
_PLACED = {"index": 0, "status": "accepted", "accepted": 1, "partition": 2, "offset": 17}
_ALL = {"accepted": 1, "rejected": 0, "topic": "readings", "partition": 2, "offset": 17, "results": [_PLACED]}
_SOME = {
    **_ALL,
    "rejected": 1,
    "results": [
        {
            **_PLACED,
            "status": "partial",
            "rejected": [
                {
                    "kind": "invalid",
                    "reason": "Expected `float`, got `str`",
                    "field": "readings[1].value",
                    "index": 1,
                }
            ],
        }
    ],
}

_WRITERS = (
    *("key-missing", "key-wrong", "key-expired", "certificate-missing", "device-disabled"),
    *("foreign-sensor", "rate-limited", "registry-unavailable"),
)
_INGEST = (
    *ANY,
    *_WRITERS,
    "foreign-device",
    *("malformed", "framing", "encoding-broken", "slow-body"),
    *("too-large", "too-many-readings", "too-many-packets", "encoding", "media-type"),
    *("unknown-sensor", "invalid", "ts-ahead", "busy", "kafka-unavailable"),
)
_HEADERS = (
    Parameter(
        "Idempotency-Key",
        "header",
        "A name of this request: sent again with the same key and body, it counts once.",
        {"type": "string", "minLength": 1, "maxLength": 120, "pattern": "^[!-~]+$"},
        "boot-7-42",
    ),
    Parameter(
        "Content-Encoding",
        "header",
        "How the body is compressed, in one way.",
        {"type": "string", "enum": ["gzip", "deflate", "zstd", "identity"]},
    ),
)
_TAKEN = {
    202: Answer("Kafka has acknowledged all of it.", [Content(form=Taken, examples={"all": _ALL})]),
    207: Answer(
        "Kafka has acknowledged some of it; `results` names what was not taken, and why.",
        [Content(form=Taken, examples={"some": _SOME})],
    ),
}
_Packets = Packet | Annotated[list[Packet], Meta(min_length=1)]
_Readings = Bulk | Annotated[list[Single], Meta(min_length=1)]


def _ingest(path: str, name: str, words: tuple[str, str], bodies: list[Content]) -> Operation:
    summary, description = words
    return Operation(
        method="post",
        path=path,
        name=name,
        tag="ingest",
        summary=summary,
        description=description,
        answers=_TAKEN,
        kinds=_INGEST,
        parameters=_HEADERS,
        bodies=bodies,
    )


_PACKETS_TOLD = (
    "One packet, an array of packets, or one on each line. `ts` is epoch seconds or ISO 8601, of a reading or of its"
    " packet; without it the time of arrival counts. Names are taken without regard to case. A packet sent again"
    " counts once if it has a `ts` or a `packet_id`, or the request an `Idempotency-Key`."
)

INGEST = (
    _ingest(
        PACKETS,
        "postPackets",
        (
            "Readings of a device, in packets",
            _PACKETS_TOLD,
        ),
        [
            Content(form=_Packets, examples={"one": _PACKET, "several": [_PACKET, _PACKET]}),
            Content(LINES, description="A packet on each line."),
        ],
    ),
    _ingest(
        "/ingest/readings",
        "postReading",
        ("A reading by itself (legacy)", "One reading, by `sensor_id` or `sensor_uuid`."),
        [Content(form=Single, examples={"one": _SINGLE})],
    ),
    _ingest(
        "/ingest/readings/bulk",
        "postReadings",
        (
            "Readings of any sensors (legacy)",
            'An array of readings, `{"readings": […]}`, or one on each line; each is a record of its own.',
        ),
        [
            Content(form=_Readings, examples={"array": [_SINGLE], "object": {"readings": [_SINGLE]}}),
            Content(LINES, description="A reading on each line."),
        ],
    ),
)

_NOON = "2026-11-21T14:19:26Z"
_STATUS: dict[str, Any] = {
    "sensor": _SENSOR,
    "sensor_id": 7,
    "device": _DEVICE,
    "name": "boiler",
    "unit": "°C",
    "kind": "temperature",
    "severity": "CRITICAL",
    "since": _NOON,
    "last": {"value": 99.5, "ts": _NOON, "received_at": "2026-11-21T14:19:26.012Z"},
    "event": {
        "event_id": "5b1f6f4cf3a8",
        "severity": "CRITICAL",
        "at": _NOON,
        "cause": "critical_range",
        "explanation": "boiler temperature read 99.5 °C, above its critical limit of 95 °C.",
        "recommended_action": "Act now: …",
        "flapping": False,
        "device_silent": False,
    },
    "attention": {
        "acknowledged": True,
        "snoozed_until": None,
        "by": "ann",
        "note": "On my way.",
        "at": "2026-11-21T14:25:00Z",
        "maintenance": True,
        "silences": [
            {
                "silence": "3fa9c1d2",
                "until": "2026-11-21T18:00:00Z",
                "up_to": "CRITICAL",
                "maintenance": True,
                "reason": "new burner",
                "by": "bob",
            }
        ],
    },
    "windows": [
        {
            "size_ms": 1000,
            "start": "2026-11-21T14:19:25Z",
            "count": 2,
            "mean": 98.5,
            "min": 97.5,
            "max": 99.5,
            "deviation": 1.0,
            "first": 97.5,
            "last": 99.5,
            "trend": 4.0,
        }
    ],
    "warning": {"low": 10.0, "high": 80.0},
    "critical": {"high": 95.0},
    "rules": [],
}
STATUS = Operation(
    method="get",
    path="/sensors/{id}/status",
    name="getSensorStatus",
    tag="sensors",
    summary="How a sensor stands",
    description="Its last value and when it was seen, its severity and since when, who looks after its alarm and what keeps"
    " people from being told, its newest windows of 1, 5 and 10 s, and the ranges that it is judged by: as they are in the"
    " database, so a moment after the readings.",
    answers={200: Answer("How it stands.", [Content(form=Status, examples={"alarm": _STATUS})])},
    kinds=(*ANY, *_WRITERS, "unknown-sensor", "not-found", "busy", "database-unavailable"),
    parameters=(
        Parameter(
            "id",
            "path",
            "A `sensor_uuid`, or a `sensor_id`.",
            {"type": "string", "minLength": 1, "maxLength": 128},
            _SENSOR,
        ),
    ),
)


def _told(
    path: str, name: str, words: tuple[str, str], content: Content, kinds: tuple[str, ...] = ()
) -> Operation:
    summary, description = words
    answers = {200: Answer(summary, [content])}
    return Operation("get", path, name, "operation", summary, description, answers, (*ANY, *kinds))


_CHECKED = {"name": "broker", "ok": True, "detail": "readings has a leader everywhere"}
OPERATION = (
    _told(
        "/health",
        "getHealth",
        ("The process runs", "For who restarts it: it says nothing of Kafka or the database."),
        Content(form=Alive, examples={"alive": {"status": "alive"}}),
    ),
    _told(
        "/ready",
        "getReady",
        (
            "Kafka takes records now",
            "For who sends it requests; where it does not, the problem has the failing `checks`.",
        ),
        Content(
            form=Ready, examples={"ready": {"status": "ready", "checks": [_CHECKED], "topic": "readings"}}
        ),
        ("rate-limited", "registry-unavailable", "kafka-unavailable"),
    ),
    _told(
        "/metrics",
        "getMetrics",
        ("Metrics for Prometheus", "In Prometheus' text format; docs/operations.md tells what each means."),
        Content("text/plain"),
        ("rate-limited",),
    ),
    revalidated(
        _told("/openapi.json", "getOpenapi", ("This document", "OpenAPI 3.1."), Content(form=dict[str, Any]))
    ),
    revalidated(
        _told(
            "/docs",
            "getDocs",
            ("This document as a page", "Needs no script, and nothing from elsewhere."),
            Content("text/html"),
        )
    ),
)

TITLE = Title(
    name="streamproc gateway",
    version=version("streamproc"),
    description="Devices post readings, and are answered once Kafka has them. Every refusal is a problem (RFC 9457,"
    " `application/problem+json`): its `type` is `urn:streamproc:problem:<kind>`, its `detail` says what to do."
    " Unknown paths are answered 404 `not-found`; 429 and 503 say with `Retry-After` when to try again.",
    tags={
        "ingest": "Readings in.",
        "sensors": "How sensors stand.",
        "admin": "The registry: sensors, devices, their keys; how people are told of them.",
        "operation": "Health, readiness, metrics, and this document.",
    },
    schemes={
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": "The key of `INGEST_API_KEY`, where that is set.",
        },
        "deviceKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Device-Key",
            "description": "A device's own key, where `STREAMPROC_DEVICE_KEYS` requires one.",
        },
        "adminKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Admin-Key",
            "description": "The key of `STREAMPROC_ADMIN_API_KEY`.",
        },
    },
)


def described(settings: Settings) -> tuple[Operation, ...]:
    """The gateway's routes, with the keys that these settings want."""
    keyed = tuple(replace(operation, security=_keys(operation, settings)) for operation in (*INGEST, STATUS))
    return (*keyed, *((*ADMIN, *DOCUMENTS) if settings.admin_api_key else ()), *OPERATION)


def _keys(operation: Operation, settings: Settings) -> tuple[str, ...]:
    """The keys any of which will do; with devices' keys, the one for all is for what is no packet."""
    required = settings.device_keys == "required"
    keys: tuple[str, ...] = ("deviceKey",) if required else ()
    if settings.ingest_api_key and not (required and operation.path == PACKETS):
        keys += ("apiKey",)
    return keys
