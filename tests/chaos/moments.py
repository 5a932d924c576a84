"""Moments after which something should come again, and what was seen: the evidence of recovery."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from time import time

#: Between two looks at how far the database has come: how exact a recovery of the sink is told.
LOOK_S = 0.1

#: How far the database has come: the next offset of each topic's partition.
Offsets = Mapping[tuple[str, int], int]


class Sign(StrEnum):
    """What shows that it goes on."""

    RESULT = "first result"  # a window or event made of records from the moment on
    FLOW = "longest stop"  # the longest time without one, until the next fault
    ROW = "first row"  # a reading from the moment on is in the database
    TAKEN = "first taken"  # a request begun from the moment on is taken by the gateway


@dataclass(frozen=True, slots=True)
class Moment:
    """What was done, when (ms), and by which sign and in which partitions it should go on."""

    kind: str
    at_ms: int
    sign: Sign
    partitions: tuple[int, ...]

    @property
    def name(self) -> str:
        """What was done and what is measured, as the table tells it."""
        return f"{self.kind}, {self.sign}"


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when (ms) a fault of a kind was done."""

    kind: str
    begin: int
    end: int


#: Which faults, by words of their kinds, keep a sign from coming: what is measured ends where one of them begins.
IN_THE_WAY = {
    Sign.RESULT: ("worker", "checkpoint", "all", "broker"),
    Sign.FLOW: ("worker", "checkpoint", "all", "broker"),
    Sign.ROW: ("sink", "all", "broker", "database"),
    Sign.TAKEN: ("gateway", "all", "broker"),
}


@dataclass(slots=True)
class Moments:
    """All moments, and when faults began and ended."""

    noted: list[Moment] = field(default_factory=list)
    #: When a fault of which kind began or took a turn (ms).
    begun: list[tuple[int, str]] = field(default_factory=list)
    #: Those that are over.
    spans: list[Span] = field(default_factory=list)
    #: Whether the database is being broken just now.
    outage: bool = False

    def note(self, kind: str, sign: Sign, partitions: tuple[int, ...]) -> None:
        """Note that it should go on from now, unless what was broken had no partition."""
        if partitions:
            self.noted.append(Moment(kind, now_ms(), sign, partitions))

    def turn(self, kind: str) -> None:
        """Note that from now on something else is to be recovered from."""
        self.begun.append((now_ms(), kind))

    def until(self, moment: Moment, end_ms: int) -> int:
        """When (ms) another fault came in between, else `end_ms`; the moment itself where one was under way."""
        if any(
            span.begin < moment.at_ms < span.end
            and moment.kind.partition(":")[0] != span.kind
            and in_the_way(span.kind, moment.sign)
            for span in self.spans
        ):
            return moment.at_ms
        later = [at for at, kind in self.begun if at > moment.at_ms and in_the_way(kind, moment.sign)]
        return min([end_ms, *later])


def in_the_way(kind: str, sign: Sign) -> bool:
    """Whether a fault of that kind keeps the sign from coming."""
    return not set(IN_THE_WAY[sign]).isdisjoint(kind.split("-"))


class Progress:
    """Watches how far the database has come; `seen` has (ms, offsets) whenever it has come further."""

    def __init__(self, database: Path, moments: Moments) -> None:
        self._database, self._moments = database, moments
        self.seen: list[tuple[int, Offsets]] = []

    async def run(self, load_runs: Callable[[], bool]) -> None:
        """Look as long as the load runs, but not while the database is being broken: a reader would be in the way."""
        while load_runs():
            if not self._moments.outage:
                told = await asyncio.to_thread(offsets, self._database)
                if told and (not self.seen or self.seen[-1][1] != told):
                    self.seen.append((now_ms(), told))
            await asyncio.sleep(LOOK_S)


def offsets(database: Path) -> Offsets:
    """How far the database has come; nothing where it cannot be read."""
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as held,
    ):
        rows = held.execute('SELECT topic, "partition", next_offset FROM stream_offsets').fetchall()
        return {(topic, partition): offset for topic, partition, offset in rows}
    return {}


def now_ms() -> int:
    """The time as records are stamped with it."""
    return int(time() * 1000)
