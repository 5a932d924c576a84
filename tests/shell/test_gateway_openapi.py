"""The gateway's description of itself: whole, valid, true of its examples, and readable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import schemathesis
from aiohttp import hdrs

from streamproc.core.codec import Packet, Single
from streamproc.gateway.operations import TITLE, described
from streamproc.gateway.problems import KINDS, TOLD
from streamproc.openapi import Operation, document
from streamproc.openapi.pages import page
from streamproc.settings import Settings
from tests.shell.served import Client, MemoryPublisher, application

#: Answered before there is a route: of no operation's own, or told of all in the document's description.
_OF_NO_ROUTE = {"not-found"}


#: All routes are there, and ask for keys.
ALL_KEYS = Settings.model_validate({"ingest_api_key": "k", "admin_api_key": "a" * 32})


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """The document where keys are wanted."""
    return document(TITLE, described(ALL_KEYS), TOLD)


def test_every_route_is_described_and_no_other(told: dict[str, Any]) -> None:
    """Methods and paths of the application are those of the document."""
    app = application(ALL_KEYS, MemoryPublisher())
    served = {
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.resource and route.method != hdrs.METH_HEAD
    }
    assert served == {(method, path) for path, methods in told["paths"].items() for method in methods}


@pytest.mark.live
def test_the_document_is_valid(told: dict[str, Any]) -> None:
    """It is OpenAPI 3.1, and every reference leads somewhere."""
    schema = schemathesis.openapi.from_dict(told)
    schema.validate()
    assert len(list(schema.get_all_operations())) == sum(map(len, told["paths"].values()))
    names = {node["$ref"].rpartition("/")[2] for node in walk(told) if "$ref" in node}
    assert names <= told["components"]["schemas"].keys() | told["components"]["responses"].keys()
    tags = {tag for node in operations(told) for tag in node["tags"]}
    assert tags == {tag["name"] for tag in told["tags"]}


def test_operations_have_names_of_their_own(told: dict[str, Any]) -> None:
    """Who makes a client of the document gets a function for each."""
    names = [operation["operationId"] for operation in operations(told)]
    assert len(names) == len(set(names))


def test_examples_are_of_their_types(told: dict[str, Any]) -> None:
    """Each example fits the schema beside it, and what is sent can be decoded."""
    found = 0
    for node in walk(told):
        for example in node.get("examples", {}).values() if "schema" in node else ():
            schema = {**node["schema"], "components": told["components"]}
            jsonschema_rs.validator_for(schema).validate(example["value"])
            found += 1
    assert found > 20
    packets = told["paths"]["/ingest/packets"]["post"]["requestBody"]["content"]["application/json"]
    assert msgspec.convert(packets["examples"]["one"]["value"], Packet)
    reading = told["paths"]["/ingest/readings"]["post"]["requestBody"]["content"]["application/json"]
    assert msgspec.convert(reading["examples"]["one"]["value"], Single)


def test_every_kind_of_problem_is_told_somewhere(told: dict[str, Any]) -> None:
    """No kind is missing from the document, and each stands at its status."""
    found: dict[str, set[int]] = {kind: {KINDS[kind][0]} for kind in _OF_NO_ROUTE}
    shared = told["components"]["responses"]
    for operation in operations(told):
        for status, told_of in operation["responses"].items():
            answer = shared[told_of["$ref"].rpartition("/")[2]] if "$ref" in told_of else told_of
            for kind in answer.get("content", {}).get("application/problem+json", {}).get("examples", {}):
                found.setdefault(kind, set()).add(int(status))
    assert found == {kind: {status} for kind, (status, _) in KINDS.items()}


def test_keys_are_told_where_they_are_wanted(told: dict[str, Any]) -> None:
    """With a key set the ingest wants it; without one, no operation does."""
    assert told["paths"]["/ingest/packets"]["post"]["security"] == [{"apiKey": []}]
    assert told["paths"]["/health"]["get"]["security"] == []
    unguarded = document(TITLE, described(Settings.model_validate({})), TOLD)
    assert {str(operation["security"]) for operation in operations(unguarded)} == {"[]"}
    assert unguarded["components"]["securitySchemes"] == {}


def test_devices_keys_are_told() -> None:
    """Where devices have keys, a packet wants one, and the key for all does for what is no packet."""
    both = document(
        TITLE, described(Settings.model_validate({"ingest_api_key": "k", "device_keys": "required"})), TOLD
    )
    assert both["paths"]["/ingest/packets"]["post"]["security"] == [{"deviceKey": []}]
    for path, method in (("/ingest/readings", "post"), ("/sensors/{id}/status", "get")):
        assert both["paths"][path][method]["security"] == [{"deviceKey": []}, {"apiKey": []}]


async def test_openapi_and_docs_are_served(client: Client, told: dict[str, Any]) -> None:
    """Both say what they are, and who has them already gets them no second time."""
    for path, kind in (("/openapi.json", "application/json"), ("/docs", "text/html")):
        response = await client.get(path)
        assert (response.status, response.content_type, response.charset) == (200, kind, "utf-8")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        again = await client.get(path, headers={"If-None-Match": response.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")
        assert (await client.head(path)).status == 200
        assert "304" in told["paths"][path]["get"]["responses"]
    assert (await (await client.get("/openapi.json")).json())["openapi"] == "3.1.0"
    policy = (await client.get("/docs")).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


class Reader(HTMLParser):
    """Reads a page: whether its elements close in order, what it links to, what it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.elements: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element."""
        self.elements.add(tag)
        if tag != "meta":
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                assert value not in self.ids
                self.ids.add(value or "")
            if name in {"href", "src"}:
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        """Take its end."""
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(told: dict[str, Any]) -> None:
    """It has no script, loads nothing, its elements close in order, and its links lead to places on it."""
    reader = Reader()
    reader.feed(page(told))
    reader.close()
    assert reader.open == []
    assert not reader.elements & {"script", "link", "img", "iframe", "form"}
    assert {link for link in reader.links if not link.startswith("#")} == {"openapi.json"}
    assert {link[1:] for link in reader.links if link.startswith("#")} <= reader.ids
    assert {operation["operationId"] for operation in operations(told)} <= reader.ids


def test_the_page_takes_texts_for_texts() -> None:
    """What looks like HTML in a description is not."""
    odd = Operation("get", "/<b>", "odd", "ingest", "<script>", 'a & "<i>"', {})
    text = page(document(TITLE, [odd], TOLD))
    assert "<script>" not in text
    assert "/&lt;b&gt;" in text


def test_more_routes_are_described_by_who_adds_them() -> None:
    """Another part's operations, with types and keys of its own, come into the document beside the others."""
    more = Operation("get", "/other/x", "getX", "admin", "x", "x", {}, security=("adminKey",))
    found = document(TITLE, [*described(Settings.model_validate({})), more], TOLD)
    assert found["paths"]["/other/x"]["get"]["security"] == [{"adminKey": []}]
    assert list(found["components"]["securitySchemes"]) == ["adminKey"]
    assert "admin" in {tag["name"] for tag in found["tags"]}


def operations(told: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All operations."""
    for methods in told["paths"].values():
        yield from methods.values()


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """All objects in it."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(child)


def test_docs_are_small(told: dict[str, Any]) -> None:
    """A phone gets either in one go."""
    assert len(json.dumps(told)) < 200_000
    assert len(page(told)) < 300_000
