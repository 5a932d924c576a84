"""`/openapi.json`, and `/docs`: the same document as one HTML page, without scripts or anything from elsewhere."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property
from hashlib import sha256
from html import escape
from typing import Any

from aiohttp import hdrs, web

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere}
h1{line-height:1.2}h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
code,pre{font:14px/1.4 ui-monospace,monospace}
pre{background:var(--soft);padding:.75rem;overflow-x:auto;border-radius:.4rem;overflow-wrap:normal}
nav ul{padding:0;list-style:none}nav li{margin:.25rem 0}
.method{display:inline-block;min-width:3.5rem;font-weight:700;text-transform:uppercase}
table{border-collapse:collapse;width:100%;display:block;overflow-x:auto}
td,th{border-top:1px solid var(--line);padding:.35rem .75rem .35rem 0;text-align:left;vertical-align:top}
td:first-child{white-space:nowrap}
details{margin:.5rem 0}summary{cursor:pointer}
"""
_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
#: Nothing may be loaded or run but the style above, and nobody may put the page into a frame.
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_code = re.compile(r"`([^`]+)`")
_NAME = "#/components/schemas/"
_RESPONSE = "#/components/responses/"


class Pages:
    """The document in its two forms, made once, when somebody asks: it takes longer than all else of a start."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._document = cache(make)

    @cached_property
    def _json(self) -> bytes:
        return json.dumps(self._document(), ensure_ascii=False, separators=(",", ":")).encode()

    @cached_property
    def _html(self) -> bytes:
        return page(self._document()).encode()

    def add_to(self, app: web.Application) -> None:
        """Add the two routes."""
        app.router.add_get("/openapi.json", self.openapi)
        app.router.add_get("/docs", self.docs)

    async def openapi(self, request: web.Request) -> web.Response:
        """GET /openapi.json: the document, for programs; pages of other sites may read it, too."""
        headers = _SAFE | {"Access-Control-Allow-Origin": "*"}
        return unless_known(request, self._json, "application/json", headers)

    async def docs(self, request: web.Request) -> web.Response:
        """GET /docs: the document, for people."""
        headers = _SAFE | {"Content-Security-Policy": _POLICY}
        return unless_known(request, self._html, "text/html", headers)


def unless_known(
    request: web.Request, body: bytes, content_type: str, headers: Mapping[str, str]
) -> web.Response:
    """Answer with the body, or 304 to who has it already; to be asked again each time, for a gateway may be newer."""
    tag = f'"{sha256(body).hexdigest()[:16]}"'
    headers = {**headers, hdrs.ETAG: tag, hdrs.CACHE_CONTROL: "no-cache"}
    if tag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)


def page(document: Mapping[str, Any]) -> str:
    """The document as HTML."""
    info = document["info"]
    title, shared = escape(info["title"]), document["components"]["responses"]
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    parts = [
        f"<h1>{title} <small>{escape(info['version'])}</small></h1>",
        f'<p>{_text(info["description"])}</p><p>For programs: <a href="openapi.json">openapi.json</a>.</p>',
        f"<nav><ul>{''.join(_entry(*each) for each in operations)}</ul></nav>",
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2><p>{_text(tag['description'])}</p>")
        parts += [_operation(*each, shared) for each in operations if tag["name"] in each[2]["tags"]]
    parts += _schemes(document["components"]["securitySchemes"])
    parts.append("<h2>Refusals</h2>")
    parts += [
        f'<section id="{name}">{_answer(_status(name), each)}</section>' for name, each in shared.items()
    ]
    parts.append("<h2>Types</h2>")
    parts += [_type(name, schema) for name, schema in document["components"]["schemas"].items()]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>"
    )


def _entry(method: str, path: str, operation: Mapping[str, Any]) -> str:
    place = escape(operation["operationId"])
    summary = escape(operation["summary"])
    return f'<li><span class="method">{method}</span> <a href="#{place}"><code>{escape(path)}</code></a> {summary}</li>'


def _operation(method: str, path: str, operation: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    parts = [
        f'<section id="{escape(operation["operationId"])}">',
        f'<h3><span class="method">{method}</span> <code>{escape(path)}</code></h3>',
        f"<p><strong>{escape(operation['summary'])}.</strong> {_text(operation['description'])}</p>",
    ]
    if keys := [name for way in operation["security"] for name in way]:
        parts.append(f"<p>Key: {' or '.join(f'<code>{escape(name)}</code>' for name in keys)}.</p>")
    if parameters := operation.get("parameters"):
        rows = (
            (f"<code>{escape(each['name'])}</code> ({each['in']})", each["description"])
            for each in parameters
        )
        parts.append(_table(rows))
    if body := operation.get("requestBody"):
        parts.append("<h4>Body</h4>")
        parts += [_content(kind, content) for kind, content in body["content"].items()]
    parts.append("<h4>Answers</h4>")
    refused: list[str] = []
    for status, answer in operation["responses"].items():
        if reference := answer.get("$ref"):
            name = reference.removeprefix(_RESPONSE)
            refused.append(f'<a href="#{name}">{status}</a> {_text(shared[name]["description"])}')
        else:
            parts.append(_answer(status, answer))
    parts += [f"<p>{line}</p>" for line in refused]
    return "".join([*parts, "</section>"])


def _status(name: str) -> str:
    return "".join(filter(str.isdigit, name))


def _answer(status: str, answer: Mapping[str, Any]) -> str:
    headers = "".join(
        f"<p>Header <code>{escape(name)}</code>: {_text(header['description'])}.</p>"
        for name, header in answer.get("headers", {}).items()
    )
    contents = "".join(_content(kind, content) for kind, content in answer.get("content", {}).items())
    told = f"<strong>{status}</strong> {_text(answer['description'])}"
    return f"<details><summary>{told}</summary>{headers}{contents}</details>"


def _content(kind: str, content: Mapping[str, Any]) -> str:
    schema = content["schema"]
    examples = "".join(
        f"<pre>{escape(json.dumps(example['value'], ensure_ascii=False, indent=2))}</pre>"
        for example in content.get("examples", {}).values()
    )
    return f"<p><code>{escape(kind)}</code>: {_form(schema)} {_text(schema.get('description', ''))}</p>{examples}"


def _schemes(schemes: Mapping[str, Any]) -> list[str]:
    if not schemes:
        return []
    rows = (
        (f"<code>{escape(name)}</code>", f"`{scheme.get('name', 'Authorization')}`: {scheme['description']}")
        for name, scheme in schemes.items()
    )
    return ["<h2>Keys</h2>", _table(rows)]


def _type(name: str, schema: Mapping[str, Any]) -> str:
    told = f'<section id="type-{escape(name)}"><h3>{escape(name)}</h3><p>{_text(schema.get("description", ""))}</p>'
    required = schema.get("required", ())
    rows = (
        (f"<code>{escape(field)}</code>{'' if field in required else ' (optional)'}", form)
        for field, form in schema.get("properties", {}).items()
    )
    return told + _table(((first, form) for first, form in rows), _form) + "</section>"


def _table(rows: Iterable[tuple[str, Any]], told: Any = None) -> str:
    told = told or _text
    cells = "".join(f"<tr><td>{first}</td><td>{told(second)}</td></tr>" for first, second in rows)
    return f"<table>{cells}</table>"


def _form(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if reference := schema.get("$ref"):
        name = escape(reference.removeprefix(_NAME))
        return f'<a href="#type-{name}">{name}</a>'
    if choices := schema.get("anyOf"):
        return " or ".join(map(_form, choices))
    if "enum" in schema:
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    kind = escape(str(schema.get("type", "anything")))
    if kind == "array" and isinstance(schema.get("items"), Mapping):
        return f"array of {_form(schema['items'])}"
    return f"{kind}{_bounds(schema)}"


def _bounds(schema: Mapping[str, Any]) -> str:
    names = ("format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
    told = ", ".join(f"{name} {schema[name]}" for name in names if name in schema)
    return f" ({escape(told)})" if told else ""


def _text(text: str) -> str:
    """Plain text with `code` in it, as HTML."""
    return _code.sub(r"<code>\1</code>", escape(text, quote=False))
