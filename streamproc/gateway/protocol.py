"""aiohttp's connection, which answers what is no HTTP as a problem, too."""

from __future__ import annotations

from aiohttp import web

from streamproc.gateway.problems import Problem

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
            reason = (message or "").partition("\n")[0].rstrip(" :")
            problem = Problem("bad-request", reason[:_REASON] or "this is not HTTP")
        response = problem.response()
        response.force_close()
        return response
