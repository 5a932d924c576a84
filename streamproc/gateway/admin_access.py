"""Who may use the admin API: one key, compared in constant time, and guessed at slowly."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from time import monotonic

import structlog
from aiohttp import web

from streamproc.gateway.problems import Problem

HEADER = "X-Admin-Key"
#: Wrong keys from one address in a minute; then it is not listened to until the minute is over. Who mistypes gets by.
TRIES = 10
WINDOW_SECONDS = 60.0
#: Addresses remembered; those that were quiet for longest are forgotten first.
ADDRESSES = 10_000

_log = structlog.get_logger(__name__)


class Doorkeeper:
    """Lets those in who have the key; only its hash is kept."""

    def __init__(self, key: str, clock: Callable[[], float] = monotonic) -> None:
        self._hash, self._clock = sha256(key.encode()).digest(), clock
        #: By address: when its minute began, and how many wrong keys it has sent since.
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def admit(self, request: web.Request) -> None:
        """Raise the Problem that the request's key is."""
        address, given = request.remote or "", request.headers.get(HEADER)
        if given is None:
            headers = {"WWW-Authenticate": f'ApiKey header="{HEADER}"'}
            raise Problem("key-missing", f"send the admin key in the header {HEADER}", headers=headers)
        began, count = self._standing(address)
        if count >= TRIES:
            wait = max(1, round(began + WINDOW_SECONDS - self._clock()))
            headers = {"Retry-After": str(wait)}
            detail = "too many wrong keys from this address"
            raise Problem("too-many-tries", detail, headers=headers, retry_after=wait, limit="admin-key")
        if not hmac.compare_digest(sha256(given.encode("utf-8", "surrogateescape")).digest(), self._hash):
            self._remember(address, (began, count + 1))
            _log.warning("wrong admin key", address=address, tries=count + 1)
            raise Problem("key-wrong", f"the key in {HEADER} is not the one that is set")

    def _standing(self, address: str) -> tuple[float, int]:
        now = self._clock()
        began, count = self._wrong.get(address, (now, 0))
        return (began, count) if now < began + WINDOW_SECONDS else (now, 0)

    def _remember(self, address: str, standing: tuple[float, int]) -> None:
        self._wrong[address] = standing
        self._wrong.move_to_end(address)
        while len(self._wrong) > ADDRESSES:
            self._wrong.popitem(last=False)
