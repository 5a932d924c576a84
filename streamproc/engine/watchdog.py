"""Tells a stuck worker from one that has nothing to do, or had nothing while the broker was away."""

from __future__ import annotations


class Watchdog:
    """How long each partition has had a backlog without progress.

    It counts from when the backlog was first seen: records that came with the broker's return waited for nobody before.
    """

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def idle_s(self, partition: int, lag: int | None, progressed: float, now: float) -> float:
        """Seconds, 0 without a backlog; `progressed` and `now` are times of one clock (s), `lag` is None where unknown.

        >>> watchdog = Watchdog()
        >>> watchdog.idle_s(0, 5, progressed=0.0, now=90.0), watchdog.idle_s(0, 5, progressed=0.0, now=95.0)
        (0.0, 5.0)
        """
        if not lag:
            self._since.pop(partition, None)
            return 0.0
        return now - max(progressed, self._since.setdefault(partition, now))
