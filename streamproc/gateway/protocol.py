"""aiohttp's connection, made to answer broken HTTP with a problem as well."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.http_exceptions import LineTooLong

from streamproc.gateway.problems import Problem

#: A URL's bytes: the longest is a sensor's status, 128 characters of 4 bytes, each written as three.
URL_BYTES = 4_096
#: A header's: a proxy's or a token may be long. Their number bounds them, as 16 KiB do while they come (`connections`).
FIELD_BYTES, FIELDS = 8_190, 128
#: aiohttp's reason quotes what was sent, over several lines; the first says what is wrong with it.
_REASON = 200
_CLOSE = "Connection: close\r\n"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Receipt(web.StreamResponse):
    """An answer of JSON to a request of HTTP/1.1 that has a body: `Answering` writes it as it is, in one piece.

    To aiohttp it is a response, of which it asks the status and whether the connection stays; nothing else of one is made.
    """

    __slots__ = ("_receipt_body", "_status", "_stays")

    def __init__(self, status: int, body: bytes) -> None:
        self._status, self._receipt_body = status, body
        self._stays = True

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays."""
        return self._stays

    def force_close(self) -> None:
        """End the connection with it."""
        self._stays = False

    def written(self, request: web.BaseRequest) -> bytes:
        """The answer as it goes over the wire; the connection stays if the client wants it to."""
        self._stays = self._stays and request.keep_alive
        return (
            f"HTTP/1.1 {self._status} {_PHRASES[self._status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(self._receipt_body)}\r\nDate: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\n"
            f"{'' if self._stays else _CLOSE}\r\n"
        ).encode() + self._receipt_body


class Answering(web.RequestHandler):
    """A connection whose every answer is one of the gateway's."""

    __slots__ = ()

    def resume_reading(self, resume_parser: bool = True) -> None:  # aiohttp's
        """Read on where reading was paused: aiohttp asks for it behind each piece of a body, and parses nothing once more."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer; tells as well whether the client was gone before."""
        if not isinstance(resp, Receipt):
            return await super().finish_response(request, resp, start_time)
        request._finish()  # noqa: SLF001  # as aiohttp's own does
        transport = self.transport
        if transport is None or transport.is_closing():
            return resp, True
        transport.write(resp.written(request))
        return resp, False

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
