"""Refusals as problem details (RFC 9457): each kind with its status and title."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web

#: Kind to status and title; `type` in the answer is `urn:streamproc:problem:<kind>`.
KINDS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request is not HTTP"),
    "parameter": (400, "A parameter is wrong"),
    "token-missing": (401, "A token is needed"),
    "token-wrong": (401, "The token is not valid"),
    "unknown-sensor": (404, "The sensor is not registered"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "host": (421, "The console goes by another name"),
    "internal": (500, "The console failed"),
    "busy": (503, "The console is busy"),
    "database-unavailable": (503, "The database is not available"),
}
_BY_STATUS = {400: "bad-request", 404: "not-found", 405: "method-not-allowed"}
#: A first login at the database, or its restart, takes some seconds.
_RETRY_SECONDS = 5


class ProblemDetails(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Every refusal; `field` names the parameter at fault, `retry_after` the seconds after which to try again."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    retry_after: int | None = None


class Problem(Exception):  # noqa: N818  # RFC 9457's own word
    """Why a request is refused; `headers` go onto the answer."""

    def __init__(
        self, kind: str, detail: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.field = kind, detail, field
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """Make the answer to the client."""
        status, title = KINDS[self.kind]
        retry = self.headers.get("Retry-After")
        body = ProblemDetails(
            type=f"urn:streamproc:problem:{self.kind}",
            title=title,
            status=status,
            detail=self.detail,
            field=self.field,
            retry_after=int(retry) if retry else None,
        )
        return web.Response(
            status=status,
            body=msgspec.json.encode(body),
            content_type="application/problem+json",
            headers=self.headers,
        )


def unavailable(kind: str, detail: str) -> Problem:
    """Make a 503 that says when to try again."""
    return Problem(kind, detail, headers={"Retry-After": str(_RETRY_SECONDS)})


def of_http(error: web.HTTPException) -> Problem:
    """Turn what aiohttp itself refuses into a problem."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return Problem(_BY_STATUS.get(error.status, "internal"), error.reason, headers=headers)
