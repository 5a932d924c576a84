"""The console's description of itself: whole, valid, and true of what it answers."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from streamproc.console.operations import TITLE, TOLD, described
from streamproc.console.problems import KINDS
from streamproc.openapi import document
from streamproc.openapi.pages import page
from tests.shell.test_console import database, filled, served

__all__ = ["database", "filled"]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """The document where a token is wanted."""
    return document(TITLE, described(needs_token=True), TOLD)


async def test_every_route_is_described_and_no_other(told: dict[str, Any]) -> None:
    """Methods and paths of the application are those of the document."""
    async with served() as client:
        assert client.app is not None
        routes = [route for route in client.app.router.routes() if route.method != "HEAD"]
        found = {(route.method.lower(), route.resource.canonical) for route in routes if route.resource}
        assert (await (await client.get("/openapi.json")).json())["paths"].keys() == told["paths"].keys()
        for path in ("/", "/openapi.json", "/docs"):
            tag = (await client.get(path)).headers["ETag"]
            again = await client.get(path, headers={"If-None-Match": tag})
            assert str(again.status) in told["paths"][path]["get"]["responses"].keys() - {"200"}
    assert found == {(method, path) for path, methods in told["paths"].items() for method in methods}


@pytest.mark.live
def test_the_document_is_valid(told: dict[str, Any]) -> None:
    """It is OpenAPI 3.1, operations have names of their own, and each kind of problem stands somewhere."""
    schema = schemathesis.openapi.from_dict(told)
    schema.validate()
    operations = [each for methods in told["paths"].values() for each in methods.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    text = str(told)
    assert [kind for kind in KINDS if f"'{kind}'" not in text] == []


def test_a_token_is_told_where_it_is_wanted(told: dict[str, Any]) -> None:
    """Of the API alone, and only where one is set."""
    for path, methods in told["paths"].items():
        assert methods["get"]["security"] == ([{"token": []}] if path.startswith("/api/") else [])
    assert "Authorization" in page(told)
    free = document(TITLE, described(needs_token=False), TOLD)
    assert all(each["get"]["security"] == [] for each in free["paths"].values())


async def test_answers_are_of_their_types(told: dict[str, Any], database: Any) -> None:
    """Each of the API's, of a sensor in alarm and of one that has sent nothing."""
    async with served(database=database) as client:
        for path, methods in told["paths"].items():
            if not path.startswith("/api/") or path == "/api/live":
                continue
            content = methods["get"]["responses"]["200"]["content"]["application/json"]
            schema = jsonschema_rs.validator_for({**content["schema"], "components": told["components"]})
            for sensor in ("ab%2F", "quiet"):
                response = await client.get(path.replace("{id}", sensor))
                assert response.status == 200
                schema.validate(await response.json())
