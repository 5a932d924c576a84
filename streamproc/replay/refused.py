"""Rows that the database has refused, known from the sink's letters on `dead-letter`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamproc.dlq.found import Found, payload, read
from streamproc.dlq.reader import reading
from streamproc.records import DeadLetter, Notification, PredictionRows, SeverityEvent, WindowRows
from streamproc.settings import Settings
from streamproc.store.protocol import (
    Columns,
    EventColumns,
    NotificationColumns,
    PredictionColumns,
    ReadingColumns,
    TrialColumns,
    WindowColumns,
)

#: The number of refused rows that `sink/batches.py` puts before the reasons, where there are several.
_several = re.compile(r"(\d{1,9}) rows: ")
_predictions = msgspec.json.Decoder(PredictionRows).decode
_windows = msgspec.json.Decoder(WindowRows).decode
_event = msgspec.json.Decoder(SeverityEvent).decode
_notification = msgspec.json.Decoder(Notification).decode

# The same letter may be on the topic several times; of one record there may be several, each about other rows.
_SCHEMA = """
CREATE TABLE refused (
    key TEXT, reason TEXT, count INTEGER NOT NULL, "partition" INTEGER NOT NULL, "offset" INTEGER NOT NULL,
    PRIMARY KEY (key, reason)
) WITHOUT ROWID
"""
#: KiB of pages that SQLite keeps in memory: beyond them it writes to its temporary file, some 100 bytes a row.
_CACHE_KIB = 16_384


class Refused:
    """What the sink's letters name; they are read when a row is first found missing.

    `spans` maps the partitions of `readings` to the records that count, from one offset to another.
    """

    def __init__(self, settings: Settings, spans: Mapping[int, tuple[int, int]]) -> None:
        self._settings, self._spans = settings, spans
        self._rows: sqlite3.Connection | None = None

    def close(self) -> None:
        """Let go of what was read."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    async def of(self, rows: Columns, missing: NDArray[np.intp]) -> dict[int, str]:
        """Which of these missing rows the database has refused, by index: the place of the letter, as `dlq show` takes it.

        A letter about a record of readings says how many of them it is about, not which: if more are missing, none counts.
        """
        if not len(missing):
            return {}
        if self._rows is None:
            self._rows = await self._read()
        by_key: dict[str, list[int]] = {}
        for index in missing.tolist():
            by_key.setdefault(_key(rows, index), []).append(index)
        # With max() SQLite gives the columns beside it of the same row.
        query = 'SELECT sum(count), "partition", max("offset") FROM refused WHERE key = ?'
        found = {}
        for key, indexes in by_key.items():
            count, partition, offset = self._rows.execute(query, (key,)).fetchone()
            if count is not None and len(indexes) <= count:
                found.update(dict.fromkeys(indexes, f"{partition}:{offset}"))
        return found

    async def _read(self) -> sqlite3.Connection:
        """Take in all letters of the sink; raises KafkaUnavailable."""
        rows = sqlite3.connect(
            "", isolation_level=None, check_same_thread=False
        )  # a file that goes with the connection
        rows.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        rows.execute("PRAGMA journal_mode = OFF")
        rows.execute(_SCHEMA)
        topic = self._settings.topic("dead-letter")
        async with reading(self._settings.kafka) as reader:
            if topic not in await reader.topics():
                return rows
            async for records in reader.records(topic, await reader.bounds(topic)):
                rows.execute("BEGIN")
                for found in map(read, records):
                    if isinstance(found, Found) and found.letter.stage == "sink":
                        told = self._told(found)
                        rows.executemany("INSERT OR IGNORE INTO refused VALUES (?, ?, ?, ?, ?)", told)
                rows.execute("COMMIT")
        return rows

    def _told(self, found: Found) -> Iterator[tuple[str, str, int, int, int]]:
        letter, place = found.letter, found.place
        name = letter.topic.removeprefix(self._settings.topic_prefix)
        if name == "readings":
            begin, end = self._spans.get(letter.partition, (0, 0))
            several = _several.match(letter.reason)
            keys = [f"readings/{letter.partition}/{letter.offset}"] if begin <= letter.offset < end else []
            count = int(several[1]) if several else 1
        else:
            keys, count = _keys(name, letter), 1
        for key in keys:
            yield key, letter.reason, count, place.partition, place.offset


def _key(rows: Columns, index: int) -> str:
    """What a row is known by, here and in a letter."""
    match rows:
        case ReadingColumns():
            return f"readings/{rows.partition[index]}/{rows.offset[index]}"
        case PredictionColumns():
            told = rows.sensor[index], rows.model[index], rows.made_at[index], rows.target[index]
            return _joined("predictions", told)
        case WindowColumns():
            return _joined("windows", (rows.sensor[index], rows.size_ms[index], rows.start[index]))
        case EventColumns():
            return f"events/{rows.event[index].event_id}"
        case NotificationColumns():
            return f"notifications/{rows.notification[index].notification_id}"
        case TrialColumns():
            return f"trial-events/{rows.tried[index].event_id}"


def _keys(name: str, letter: DeadLetter) -> list[str]:
    """What the rows are known by that a letter repeats; of one without its payload, or that is no such record, none."""
    value = payload(letter)
    if value is None:
        return []
    try:
        match name:
            case "predictions":
                made = _predictions(value)
                rows = zip(made.sensor, made.made_at, made.target, strict=False)
                return [
                    _joined(name, (sensor.lower(), made.model, at, target)) for sensor, at, target in rows
                ]
            case "windows":
                closed = _windows(value)
                pairs = zip(closed.sensor, closed.start, strict=False)
                return [_joined(name, (sensor.lower(), closed.size_ms, start)) for sensor, start in pairs]
            case "events":
                return [f"events/{_event(value).event_id}"]
            case "notifications":
                return [f"notifications/{_notification(value).notification_id}"]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # what is no such record has no rows
    return []


def _joined(name: str, told: Sequence[object]) -> str:
    return "/".join([name, *map(str, told)])
