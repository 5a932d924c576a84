"""The state of the database: whether its last call succeeded, since when it has failed, and retries until it is back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import TypeVar

import structlog
from prometheus_client import Counter

from streamproc.errors import StoreUnavailable
from streamproc.monitor.checks import Check

T = TypeVar("T")

#: An answer is news for so long; then who is idle asks by itself.
FRESH_S = 3.0
#: A call that takes longer than this is taken for a database that does not answer: a full batch takes 0.3 s.
SLOW_S = 10.0
#: First wait for a database that is away, doubled after each further one; a lock is mostly gone after the first.
FIRST_PAUSE_S = 0.1
#: Longest wait: how long after the database is back a process may still stand still.
LAST_PAUSE_S = 5.0

_log = structlog.get_logger(__name__)


class Standing:
    """Told of each call of the database: when it began, and whether the database answered. `retries` counts by `reason`."""

    def __init__(self, retries: Counter | None = None) -> None:
        self._retries = retries
        self._asked_at: float | None = None
        self._answered_at: float | None = None
        self._away_since: float | None = None
        self._reason = ""

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around a call; an error other than StoreUnavailable is an answer too."""
        self._asked_at = monotonic()
        try:
            yield
        except StoreUnavailable as error:
            self._away_since = self._away_since or monotonic()
            self._reason = str(error)
            raise
        except Exception:
            self._answered()
            raise
        else:
            self._answered()
        finally:
            self._asked_at = None

    async def patiently(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        patience_s: float = inf,
    ) -> T:
        """The call's result, tried again while the database is away; raises StoreUnavailable where patience is at its end.

        `pause` waits so many seconds between two tries; what it raises ends them.
        """
        pauses, began = backoff(), monotonic()
        while True:
            try:
                with self.asking():
                    return await call()
            except StoreUnavailable as error:
                if monotonic() - began > patience_s:
                    raise
                seconds = next(pauses)
                if self._retries is not None:
                    self._retries.labels(reason=error.code).inc()
                _log.warning(
                    "database away, trying again",
                    reason=str(error),
                    code=error.code,
                    in_seconds=round(seconds, 2),
                )
                await pause(seconds)

    def _answered(self) -> None:
        self._answered_at, self._away_since = monotonic(), None

    def fresh(self) -> bool:
        """Whether it answered not long ago."""
        return self._answered_at is not None and monotonic() - self._answered_at < FRESH_S

    def check(self) -> Check:
        """Whether the database answered when it was last asked, and is not taking too long now."""
        now = monotonic()
        if self._away_since is not None:
            return Check("database", False, f"away for {now - self._away_since:.0f} s: {self._reason}")
        if self._asked_at is not None and now - self._asked_at > SLOW_S:
            return Check("database", False, f"no answer for {now - self._asked_at:.0f} s")
        if self._answered_at is None:
            return Check("database", False, "not asked yet")
        return Check("database", True, f"answered {now - self._answered_at:.1f} s ago")


def backoff() -> Iterator[float]:
    """Seconds to wait after each failure in a row: doubled up to the longest, less a random part of up to half."""
    longest = FIRST_PAUSE_S
    while True:
        yield longest * random.uniform(0.5, 1)  # noqa: S311  # keeps several processes from coming at once
        longest = min(2 * longest, LAST_PAUSE_S)
