"""Synthetic signals and the faults that can be put on them: pure functions of time and randomness.

A signal gives the value that a sensor reads `t` seconds after the start, or None where it reads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Signal = Callable[[float, Random], float | None]


@dataclass(frozen=True, slots=True)
class When:
    """From `first_s` on, every `every_s`, for `lasts_s` seconds each time."""

    first_s: float
    every_s: float
    lasts_s: float

    def since(self, t: float) -> float | None:
        """Seconds since the fault under way at `t` began; None where none is.

        >>> When(20, 100, 5).since(123.0), When(20, 100, 5).since(19.0)
        (3.0, None)
        """
        if t < self.first_s:
            return None
        elapsed = (t - self.first_s) % self.every_s
        return elapsed if elapsed < self.lasts_s else None


def wave(level: float, swing: float, period_s: float, jitter: float) -> Signal:
    """A healthy sensor: a sine of amplitude `swing` about `level`, and noise of deviation `jitter`."""

    def read(t: float, rng: Random) -> float:
        return level + swing * math.sin(2 * math.pi * t / period_s) + rng.gauss(0.0, jitter)

    return read


def spike(signal: Signal, when: When, height: float) -> Signal:
    """`height` is added while the fault lasts."""

    def read(t: float, rng: Random) -> float | None:
        value = signal(t, rng)
        return value if value is None or when.since(t) is None else value + height

    return read


def drift(signal: Signal, when: When, per_second: float) -> Signal:
    """The value moves away by `per_second` and falls back when the fault ends."""

    def read(t: float, rng: Random) -> float | None:
        value, since = signal(t, rng), when.since(t)
        return value if value is None or since is None else value + per_second * since

    return read


def stuck(signal: Signal, when: When) -> Signal:
    """The value stays what it was when the fault began."""

    def read(t: float, rng: Random) -> float | None:
        since = when.since(t)
        if since is None:
            return signal(t, rng)
        began = round(t - since, 6)
        return signal(began, Random(f"stuck at {began:.3f}"))  # noqa: S311  # a fault, not a secret

    return read


def drop_out(signal: Signal, when: When) -> Signal:
    """Nothing is read while the fault lasts."""

    def read(t: float, rng: Random) -> float | None:
        return signal(t, rng) if when.since(t) is None else None

    return read


def noise(signal: Signal, when: When, deviation: float) -> Signal:
    """Normal noise of `deviation` is added while the fault lasts."""

    def read(t: float, rng: Random) -> float | None:
        value = signal(t, rng)
        return value if value is None or when.since(t) is None else value + rng.gauss(0.0, deviation)

    return read
