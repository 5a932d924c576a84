"""Who may read: whoever has the token or, where none is set, whoever reaches the address. Another site's page never may."""

from __future__ import annotations

import hmac
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import hdrs
from yarl import URL

from streamproc.console.problems import Problem
from streamproc.process import is_loopback

if TYPE_CHECKING:
    from aiohttp import web

    from streamproc.settings import Settings

_SCHEME = "bearer "
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="streamproc console"'}


class Readers:
    """Decides who may read, by these settings."""

    def __init__(self, settings: Settings) -> None:
        token = settings.console_token
        self._token = token.get_secret_value().encode() if token else None
        # Without a token, a loopback address keeps others out; but their names can be made to lead here (DNS rebinding),
        # and then a browser on this machine would show its owner's data to a page of theirs.
        self._local_names_only = token is None and is_loopback(settings.console_host)

    @property
    def needs_token(self) -> bool:
        """Whether a token is needed."""
        return self._token is not None

    def admit(self, request: web.Request) -> None:
        """Raise a Problem for a request that may not read."""
        if self._token is not None:
            self._check(request.headers.get(hdrs.AUTHORIZATION), self._token)
        elif self._local_names_only and not _is_local(request.host):
            raise Problem(
                "host",
                "the console listens on this machine alone and is asked for by another name: ask for localhost, or have a"
                " proxy send that; to be reached by others, set STREAMPROC_CONSOLE_TOKEN",
            )

    def _check(self, header: str | None, token: bytes) -> None:
        if header is None:
            raise Problem(
                "token-missing", "send the console's token as `Authorization: Bearer …`", headers=_CHALLENGE
            )
        given = header[len(_SCHEME) :].strip() if header[: len(_SCHEME)].lower() == _SCHEME else ""
        # Bytes that are no UTF-8 come as surrogates.
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), token):
            raise Problem("token-wrong", "this is not the console's token", headers=_CHALLENGE)


def _is_local(authority: str) -> bool:
    """Whether a Host header names this machine.

    >>> _is_local("localhost:8002"), _is_local("[::1]:8002"), _is_local("evil.example:8002"), _is_local("127.0.0.1.evil")
    (True, True, False, False)
    """
    with suppress(ValueError):
        host = URL.build(scheme="http", authority=authority).host or ""
        return is_loopback(host.rstrip(".").lower())
    return False
