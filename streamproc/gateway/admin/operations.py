"""What the admin API's routes say of themselves, for the OpenAPI document and the page made of it."""

from __future__ import annotations

from typing import Any

import msgspec

from streamproc.gateway.admin.alarms import FILTERS
from streamproc.gateway.problems import ANY
from streamproc.openapi import Answer, Content, Operation, Parameter
from streamproc.records import ActionEntry, DeviceEntry, SensorEntry
from streamproc.store.edits import KINDS, Audited


class SensorPage(msgspec.Struct, frozen=True):
    """Sensors by name; `after` is where the next page begins."""

    sensors: list[SensorEntry]
    after: str | None


class DevicePage(msgspec.Struct, frozen=True):
    """Devices by name; `after` is where the next page begins."""

    devices: list[DeviceEntry]
    after: str | None


class ActionPage(msgspec.Struct, frozen=True):
    """Recommended actions by name; `after` is where the next page begins."""

    actions: list[ActionEntry]
    after: str | None


class AuditPage(msgspec.Struct, frozen=True):
    """Changes, newest first; `before` is where the next page begins."""

    audit: list[Audited]
    before: int | None


class NewKey(msgspec.Struct, frozen=True):
    """A device's new key: `key` is told this once. Times in ms."""

    key_id: str
    key: str
    created_at: int
    expires_at: int | None


class KeyWish(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a new key is to be like; it ends by itself at `expires_at`, in ms."""

    expires_at: int | None = None


_KINDS = (*ANY, "key-missing", "key-wrong", "rate-limited", "admin-unavailable")
_EDITS = (
    *(
        "malformed",
        "framing",
        "encoding",
        "slow-body",
        "too-large",
        "busy",
        "entry-unknown",
        "entry-refused",
        "entry-changed",
    ),
    *("entry-invalid", "registry-not-sent"),
)


def put_form(form: type[msgspec.Struct], *, named: bool = True) -> type[msgspec.Struct]:
    """What is put: the entry, whose name may be left out, for the path has it; or what is posted, which has none."""
    name, *rest = msgspec.structs.fields(form)
    more = [(each.name, each.type, msgspec.field(**_default(each))) for each in rest]
    made = [(name.name, str | msgspec.UnsetType, msgspec.UNSET), *more] if named else more
    return msgspec.defstruct(
        f"{form.__name__}{'Put' if named else 'Post'}",
        made,
        namespace={"__doc__": form.__doc__},
        forbid_unknown_fields=True,
    )


def _default(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    made = field.default_factory
    return {"default": field.default} if made is msgspec.NODEFAULT else {"default_factory": made}


VERSION = (
    Parameter(
        "If-Match",
        "header",
        "The ETag of the version that the change is for; `*`: only if there is one.",
        example='"3"',
    ),
    Parameter("If-None-Match", "header", "`*`: only if there is none yet."),
)
LIMIT = Parameter("limit", "query", "How many.", {"type": "integer", "minimum": 1, "maximum": 10_000})
AFTER = Parameter("after", "query", "Those whose names come after this one.")
ETAG = {"ETag": "the entry's version"}
_PUT = ETAG | {
    "Ranges-Overruled-By": "only where limits in `alert_thresholds` will soon have changed the ranges named here again"
}
_SENSOR: dict[str, Any] = {"name": "boiler", "unit": "°C", "critical": {"high": 95.0}}
_EXAMPLES = {
    SensorEntry: {"sensor": "boiler-1", **_SENSOR},
    DeviceEntry: {"device": "pump-1", "site": "north"},
}


_PLACES = {
    "name": "The name of the entry.",
    "kind": "A kind of sensors, as in their entries; `*`: all.",
    "cause": "What happened.",
}


def operation(
    route: tuple[Any, str, str], words: str, answers: dict[int, Answer], *parameters: Parameter, **more: Any
) -> Operation:
    """A route of the admin API: method, path and name, what it does, what it answers."""
    method, path, name = route
    told = {parameter.name for parameter in parameters}
    places = [
        Parameter(name, "path", words)
        for name, words in _PLACES.items()
        if f"{{{name}}}" in path and name not in told
    ]
    edits = () if method == "get" else _EDITS
    kinds = (*_KINDS, *edits, *({"entry-unknown", "entry-invalid"} - set(edits)))
    return Operation(
        method,
        path,
        name,
        "admin",
        words,
        "",
        answers,
        kinds,
        parameters=(*places, *parameters),
        security=("adminKey",),
        **more,
    )


def _of(
    kind: str, form: type[msgspec.Struct], page: type[msgspec.Struct], filters: tuple[str, ...]
) -> list[Operation]:
    """The routes of one kind of entries."""
    title, several, one = kind.capitalize(), f"/admin/{kind}s", f"/admin/{kind}s/{{name}}"
    entry = [Content(form=form, examples={"entry": _EXAMPLES[form]})]
    narrowed = [Parameter(name, "query", f"Those of this {name}.") for name in filters]
    whole = (
        [Parameter("sensors", "query", "`true`: its sensors, too.", {"type": "boolean"})]
        if kind == "device"
        else []
    )
    headers = _PUT if kind == "sensor" else ETAG
    return [
        operation(
            ("get", several, f"list{title}s"),
            f"The {kind}s of the registry",
            {200: Answer("By name.", [Content(form=page)])},
            *narrowed,
            AFTER,
            LIMIT,
        ),
        operation(
            ("get", one, f"get{title}"),
            f"One {kind}",
            {200: Answer("Its entry.", entry, ETAG)},
        ),
        operation(
            ("put", one, f"put{title}"),
            f"Make the registry hold this {kind}; its name may be left out of the body",
            {200: Answer("Changed.", entry, headers), 201: Answer("Added.", entry, headers)},
            *VERSION,
            bodies=[Content(form=put_form(form), examples={"entry": _EXAMPLES[form]})],
        ),
        operation(
            ("delete", one, f"delete{title}"),
            f"Take a {kind} out of the registry; its readings stay",
            {204: Answer("Removed.")},
            *VERSION,
            *whole,
        ),
    ]


class ActionPut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What people are to do, in one language or both; kind and cause are those of the path, and may be left out."""

    kind: str | msgspec.UnsetType = msgspec.UNSET
    cause: str | msgspec.UnsetType = msgspec.UNSET
    en: str | None = None
    es: str | None = None
    version: int = 1


def _of_actions() -> list[Operation]:
    """The routes of recommended actions."""
    one = "/admin/actions/{kind}/{cause}"
    text = {"en": "Check the pump's intake for air.", "es": "Compruebe si entra aire en la bomba."}
    entry = [Content(form=ActionEntry, examples={"entry": {"kind": "pressure", "cause": "spread", **text}})]
    return [
        operation(
            ("get", "/admin/actions", "listActions"),
            "What people are told to do, where users have set it",
            {200: Answer("By name.", [Content(form=ActionPage)])},
            Parameter("kind", "query", "Those of this kind."),
            Parameter("cause", "query", "Those of this cause."),
            AFTER,
            LIMIT,
        ),
        operation(
            ("get", one, "getAction"), "One recommended action", {200: Answer("Its entry.", entry, ETAG)}
        ),
        operation(
            ("put", one, "putAction"),
            "Have events of a cause, of sensors of a kind, tell people to do this",
            {200: Answer("Changed.", entry, ETAG), 201: Answer("Added.", entry, ETAG)},
            *VERSION,
            bodies=[Content(form=ActionPut, examples={"entry": text})],
        ),
        operation(
            ("delete", one, "deleteAction"),
            "Have such events tell streamproc's own words again",
            {204: Answer("Removed.")},
            *VERSION,
        ),
    ]


ADMIN = (
    *_of("sensor", SensorEntry, SensorPage, FILTERS),
    *_of("device", DeviceEntry, DevicePage, ("site", "tenant")),
    *_of_actions(),
    operation(
        ("post", "/admin/devices/{name}/keys", "addKey"),
        "A new key of a device, which has two at most",
        {201: Answer("The key, told this once.", [Content(form=NewKey)])},
        bodies=[Content(form=KeyWish)],
        body_required=False,
    ),
    operation(
        ("delete", "/admin/devices/{name}/keys/{key_id}", "revokeKey"),
        "Take a key from a device, on all gateways within a second",
        {204: Answer("Revoked.")},
        Parameter("key_id", "path", "The key's id."),
    ),
    operation(
        ("get", "/admin/audit", "getAudit"),
        "Who has changed what",
        {200: Answer("Newest first.", [Content(form=AuditPage)])},
        Parameter("kind", "query", "Of one entry: its kind.", {"enum": list(KINDS)}),
        Parameter("name", "query", "Of one entry: its name."),
        Parameter("before", "query", "Older than this one's id.", {"type": "integer", "minimum": 1}),
        LIMIT,
    ),
)
