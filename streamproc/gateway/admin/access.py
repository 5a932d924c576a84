"""Who may use the admin API: one key, compared in constant time, and guessed at slowly."""

from __future__ import annotations

from aiohttp import web
from multidict import istr

from streamproc.gateway.access.callers import Callers
from streamproc.gateway.access.keys import digest
from streamproc.gateway.problems import Problem, only

HEADER = istr("X-Admin-Key")


class Doorkeeper:
    """Lets those in who have the key; only its hash is kept."""

    def __init__(self, key: str, callers: Callers) -> None:
        self._hash, self._callers = digest(key), callers

    def admit(self, request: web.Request) -> str:
        """Give the address of who has the key; raises the Problem of one who has not, or comes too often."""
        address = self._callers.limit(request)
        given = only(request.headers, HEADER)
        if given is None:
            headers = {"WWW-Authenticate": f'ApiKey header="{HEADER}"'}
            raise Problem("key-missing", f"send the admin key in the header {HEADER}", headers=headers)
        self._callers.check_shared(HEADER, given, self._hash, address)
        return self._callers.address(request)
