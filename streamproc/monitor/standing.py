"""How the database stands: whether it answered when it was last asked, and since when it has not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from streamproc.errors import StoreUnavailable
from streamproc.monitor.checks import Check

#: An answer is news for so long; then who is idle asks by itself.
FRESH_S = 3.0
#: A call that takes longer than this is taken for a database that does not answer: a full batch takes 0.3 s.
SLOW_S = 10.0


class Standing:
    """Told of each call of the database: when it began, and whether the database answered."""

    def __init__(self) -> None:
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
