"""All letters in a temporary SQLite file, since a topic may hold more of them than fit into memory.

A letter may be on the topic several times, because a stage that is killed sends it again; it counts once. It is identified
by its stage, its topic, the place where its record first arrived, and how often that record was sent again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from streamproc.dlq.found import Filter, Found, Place
from streamproc.dlq.reasons import reason_of
from streamproc.records import RedriveMark

#: KiB of pages that SQLite keeps in memory; beyond them it writes to its temporary file (some 200 bytes a letter).
CACHE_KIB = 16_384
#: Characters of a reason that a list shows at most.
REASON_LENGTH = 200

_SCHEMA = """
CREATE TABLE letters (
    stage TEXT, topic TEXT, first TEXT, attempt INTEGER,
    at_partition INTEGER, at_offset INTEGER, at INTEGER, last_at INTEGER, code TEXT, reason TEXT,
    "partition" INTEGER, "offset" INTEGER, repeats INTEGER DEFAULT 0, wanted INTEGER,
    redriven_at INTEGER, sent TEXT,
    PRIMARY KEY (stage, topic, first, attempt)
) WITHOUT ROWID;
CREATE INDEX by_place ON letters (at_partition, at_offset) WHERE wanted;
"""
_ADD = """
INSERT INTO letters (stage, topic, first, attempt, at_partition, at_offset, at, last_at, code, reason, "partition", "offset",
                     wanted)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT DO UPDATE SET repeats = repeats + 1, last_at = excluded.last_at, wanted = max(wanted, excluded.wanted)
"""
_MARK = """
UPDATE letters SET redriven_at = coalesce(redriven_at, ?), sent = coalesce(sent, ?)
WHERE stage = ? AND topic = ? AND first = ? AND attempt = ?
"""
_LINE = 'at_partition, at_offset, at, stage, topic, "partition", "offset", code, reason, attempt, repeats, redriven_at, sent'


@dataclass(frozen=True, slots=True)
class Group:
    """Letters of one stage, class of reasons and topic; `attempts` is the most often that one was sent again."""

    stage: str
    code: str
    topic: str
    letters: int
    waiting: int
    attempts: int
    first_at: int
    last_at: int


@dataclass(frozen=True, slots=True)
class Line:
    """One letter as a list shows it; `topic`, `partition` and `offset` are its record's, times in ms."""

    place: Place
    at: int
    stage: str
    topic: str
    partition: int
    offset: int
    code: str
    reason: str
    attempt: int
    repeats: int
    redriven_at: int | None
    sent: str | None


class Index:
    """All letters so far; `wanted` are those that the filter selects; those that were not sent again yet are waiting."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        self._rows = sqlite3.connect(
            "", isolation_level=None
        )  # no name: a file that goes with the connection
        self._rows.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._rows.execute("PRAGMA journal_mode = OFF")
        self._rows.executescript(_SCHEMA)
        #: Records that are neither letter nor mark.
        self.unreadable = 0

    def close(self) -> None:
        """Close the temporary file."""
        self._rows.close()

    def add(self, read: Iterable[Found | RedriveMark | None], *, marks_only: bool = False) -> None:
        """Take in the topic's next record. A mark comes after its letter; the letter of any other mark has expired."""
        letters, marks = [], []
        for one in read:
            if isinstance(one, Found):
                letters.append(self._row(one))
            elif one is not None:
                marks.append((one.at, one.sent, one.stage, one.topic, one.first, one.attempt))
            else:
                self.unreadable += 1
        self._rows.execute("BEGIN")
        if not marks_only:
            self._rows.executemany(_ADD, letters)
        self._rows.executemany(_MARK, marks)
        self._rows.execute("COMMIT")

    def _row(self, found: Found) -> tuple[object, ...]:
        letter, place = found.letter, found.place
        return (
            letter.stage,
            letter.topic,
            found.first,
            letter.attempt,
            place.partition,
            place.offset,
            found.at,
            reason_of(letter).code,
            letter.reason[:REASON_LENGTH],
            letter.partition,
            letter.offset,
            self._wanted.takes(found),
        )

    def groups(self, *, waiting_only: bool = False) -> list[Group]:
        """The wanted letters counted, most first."""
        query = (
            "SELECT stage, code, topic, count(*), sum(redriven_at IS NULL), max(attempt), min(at), max(last_at)"
            " FROM letters WHERE wanted AND (redriven_at IS NULL OR NOT ?) GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3"
        )
        return [Group(*row) for row in self._rows.execute(query, (waiting_only,))]

    def newest(self, limit: int) -> list[Line]:
        """The newest wanted letters, oldest first."""
        query = f"SELECT {_LINE} FROM letters WHERE wanted ORDER BY at DESC, at_offset DESC LIMIT ?"  # noqa: S608  # a constant
        return [_line(row) for row in self._rows.execute(query, (limit,))][::-1]

    def waiting(self, after: Place, limit: int) -> list[Place]:
        """The next wanted letters after a place that were not sent again yet, in the topic's order."""
        query = (
            "SELECT at_partition, at_offset FROM letters WHERE wanted AND redriven_at IS NULL"
            " AND (at_partition, at_offset) > (?, ?) ORDER BY at_partition, at_offset LIMIT ?"
        )
        return [Place(*row) for row in self._rows.execute(query, (after.partition, after.offset, limit))]

    def total(self) -> tuple[int, int]:
        """How many letters are wanted, and how many of them wait."""
        query = "SELECT count(*), coalesce(sum(redriven_at IS NULL), 0) FROM letters WHERE wanted"
        wanted, waiting = self._rows.execute(query).fetchone()
        return wanted, waiting

    def chain(self, found: Found) -> list[Line]:
        """All letters of a letter's record, whichever stage wrote them, first ones first."""
        query = f"SELECT {_LINE} FROM letters WHERE topic = ? AND first = ? ORDER BY attempt, at"  # noqa: S608  # a constant
        return [_line(row) for row in self._rows.execute(query, (found.letter.topic, found.first))]


def _line(row: tuple[Any, ...]) -> Line:
    return Line(Place(row[0], row[1]), *row[2:])
