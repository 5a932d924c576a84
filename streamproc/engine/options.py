"""The options of a partition's engine, in one place because a replay must use the same ones as a worker."""

from __future__ import annotations

from streamproc.core.engine import Options
from streamproc.settings import Settings


def options(settings: Settings, partition: int, partitions: int) -> Options:
    """The options of one of so many partitions in a worker with these settings."""
    return Options(
        topic=settings.topic("readings"),
        partition=partition,
        partitions=partitions,
        allowed_lateness_ms=settings.allowed_lateness_ms,
        allowed_skew_ms=settings.allowed_skew_ms,
        language=settings.language,
        horizon=settings.horizon,
    )
