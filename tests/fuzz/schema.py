"""Requests made of the gateway's own OpenAPI document, right and wrong ones, and the answers held against it."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

#: An answer that takes longer is a hang: what waits for Kafka is answered after 10 s.
HANG_S = 60.0
#: With Kafka and the database there, none of these has an excuse but 503, which the document tells of.
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


def lines_of(_context: Any, value: Any) -> bytes:
    """A body of lines as it goes over the wire."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def requests_of_the_document(url: str, examples: int, number: int, keys: dict[str, str] | None = None) -> int:
    """Send so many requests to each operation, made by the seed `number`; gives how many were answered as the document says.

    Raises what schemathesis found, with the request as a curl command.
    """
    load_all_checks()
    schemathesis.serializer("application/x-ndjson")(lines_of)
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    answered = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result.err()
        operation = result.ok()
        for mode in GenerationMode if _can_be_wrong(operation) else [GenerationMode.POSITIVE]:
            answered += _requests_of(operation, mode, (url, examples, number), keys or {})
    return answered


def _can_be_wrong(operation: Any) -> bool:
    """Whether it takes anything: what takes nothing has no wrong requests."""
    return any(
        part for part in (operation.path_parameters, operation.headers, operation.query, operation.body)
    )


def _requests_of(
    operation: Any, mode: GenerationMode, how: tuple[str, int, int], keys: dict[str, str]
) -> int:
    url, examples, number = how
    answered = 0

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        nonlocal answered
        response = case.call(base_url=url, headers=keys, timeout=HANG_S)
        case.validate_response(response, checks=CHECKS)
        answered += 1

    send()
    return answered
