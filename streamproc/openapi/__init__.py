"""Builds the OpenAPI 3.1 document from the types that are decoded and encoded, and from what each route says of itself. Pure.

A route is described by an `Operation`; a stage hands over its list of them, and the problems that it refuses with. A test
compares what is described with what is served. `pages` serves the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from string import ascii_lowercase
from typing import Any, Literal

import msgspec

Method = Literal["get", "post", "put", "delete"]
JSON, LINES, PROBLEM = "application/json", "application/x-ndjson", "application/problem+json"
_REF = "#/components/schemas/{name}"
_RETRIED = frozenset((429, 503))
#: After the status of refusals that are of different kinds.
_LETTERS = ascii_lowercase
_indent = re.compile(r"\n[ \t]+")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the path or the query, or a header; `schema` is a JSON schema."""

    name: str
    place: Literal["path", "query", "header"]
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    example: Any = None


@dataclass(frozen=True, slots=True)
class Content:
    """A body of one media type; `form` is the type of a JSON body (a union may be), None: text.

    `examples` are bodies by name, each as it would be decoded.
    """

    media_type: str = JSON
    form: Any = None
    examples: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered where nothing is refused."""

    description: str
    contents: Sequence[Content] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """A route as people are told of it.

    `kinds` are the problems that it may answer; `security` names schemes, any of which will do (none: it is open to all).
    """

    method: Method
    path: str
    name: str
    tag: str
    summary: str
    description: str
    answers: Mapping[int, Answer]
    kinds: Sequence[str] = ()
    parameters: Sequence[Parameter] = ()
    bodies: Sequence[Content] = ()
    security: Sequence[str] = ()
    body_required: bool = True


def revalidated(operation: Operation) -> Operation:
    """The operation with what `pages.unless_known` answers besides."""
    unchanged = Answer("It is as it was: `If-None-Match` has its `ETag`.")
    return replace(operation, answers={**operation.answers, 304: unchanged})


@dataclass(frozen=True, slots=True)
class Title:
    """What the document says of the whole: `tags` and `schemes` (security schemes) are by name."""

    name: str
    version: str
    description: str
    tags: Mapping[str, str]
    schemes: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Problems:
    """What a stage refuses with (RFC 9457): `kinds` to status and title, and the `form` of the body."""

    kinds: Mapping[str, tuple[int, str]]
    form: Any


def document(title: Title, operations: Sequence[Operation], problems: Problems) -> dict[str, Any]:
    """Make the document of these operations; tags and schemes that none of them names are left out."""
    forms = [
        content.form
        for operation in operations
        for content in _contents(operation)
        if content.form is not None
    ]
    schemas, components = msgspec.json.schema_components([problems.form, *forms], ref_template=_REF)
    by_form = dict(zip(map(id, [problems.form, *forms]), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, by_form, problems)
    shared = _shared(paths)
    used = {name for operation in operations for name in operation.security}
    tags = {operation.tag for operation in operations}
    return {
        "openapi": "3.1.0",
        "info": {"title": title.name, "version": title.version, "description": title.description},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in title.tags.items() if name in tags],
        "paths": paths,
        "components": {
            "schemas": {name: _tidy(schema) for name, schema in sorted(components.items())},
            "responses": shared,
            "securitySchemes": {name: dict(scheme) for name, scheme in title.schemes.items() if name in used},
        },
    }


def _shared(paths: Mapping[str, Mapping[str, dict[str, Any]]]) -> dict[str, Any]:
    """Put a reference in place of each refusal that several operations give: the document is a third as long."""
    places: dict[bytes, list[tuple[dict[str, Any], str]]] = {}
    for methods in paths.values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if int(status) >= HTTPStatus.BAD_REQUEST:
                    text = msgspec.json.encode([status, response])
                    places.setdefault(text, []).append((operation["responses"], status))
    shared: dict[str, Any] = {}
    for theirs in places.values():
        (responses, status), *others = theirs
        if others:
            same = sum(name.startswith(f"Refused{status}") for name in shared)
            name = f"Refused{status}{_LETTERS[same]}"
            shared[name] = responses[status]
            for each, at in theirs:
                each[at] = {"$ref": f"#/components/responses/{name}"}
    return shared


def _contents(operation: Operation) -> Iterable[Content]:
    yield from operation.bodies
    for answer in operation.answers.values():
        yield from answer.contents


def _operation(operation: Operation, schemas: Mapping[int, Any], problems: Problems) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "security": [{name: []} for name in operation.security],
        "responses": _responses(operation, schemas, problems),
    }
    if operation.parameters:
        told["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.bodies:
        told["requestBody"] = {
            "required": operation.body_required,
            "content": {body.media_type: _content(body, schemas) for body in operation.bodies},
        }
    return told


def _parameter(parameter: Parameter) -> dict[str, Any]:
    told = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }
    return told if parameter.example is None else told | {"example": parameter.example}


def _content(content: Content, schemas: Mapping[int, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"} if content.form is None else dict(schemas[id(content.form)])
    if content.description:
        schema |= {"description": content.description}
    told: dict[str, Any] = {"schema": schema}
    if content.examples:
        told["examples"] = {name: {"value": value} for name, value in content.examples.items()}
    return told


def _responses(operation: Operation, schemas: Mapping[int, Any], problems: Problems) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        response: dict[str, Any] = {"description": answer.description}
        if answer.contents:
            response["content"] = {each.media_type: _content(each, schemas) for each in answer.contents}
        if answer.headers:
            response["headers"] = {name: _header(text) for name, text in answer.headers.items()}
        told[str(status)] = response
    kinds: dict[int, list[str]] = {}
    for kind in operation.kinds:
        kinds.setdefault(problems.kinds[kind][0], []).append(kind)
    for status, some in sorted(kinds.items()):
        titles = {kind: problems.kinds[kind][1] for kind in some}
        told[str(status)] = _refusal(status, titles, schemas[id(problems.form)])
    return told


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


def _refusal(status: int, titles: Mapping[str, str], schema: Any) -> dict[str, Any]:
    """Tell of one status which problems have it."""
    told: dict[str, Any] = {
        "description": "; ".join(f"`{kind}`: {title.lower()}" for kind, title in titles.items()),
        "content": {
            PROBLEM: {
                "schema": dict(schema),
                "examples": {
                    kind: {"value": _example(kind, status, title)} for kind, title in titles.items()
                },
            }
        },
    }
    headers = {}
    if status in _RETRIED:
        headers["Retry-After"] = _header("seconds after which to try again", "integer")
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = _header("the header that a key is sent in")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _header("the methods that there are")
    return told | ({"headers": headers} if headers else {})


def _example(kind: str, status: int, title: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": f"urn:streamproc:problem:{kind}",
        "title": title,
        "status": status,
        "detail": "what is wrong with this request, in words",
    }
    return told | ({"retry_after": 1} if status in _RETRIED else {})


def _tidy(schema: Any) -> Any:
    """Take a docstring's indentation out of a schema's description, and defaults of null, which say nothing."""
    if isinstance(schema, Mapping):
        kept = {name: _tidy(value) for name, value in schema.items() if (name, value) != ("default", None)}
        if isinstance(text := kept.get("description"), str):
            kept["description"] = _indent.sub("\n", text)
        return kept
    if isinstance(schema, list):
        return [_tidy(value) for value in schema]
    return schema
