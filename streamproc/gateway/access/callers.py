"""Who calls, by address: how often one may, and how often one may send a wrong key."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

import structlog
from multidict import istr

from streamproc.gateway.access.address import Addresses
from streamproc.gateway.access.buckets import NAMES, Buckets
from streamproc.gateway.access.keys import digest
from streamproc.gateway.access.limits import Limit
from streamproc.gateway.problems import Problem
from streamproc.settings.access import Window, windows

if TYPE_CHECKING:
    from aiohttp import web

    from streamproc.gateway.access.metrics import Counts
    from streamproc.settings import Settings

log = structlog.get_logger()

FORWARDED_FOR = istr("X-Forwarded-For")
#: A wrong key is logged once a minute for each address, and 60 times a minute in all: a botnet must not fill a disk.
_LOGGED_EACH = (Window(1, 60),)
_LOGGED_ALL = (Window(60, 60),)


class Callers:
    """Names callers by their addresses, and slows down those who come, or guess keys, too often.

    Wrong keys are counted for each header by itself: a device with a wrong key keeps no admin of its site out.
    """

    def __init__(self, settings: Settings, counts: Counts, clock: Callable[[], float] = monotonic) -> None:
        self._clock, self._counts = clock, counts
        self._addresses = Addresses(settings.proxies)
        self._behind_proxies = bool(settings.proxies)
        self._ips = make_limit("rate_limit_ip", "requests of this address", settings.rate_limit_ip, counts)
        self._failures = make_limit(
            "key_failure_limit", "wrong keys of this address", settings.key_failure_limit, counts
        )
        self._logged_each, self._logged_all = Buckets(_LOGGED_EACH), Buckets(_LOGGED_ALL)
        #: Keys that were right, with the address that sent them: when others there fail, they go on.
        self._right: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def limit(self, request: web.Request, now: float | None = None) -> str:
        """Count the request for its address, which it gives; raises the Problem of one too many."""
        address = self.name(request)
        if self._ips.on and (fault := self._ips.take(address, self._clock() if now is None else now)):
            raise self._ips.problem(fault)
        return address

    def name(self, request: web.Request) -> str:
        """The caller's address as limits know it."""
        return self._addresses.client(request.remote, self._forwarded(request))

    def address(self, request: web.Request) -> str:
        """The caller's address, whole, for an audit."""
        return self._addresses.caller(request.remote or "unknown", self._forwarded(request))

    def _forwarded(self, request: web.Request) -> Sequence[str]:
        return request.headers.getall(FORWARDED_FOR, ()) if self._behind_proxies else ()

    def check_shared(self, header: str, given: str, expected: bytes, address: str) -> None:
        """Let pass who sends the key with this SHA-256; raises the Problem of a wrong one, or of one too many.

        Hashes are compared: neither the time taken nor a log line tells anything of the key.
        """
        found, now = digest(given), self._clock()
        self.slow_down(header, address, found, now)
        if not hmac.compare_digest(found, expected):
            self.failed(header, address, now)
            raise Problem("key-wrong", f"the key in {header} is not the one that is set")
        self.remember(address, found)

    def slow_down(self, header: str, address: str, found: bytes, now: float) -> None:
        """Refuse what comes from where too many keys were wrong; not a key that was right from there."""
        if not self._failures.on or not len(self._failures.buckets) or (address, found) in self._right:
            return
        if fault := self._failures.look(f"{header} {address}", now):
            self._log(header, address, now, "too many wrong keys")
            raise self._failures.problem(fault)

    def failed(self, header: str, address: str, now: float) -> None:
        """Count a key that is nobody's."""
        self._counts.failures.labels("wrong").inc()
        if self._failures.on:
            self._failures.buckets.take(f"{header} {address}", now)
        self._log(header, address, now, "a wrong key")

    def remember(self, address: str, found: bytes) -> None:
        """Keep that a key was right from there."""
        if not self._failures.on or (address, found) in self._right:
            return
        self._right[(address, found)] = None
        if len(self._right) > NAMES:
            self._right.popitem(last=False)

    def _log(self, header: str, address: str, now: float, what: str) -> None:
        if not self._logged_each.take(address, now) and not self._logged_all.take("all", now):
            log.warning("key_refused", address=address, header=header, reason=what)


def make_limit(name: str, whom: str, text: str | None, counts: Counts) -> Limit:
    """Make the limit that a setting's text is, counted."""
    limit = Limit(name, whom, windows(text), counts.limited)
    if limit.on:
        counts.buckets.labels(name).set_function(lambda: len(limit.buckets))
    return limit
