"""Synthetic series for the fault catalogue: clean ones of several kinds, and faults of three sizes to put into them.

Values are in units of a series' usual deviation, which is 1, about LEVEL. Random numbers come from numpy's seeded
generators, row by row, so the values do not depend on how many are asked for at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from streamproc.core.windows import Floats, Ints

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
#: What the series lie about: a deviation is 2 % of it, as that of a temperature of 50 °C to within 1 °C.
LEVEL = 50.0
#: A daily season goes so far up and down: it is most of what one sees of the series.
SWING = 5.0
#: Of a deviation that hangs on the one before: so much of it.
CLINGING = 0.9
#: How far a slow walk goes in a day, mostly.
WALK_A_DAY = 3.0
#: The steps of a converter, and of a coarse one, in deviations of what it converts; a coarse one rests for long.
STEP, COARSE_NOISE = 2.0, 0.1


@dataclass(slots=True)
class Source:
    """Clean series of one kind, of `sensors` sensors that speak each `every_ms`, made row by row."""

    kind: str
    sensors: int
    every_ms: int
    seed: int
    row: int = 0
    random: np.random.Generator = field(init=False)
    phase: Floats = field(init=False)
    carried: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng([self.seed, self.every_ms, *self.kind.encode()])
        self.phase = self.random.random(self.sensors)
        self.carried = self.random.standard_normal(self.sensors)
        if self.kind != "autoregressive":
            self.carried = np.zeros(self.sensors)

    def rows(self, count: int) -> tuple[Floats, Floats]:
        """What is usual, and what the values are, of the next rows; both of shape (count, sensors)."""
        drawn = self.random.standard_normal((count, 2, self.sensors))
        usual, value = KINDS[self.kind](self, drawn[:, 0], drawn[:, 1])
        self.row += count
        return LEVEL + usual, LEVEL + value

    def season(self, count: int) -> Floats:
        """A sine of a day, of each sensor's own phase."""
        days = (self.row + np.arange(count))[:, None] * self.every_ms / DAY_MS
        wave: Floats = SWING * np.sin(2 * np.pi * (days + self.phase))
        return wave

    def walk(self, steps: Floats) -> Floats:
        """The sum of all steps so far."""
        walked = np.cumsum(np.concatenate([self.carried[None], steps]), axis=0)[1:]
        self.carried = walked[-1]
        return walked


Made = tuple[Floats, Floats]


def _white(_: Source, noise: Floats, __: Floats) -> Made:
    return np.zeros_like(noise), noise


def _autoregressive(source: Source, noise: Floats, _: Floats) -> Made:
    value, new = np.empty_like(noise), sqrt(1 - CLINGING * CLINGING) * noise
    for row, drawn in enumerate(new):
        source.carried = value[row] = CLINGING * source.carried + drawn
    return np.zeros_like(noise), value


def _slow_walk(source: Source, noise: Floats, steps: Floats) -> Made:
    usual = source.walk(WALK_A_DAY * sqrt(source.every_ms / DAY_MS) * steps)
    return usual, usual + noise


def _random_walk(source: Source, _: Floats, steps: Floats) -> Made:
    usual = source.walk(steps)
    return usual, usual


def _daily(source: Source, noise: Floats, _: Floats) -> Made:
    usual = source.season(len(noise))
    return usual, usual + noise


def _quantised(_: Source, noise: Floats, __: Floats) -> Made:
    return np.zeros_like(noise), STEP * np.round(noise / STEP)


def _coarse(source: Source, noise: Floats, _: Floats) -> Made:
    usual = source.season(len(noise))
    return usual, np.round(usual + COARSE_NOISE * noise)


#: How each kind of clean series is made, of two columns of Gaussian noise for each sensor.
KINDS: dict[str, Callable[[Source, Floats, Floats], Made]] = {
    "white": _white,
    "autoregressive": _autoregressive,
    "slow walk": _slow_walk,
    "daily": _daily,
    "quantised": _quantised,
    "coarse": _coarse,
    "random walk": _random_walk,
}


@dataclass(slots=True)
class Rows:
    """Readings as they are to be sent, of shape (rows, sensors).

    `since` counts rows from the fault's first, which is 0; `before` (sensors,) are the values just before it.
    """

    usual: Floats
    value: Floats
    since: Ints
    before: Floats
    sent: NDArray[np.bool_]
    shift_ms: Ints

    def of(self, sensors: slice) -> Rows:
        """Those of some sensors: what is put into them is put into these."""
        return Rows(
            self.usual[:, sensors],
            self.value[:, sensors],
            self.since[:, sensors],
            self.before[sensors],
            self.sent[:, sensors],
            self.shift_ms[:, sensors],
        )


@dataclass(frozen=True, slots=True)
class Size:
    """One size of a fault: its number, the words for it, and the rows until it is of that size and until it is over.

    `hourly` is what it grows by in an hour, for those that grow by time.
    """

    number: float
    words: str
    whole: int = 0
    over: float = inf
    hourly: float = 0.0

    def evident(self, every_ms: int) -> int:
        """Rows from the first one until the fault is of its size."""
        if not self.hourly:
            return self.whole
        return round(self.number / self.hourly * HOUR_MS / every_ms)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the catalogue, what it does to rows, and its sizes: small, medium and large.

    A sensor has spoken for `known_days` before it, at least.
    """

    name: str
    words: str
    put: Callable[[Rows, Size, int], None]
    sizes: tuple[Size, Size, Size]
    known_days: float = 0.0


#: Rows of a swing, there and back.
PERIOD = 10
#: What becomes of a temperature in °C that is sent in °F.
FAHRENHEIT = (1.8, 32.0)


def _on(rows: Rows, size: Size) -> NDArray[np.bool_]:
    on: NDArray[np.bool_] = (rows.since >= 0) & (rows.since < size.over)
    return on


def _add(rows: Rows, size: Size, _: int) -> None:
    rows.value += size.number * _on(rows, size)


def _ramp(rows: Rows, size: Size, every_ms: int) -> None:
    whole = size.evident(every_ms)
    rows.value += size.number * np.clip((rows.since + 1) / whole, 0, 1)


def _leak(rows: Rows, size: Size, every_ms: int) -> None:
    rows.value -= size.hourly * every_ms / HOUR_MS * np.maximum(rows.since + 1, 0)


def _burst(rows: Rows, size: Size, _: int) -> None:
    on = _on(rows, size)
    rows.value += on * (size.number - 1) * (rows.value - rows.usual)


def _swing(rows: Rows, size: Size, _: int) -> None:
    rows.value += _on(rows, size) * size.number * np.sin(2 * np.pi * (rows.since + 1) / PERIOD)


def _freeze(rows: Rows, size: Size, _: int) -> None:
    np.copyto(rows.value, rows.before, where=_on(rows, size))


def _drop(rows: Rows, size: Size, _: int) -> None:
    rows.sent &= ~_on(rows, size)


def _scale(rows: Rows, size: Size, _: int) -> None:
    offset = FAHRENHEIT[1] if size.number == FAHRENHEIT[0] else 0.0
    np.copyto(rows.value, rows.value * size.number + offset, where=_on(rows, size))


def _shift(rows: Rows, size: Size, _: int) -> None:
    rows.shift_ms += _on(rows, size) * round(1_000 * size.number)


_LEAKS = (
    Size(10, "2 sigma/h", hourly=2),
    Size(10, "5 sigma/h", hourly=5),
    Size(10, "20 sigma/h", hourly=20),
)

FAULTS = (
    Fault(
        "spike",
        "one reading is off by this",
        _add,
        (Size(5, "5 sigma", over=1), Size(10, "10 sigma", over=1), Size(20, "20 sigma", over=1)),
    ),
    Fault(
        "step",
        "off by this from now on",
        _add,
        (Size(2, "2 sigma"), Size(5, "5 sigma"), Size(10, "10 sigma")),
    ),
    Fault(
        "drift",
        "moves away by this within 30 readings, and stays there",
        _ramp,
        (Size(3, "3 sigma", 30), Size(8, "8 sigma", 30), Size(20, "20 sigma", 30)),
    ),
    Fault(
        "noise burst",
        "deviations are so many times as large for 30 readings",
        _burst,
        (Size(3, "3 times", over=30), Size(8, "8 times", over=30), Size(20, "20 times", over=30)),
    ),
    Fault(
        "stuck",
        "so many readings are all alike",
        _freeze,
        (Size(10, "10", 10, 10), Size(30, "30", 30, 30), Size(100, "100", 100, 100)),
    ),
    Fault(
        "drop-out",
        "so many readings are missing",
        _drop,
        (Size(2, "2", over=2), Size(5, "5", over=5), Size(50, "50", over=50)),
    ),
    Fault(
        "oscillation",
        f"swings by this, up and down in {PERIOD} readings, from now on",
        _swing,
        (Size(2, "2 sigma"), Size(5, "5 sigma"), Size(10, "10 sigma")),
    ),
    Fault(
        "slow leak",
        "falls by this in an hour, steadily",
        _leak,
        _LEAKS,
    ),
    Fault(
        "leak when known",
        "the same, of a sensor that has spoken for two days",
        _leak,
        _LEAKS,
        known_days=2,
    ),
    Fault(
        "unit change",
        "another scale or unit from now on",
        _scale,
        (Size(1.1, "10 % more"), Size(FAHRENHEIT[0], "°C in °F"), Size(100, "bar in kPa")),
    ),
    Fault(
        "clock ahead",
        "the device's clock is wrong by this from now on",
        _shift,
        (Size(5, "5 s"), Size(120, "2 min"), Size(3_600, "1 h")),
    ),
    Fault(
        "clock behind",
        "the device's clock is wrong by this from now on",
        _shift,
        (Size(-5, "5 s"), Size(-120, "2 min"), Size(-3_600, "1 h")),
    ),
)
