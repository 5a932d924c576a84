"""Refusals as problem details (RFC 9457), each kind with its status and title."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamproc.gateway.answers import Fault

#: Kind to status and title; `type` in the answer is `urn:streamproc:problem:<kind>`.
KINDS: dict[str, tuple[int, str]] = {
    "malformed": (400, "The body is not JSON"),
    "framing": (400, "The body's framing is broken"),
    "key-missing": (401, "An API key is needed"),
    "key-wrong": (403, "The API key is not valid"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "slow-body": (408, "The body did not arrive in time"),
    "too-large": (413, "The body is too large"),
    "too-many-readings": (413, "There are too many readings"),
    "encoding": (415, "The content encoding is not supported"),
    "invalid": (422, "The readings are not valid"),
    "ts-ahead": (422, "A reading is from the future"),
    "internal": (500, "The gateway failed"),
    "busy": (503, "The gateway is busy"),
    "kafka-unavailable": (503, "Kafka is not available"),
}


class Problem(Exception):  # noqa: N818  # RFC 9457's own word
    """Why a request is refused; `member` goes into the answer as it is, `headers` onto it."""

    def __init__(
        self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **member: object
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.member = member

    def response(self) -> web.Response:
        """Make the answer to the client."""
        status, title = KINDS[self.kind]
        body = {
            "type": f"urn:streamproc:problem:{self.kind}",
            "title": title,
            "status": status,
            "detail": self.detail,
            **{name: value for name, value in self.member.items() if value is not None},
        }
        return web.Response(
            status=status,
            body=msgspec.json.encode(body),
            content_type="application/problem+json",
            headers=self.headers,
        )


def unavailable(kind: str, detail: str, retry_after_seconds: int = 1, **member: object) -> Problem:
    """Make a 503 that says when to try again; a second outlasts a change of leader, and is soon enough."""
    headers = {"Retry-After": str(retry_after_seconds)}
    return Problem(kind, detail, headers=headers, retry_after=retry_after_seconds, **member)


def of_fault(fault: Fault, detail: str) -> Problem:
    """Make the problem of a fault that all of the request has."""
    wait = fault.retry_after
    headers = {} if wait is None else {"Retry-After": str(wait)}
    return Problem(
        fault.kind, detail, headers=headers, field=fault.field, limit=fault.limit, retry_after=wait
    )


_BY_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}


def of_http(error: web.HTTPException) -> Problem:
    """Turn what aiohttp itself refuses into a problem."""
    kind = _BY_STATUS.get(error.status, "internal")
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return Problem(kind, error.reason, headers=headers)
