"""What is, against what should be: lost, doubled, different."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamproc.core.chunk import MOVED
from streamproc.core.codec import Rejected, parse
from streamproc.records import DeadLetter, LateReading, WindowRows
from streamproc.store.stamps import iso
from tests.chaos.journal import Journal
from tests.chaos.oracle import Expected, Key, Row, active, window_rows

#: Differences that are told in full, of each kind.
TOLD = 20

_PREDICTIONS = """SELECT s.uuid, m.name || '@' || m.version, p.predicted_at, p.target_timestamp, p.predicted_value,
    p.confidence, p.lower, p.upper, p.anomaly_score, p.is_anomaly
    FROM predictions p JOIN sensors s ON s.id = p.sensor_id JOIN ml_models m ON m.id = p.model_id"""
_READINGS = """SELECT r.dedupe_ms, r.reading_key, s.uuid, r.value, r.device_timestamp, r.timestamp
    FROM sensor_readings r JOIN sensors s ON s.id = r.sensor_id"""
_EVENTS = """SELECT e.event_id, s.uuid, e.event_code, e.message, e.recommended_action, e.severity, e.previous_severity,
    e.created_at, e.payload FROM ml_events e JOIN sensors s ON s.id = e.sensor_id"""
_NOTIFICATIONS = """SELECT n.notification_id, n.source_event_id, s.uuid, n.severity, n.title, n.message, n.created_at
    FROM alert_notifications n JOIN sensors s ON s.id = n.sensor_id"""

_WINDOWS = """SELECT s.uuid, w.size_ms, w.window_start, w.kafka_partition, w.count, w.mean, w.min, w.max, w.deviation,
    w.first, w.last, w.trend, w.first_offset, w.last_offset FROM sensor_windows w JOIN sensors s ON s.id = w.sensor_id"""


@dataclass(slots=True)
class Verdict:
    """How many rows were compared, and what is wrong with which, by table."""

    compared: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    doubled: Counter[str] = field(default_factory=Counter)
    different: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    def fault(self, kind: str, table: str, text: str) -> None:
        """Count a difference, and tell the first ones in full."""
        counter: Counter[str] = getattr(self, kind)
        counter[table] += 1
        if counter[table] <= TOLD:
            self.lines.append(f"{kind}: {table}: {text}")

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.different)


def database(verdict: Verdict, path: Path, wanted: Expected) -> None:
    """Compare all tables of the database with what they should hold."""
    held = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        tables: tuple[tuple[str, str, int, Mapping[Key, Any]], ...] = (
            ("readings", _READINGS, 2, wanted.readings),
            ("predictions", _PREDICTIONS, 4, wanted.predictions),
            ("events", _EVENTS, 1, wanted.events),
            ("notifications", _NOTIFICATIONS, 1, wanted.notifications),
            ("windows", _WINDOWS, 3, _stamped(wanted.windows)),
        )
        for table, query, width, rows in tables:
            found = ((row[:width], row[width:]) for row in held.execute(query))
            _compare(verdict, table, found, rows, wanted.origin)
        _statuses(verdict, held, wanted)
        _counts(verdict, held, wanted)
    finally:
        held.close()


def _stamped(windows: Mapping[Key, Row]) -> dict[Key, Row]:
    """The windows by sensor, size and start as the table has it."""
    stamps = iso(np.array([start for _, _, start in windows], dtype=np.int64))
    return {
        (sensor, size, stamp): row
        for ((sensor, size, _), row), stamp in zip(windows.items(), stamps, strict=True)
    }


def _compare(
    verdict: Verdict,
    table: str,
    found: Iterable[tuple[Key, Row]],
    wanted: Mapping[Key, Any],
    origin: Mapping[Key, str],
) -> None:
    seen: Counter[Key] = Counter()
    for key, row in found:
        seen[key] += 1
        candidates = wanted.get(key)
        if candidates is None:
            verdict.fault("doubled", table, f"{key} {row} is not expected")
        elif seen[key] > 1:
            verdict.fault("doubled", table, f"{key} {row} is there {seen[key]} times")
        elif row not in (candidates if isinstance(candidates, list) else [candidates]):
            verdict.fault("different", table, f"{key} is {row}, not {candidates}, of {origin.get(key)}")
    for key in wanted.keys() - seen.keys():
        verdict.fault("lost", table, f"{key} {wanted[key]} of {origin.get(key)}")
    verdict.compared[table] += len(wanted)


def _statuses(verdict: Verdict, held: sqlite3.Connection, wanted: Expected) -> None:
    """An event is active until the sensor's next one."""
    standing = {event for history in wanted.history.values() for event in active(history)}
    found = {event for (event,) in held.execute("SELECT event_id FROM ml_events WHERE status = 'active'")}
    for event in standing ^ found:
        verdict.fault(
            "different", "event status", f"{event} should be {'active' if event in standing else 'resolved'}"
        )


def _counts(verdict: Verdict, held: sqlite3.Connection, wanted: Expected) -> None:
    """No window of 1 s counts more readings than the database has rows in it: what came twice counts once."""
    query = """SELECT s.uuid, CAST(strftime('%s', r.device_timestamp) AS INTEGER) * 1000, COUNT(*)
        FROM sensor_readings r JOIN sensors s ON s.id = r.sensor_id GROUP BY 1, 2"""
    rows = {(sensor, start): count for sensor, start, count in held.execute(query)}
    for (sensor, size, start), row in wanted.windows.items():
        if size == 1_000 and row[1] > rows.get((sensor, start), 0):
            verdict.fault(
                "doubled",
                "readings in windows",
                f"{sensor} {start}: {row[1]} counted, {rows.get((sensor, start), 0)} stored; {row}",
            )


def topics(verdict: Verdict, held: Mapping[str, dict[int, list[Any]]], wanted: Expected) -> None:
    """Compare the topics: each thing at least once, and the same each time."""
    seen: set[Key] = set()
    for value in _values(held["windows"]):
        for key, row in window_rows(msgspec.json.decode(value, type=WindowRows)):
            if key not in wanted.windows:
                verdict.fault("doubled", "topic windows", f"{key} {row} is not expected")
            elif wanted.windows[key] != row:
                verdict.fault("different", "topic windows", f"{key} is {row}, not {wanted.windows[key]}")
            seen.add(key)
    for key in wanted.windows.keys() - seen:
        verdict.fault("lost", "topic windows", f"{key} {wanted.windows[key]}")
    verdict.compared["topic windows"] = len(wanted.windows)
    _trials(verdict, _values(held["trial-events"]), wanted)
    late = set(_values(held["late"]))
    for value in wanted.late - late:
        verdict.fault("lost", "late", value.decode())
    for value in late - wanted.late:
        msgspec.json.decode(value, type=LateReading)
        verdict.fault("different", "late", value.decode())
    verdict.compared["late"] = len(wanted.late)
    _letters(verdict, _values(held["dead-letter"]), wanted)


def _trials(verdict: Verdict, values: Iterable[bytes], wanted: Expected) -> None:
    found: set[Key] = set()
    for value in values:
        key = (msgspec.json.decode(value)["event_id"],)
        found.add(key)
        if wanted.trials.get(key) != value:
            verdict.fault(
                "different", "topic trial-events", f"{value.decode()[:600]}, not {wanted.trials.get(key)!r}"
            )
    for key in wanted.trials.keys() - found:
        verdict.fault("lost", "topic trial-events", wanted.trials[key].decode()[:600])
    verdict.compared["topic trial-events"] = len(wanted.trials)


def _letters(verdict: Verdict, values: Iterable[bytes], wanted: Expected) -> None:
    found: set[Key] = set()
    for value in values:
        letter = msgspec.json.decode(value, type=DeadLetter)
        place = (letter.partition, letter.offset)
        found.add(place)
        if letter.stage != "engine" or wanted.letters.get(place) != value:
            verdict.fault("different", "dead letters", value.decode()[:400])
    for place in wanted.letters.keys() - found:
        verdict.fault("lost", "dead letters", wanted.letters[place].decode()[:400])
    verdict.compared["dead letters"] = len(wanted.letters)


def _values(partitions: dict[int, list[Any]]) -> Iterator[bytes]:
    return (record.value for records in partitions.values() for record in records)


def acknowledged(
    verdict: Verdict, journal: Journal, readings: Mapping[int, list[Any]], wanted: Expected
) -> None:
    """Compare what producers were told with what is on the topic: all of it there, and once what was sent once."""
    places = {(p, record.offset): record for p, records in readings.items() for record in records}
    bodies = Counter(_content(record.value) for record in places.values() if not _is_moved(record))
    for told in journal.acknowledged:
        record = places.get((told.partition, told.offset))
        content = _content(told.body)
        what = f"{told.partition}/{told.offset} {(told.body or b'')[:200]!r}"
        elsewhere = told.offset >= 0 and (record is None or _content(record.value) != content)
        if elsewhere or bodies[content] == 0:
            verdict.fault("lost", "acknowledged records", what)
        if bodies[content] > 1 and told.reason is None and (told.body or b"") not in journal.repeated:
            verdict.fault("doubled", "records sent once", f"{what} is there {bodies[content]} times")
        if told.reason is not None and told.offset >= 0:
            letter = wanted.letters.get((told.partition, told.offset), b"").decode()
            if not letter or told.reason not in letter.replace("\\", ""):
                verdict.fault(
                    "different", "reasons", f"{told.reason!r} is not told of {what}: {letter[:200]}"
                )
    verdict.compared["acknowledged records"] = len(journal.acknowledged)


def _is_moved(record: Any) -> bool:
    return any(name == MOVED for name, _ in record.headers)


def _content(body: bytes | None) -> object:
    """What a body says, however it is written: the gateway writes it anew."""
    parsed = parse(body)
    return body if isinstance(parsed, Rejected) else msgspec.json.encode(parsed)
