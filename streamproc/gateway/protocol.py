"""aiohttp's connection, which answers what is no HTTP as a problem, too."""

from __future__ import annotations

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from streamproc.gateway.problems import Problem

#: A URL's bytes: the longest is a sensor's status, 128 characters of 4 bytes, each written as three.
URL_BYTES = 4_096
#: A header's: a proxy's or a token may be long. Their number bounds them, as 16 KiB do while they come (`connections`).
FIELD_BYTES, FIELDS = 8_190, 128
#: aiohttp's reason quotes what was sent, over several lines; the first says what is wrong with it.
_REASON = 200


class Answering(web.RequestHandler):
    """A connection whose every answer is one of the gateway's."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp refuses before there is a request, and what failed after; the connection ends."""
        super().handle_error(
            request, status, exc, message
        )  # for its log, and to see whether it can be answered
        if status >= web.HTTPInternalServerError.status_code:
            problem = Problem("internal", "see the gateway's log")
        else:
            problem = _refusal(exc, message or "")
        response = problem.response()
        response.force_close()
        return response


def _refusal(error: BaseException | None, message: str) -> Problem:
    """Name what is beyond its bound; aiohttp calls all of it a bad request."""
    if isinstance(error, LineTooLong):  # its second argument is the bound
        if error.args[1] == URL_BYTES:
            return Problem("url-too-long", f"a URL may have {URL_BYTES} bytes")
        return Problem("head-too-large", f"a header may have {FIELD_BYTES} bytes")
    if message == "Too many headers received":
        return Problem("head-too-large", f"a request may have {FIELDS} headers")
    reason = message.partition("\n")[0].rstrip(" :")
    return Problem("bad-request", reason[:_REASON] or "this is not HTTP")
