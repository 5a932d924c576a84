"""Limits of how often: buckets with a name that clients are told, counted, and answered with 429."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from prometheus_client import Counter

from streamproc.gateway.access.buckets import Buckets
from streamproc.gateway.answers import Fault
from streamproc.gateway.problems import Problem
from streamproc.settings.access import Window


class Limit:
    """How often each of many may do something; `name` is the setting's field, `whom` says in words who is limited."""

    def __init__(self, name: str, whom: str, windows: Sequence[Window], limited: Counter) -> None:
        self.name = name
        self.buckets = Buckets(windows)
        self.on = bool(windows)
        self._whom = whom
        self._limited = limited.labels(name)

    def take(self, who: str, now: float) -> Fault | None:
        """Count one of `who`; gives the fault where there were too many, and then does not count it."""
        wait = self.buckets.take(who, now)
        return self._fault(who, now, wait) if wait else None

    def look(self, who: str, now: float) -> Fault | None:
        """Say whether there were too many, without counting one."""
        wait = self.buckets.wait(who, now)
        return self._fault(who, now, wait) if wait else None

    def _fault(self, who: str, now: float, wait: float) -> Fault:
        self._limited.inc()
        window = self.buckets.tightest(who, now)
        reason = f"{self._whom}: {window.tokens} in {window.seconds:g} s are allowed"
        return Fault("rate-limited", reason, limit=self.name, retry_after=max(1, ceil(wait)))

    def problem(self, fault: Fault) -> Problem:
        """Make the answer of a request that is refused as a whole, with the headers that the IETF's draft has for limits."""
        wait = fault.retry_after
        policy = ", ".join(f'"{self.name}";q={w.tokens};w={w.seconds:g}' for w in self.buckets.windows)
        headers = {
            "Retry-After": str(wait),
            "RateLimit-Policy": policy,
            "RateLimit": f'"{self.name}";r=0;t={wait}',
        }
        return Problem(fault.kind, fault.reason, headers=headers, limit=fault.limit, retry_after=wait)
