"""Refusals as problem details (RFC 9457), each kind with its status and title."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from streamproc.gateway.answers import Error, ProblemDetails
from streamproc.openapi import Problems

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import MultiMapping

    from streamproc.gateway.answers import Fault
    from streamproc.gateway.batch import Batch

#: Kind to status and title; `type` in the answer is `urn:streamproc:problem:<kind>`.
KINDS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request is not HTTP"),
    "header-repeated": (400, "A header is there more than once"),
    "malformed": (400, "The body is not JSON"),
    "framing": (400, "The body's framing is broken"),
    "encoding-broken": (400, "The body is not compressed as it says"),
    "key-missing": (401, "An API key is needed"),
    "key-wrong": (403, "The API key is not valid"),
    "certificate-missing": (403, "A client certificate is needed"),
    "key-expired": (403, "The key has expired"),
    "device-disabled": (403, "The device is disabled"),
    "foreign-device": (403, "The device is another one"),
    "foreign-sensor": (403, "The sensor is another device's"),
    "unknown-sensor": (404, "The sensor is not registered"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "slow-body": (408, "The body did not arrive in time"),
    "slow-head": (408, "The request's head did not arrive in time"),
    "too-large": (413, "The body is too large"),
    "too-many-readings": (413, "There are too many readings"),
    "too-many-packets": (413, "There are too many packets"),
    "url-too-long": (414, "The URL is too long"),
    "encoding": (415, "The content encoding is not supported"),
    "media-type": (415, "The content type is not supported"),
    "invalid": (422, "The readings are not valid"),
    "ts-ahead": (422, "A reading is from the future"),
    "entry-unknown": (404, "The registry has no such entry"),
    "entry-refused": (409, "The registry does not take the change"),
    "entry-changed": (412, "The entry has been changed meanwhile"),
    "entry-invalid": (422, "The entry is not valid"),
    "head-too-large": (431, "The request's head is too large"),
    "rate-limited": (429, "There are too many requests"),
    "internal": (500, "The gateway failed"),
    "busy": (503, "The gateway is busy"),
    "registry-unavailable": (503, "The registry is not known yet"),
    "admin-unavailable": (503, "The registry cannot be edited now"),
    "registry-not-sent": (503, "The change has not reached the topic"),
    "database-unavailable": (503, "The database is not available"),
    "kafka-unavailable": (503, "Kafka is not available"),
}
#: The same, as the OpenAPI document is made of them.
TOLD = Problems(KINDS, ProblemDetails)
#: Those that every route may answer.
ANY = (
    *("bad-request", "header-repeated", "url-too-long", "slow-head", "head-too-large"),
    *("method-not-allowed", "internal"),
)
#: Errors that a problem lists; its results have all.
_ERRORS = 100
_part = re.compile(r"[^.\[\]]+")


class Problem(Exception):  # noqa: N818  # RFC 9457's own word
    """Why a request is refused; `member` are further members of ProblemDetails, `headers` go onto the answer."""

    def __init__(
        self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **member: Any
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.member = member

    def response(self) -> web.Response:
        """Make the answer to the client."""
        status, title = KINDS[self.kind]
        body = ProblemDetails(
            type=f"urn:streamproc:problem:{self.kind}",
            title=title,
            status=status,
            detail=self.detail,
            **self.member,
        )
        return web.Response(
            status=status,
            body=msgspec.json.encode(body),
            content_type="application/problem+json",
            headers=self.headers,
        )


def only(headers: MultiMapping[str], name: str) -> str | None:
    """The value of a header, None where it is not there; raises the Problem of one that is there twice.

    Which of both counts would be a guess, and whatever stands before the gateway may guess otherwise.
    """
    given = headers.getall(name, ())
    if len(given) > 1:
        raise Problem("header-repeated", f"send one header {name}, not {len(given)}", field=str(name))
    return given[0] if given else None


def unavailable(kind: str, detail: str, retry_after_seconds: int = 1, **member: Any) -> Problem:
    """Make a 503 that says when to try again; a second outlasts a change of leader, and is soon enough."""
    headers = {"Retry-After": str(retry_after_seconds)}
    return Problem(kind, detail, headers=headers, retry_after=retry_after_seconds, **member)


def of_fault(fault: Fault, detail: str | None = None, **member: Any) -> Problem:
    """Make the problem of a fault that all of the request has."""
    wait = fault.retry_after
    headers = {} if wait is None else {"Retry-After": str(wait)}
    if detail is None:
        detail = f"{fault.field}: {fault.reason}" if fault.field else fault.reason
    member = {"field": fault.field, "limit": fault.limit, "retry_after": wait, **member}
    return Problem(fault.kind, detail, headers=headers, **member)


def of_batch(batch: Batch) -> Problem:
    """Make the problem of a body of which nothing is taken, with the same results as an answer has.

    Its kind is that of all faults if their statuses agree; else the first that trying again may mend, else `invalid`.
    """
    paths = [
        (fault, _join(batch.path.format(result.index), fault.field))
        for result in batch.results
        for fault in result.rejected
    ]
    fault, path = _leading(paths)
    detail = f"{path}: {fault.reason}" if path else fault.reason
    if len(paths) > 1:
        detail = f"{detail} (and {len(paths) - 1} more: see results)"
    return of_fault(
        fault,
        detail,
        field=path,
        accepted=0,
        rejected=batch.rejected,
        errors=[Error(each.kind, each.reason, _pointer(at)) for each, at in paths[:_ERRORS]],
        results=batch.results,
    )


def _leading(faults: list[tuple[Fault, str | None]]) -> tuple[Fault, str | None]:
    statuses = {KINDS[fault.kind][0] for fault, _ in faults}
    if len(statuses) == 1:
        return faults[0]
    for fault, path in faults:
        if fault.retry_after is not None:
            return fault, path
    fault, path = faults[0]
    return msgspec.structs.replace(fault, kind="invalid"), path


def _join(item: str, path: str | None) -> str | None:
    if item and path:
        return f"{item}{path}" if path.startswith("[") else f"{item}.{path}"
    return item or path


def _pointer(path: str | None) -> str | None:
    """Write a path as a JSON pointer (RFC 6901), as a fragment.

    >>> _pointer("readings[3].value"), _pointer("[0].device_uuid")
    ('#/readings/3/value', '#/0/device_uuid')
    """
    if path is None:
        return None
    return "".join(f"/{part}" for part in _part.findall(path)).replace("/", "#/", 1)


_BY_STATUS = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}


def of_http(error: web.HTTPException) -> Problem:
    """Turn what aiohttp itself refuses into a problem."""
    kind = _BY_STATUS.get(error.status, "internal")
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return Problem(kind, error.reason, headers=headers)
