"""The comparison finds what is wrong: a test that cannot fail proves nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka.structs import ConsumerRecord

from streamproc.core.chunk import Chunk
from streamproc.core.registry import RegistryLog
from streamproc.core.routing import home
from streamproc.records import Range, SensorEntry
from streamproc.sink.rows import Decoder
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.store import SqliteStore
from tests.chaos import compare
from tests.chaos.compare import Verdict
from tests.chaos.journal import Journal
from tests.chaos.oracle import Expected, active, expected, made_by_core
from tests.live.oracle import PARTITIONS

PARTITION = home("d", PARTITIONS)
REGISTRY = RegistryLog()
REGISTRY.append(0, 0, "s", SensorEntry("s", critical=Range(high=60.0)))
BEGIN = 1_700_000_000
Held = dict[int, list[Any]]


def _record(offset: int, value: bytes) -> ConsumerRecord[Any, Any]:
    stamp = (BEGIN + offset) * 1000
    return ConsumerRecord("readings", PARTITION, offset, stamp, 1, b"d", value, None, 1, len(value), ())


@pytest.fixture
def readings() -> Held:
    """A sensor's forty seconds, ten of them beyond its range, with one record that is none."""
    values = [90.0 if 20 <= second < 30 else 20.0 + second % 3 for second in range(40)]
    bodies = [
        msgspec.json.encode(
            {"device_uuid": "d", "readings": [{"sensor_uuid": "s", "value": value}], "ts": BEGIN + second}
        )
        for second, value in enumerate(values)
    ]
    return {PARTITION: [_record(offset, body) for offset, body in enumerate([*bodies, b"{"])]}


@pytest.fixture
def wanted(readings: Held) -> Expected:
    """What the core makes of them."""
    return expected(readings, "", REGISTRY, seed=1)


@pytest.fixture
async def database(readings: Held, tmp_path: Path) -> Path:
    """The database as a sink would write it."""
    path = tmp_path / "streamproc.db"
    store = SqliteStore(path, auto_register=True)
    decoder = Decoder(60_000)
    whole, made = made_by_core(readings[PARTITION], "readings", PARTITION, REGISTRY)
    tables = {"readings": decoder.piece(whole).rows}
    for topic in ("predictions", "events", "notifications", "windows"):
        values = [message.value for message in made if message.topic == topic]
        numbers = np.arange(len(values), dtype=np.int64)
        tables[topic] = decoder.piece(Chunk(topic, PARTITION, numbers, numbers, values)).rows
    await store.open()
    await store.write(Batch("sink", {}, **tables))  # type: ignore[arg-type]
    await store.close()
    return path


def test_what_should_be_is_clean(database: Path, wanted: Expected) -> None:
    """The database as the sink writes it has no difference, and everything was compared."""
    verdict = Verdict()
    compare.database(verdict, database, wanted)
    assert verdict.clean, verdict.lines
    assert verdict.compared["readings"] == 40
    assert verdict.compared["events"] >= 2
    assert verdict.compared["notifications"] >= 2
    assert verdict.compared["predictions"] >= 3
    assert verdict.compared["windows"] >= 40


@pytest.mark.parametrize("table", ["sensor_readings", "predictions", "ml_events", "alert_notifications"])
@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        ("lost", "DELETE FROM {table} WHERE id = (SELECT MIN(id) FROM {table})"),
        ("doubled", "INSERT INTO {table} SELECT {copy} FROM {table} LIMIT 1"),
        ("different", "UPDATE {table} SET {changed} WHERE id = (SELECT MIN(id) FROM {table})"),
    ],
)
def test_each_difference_is_found(
    database: Path, wanted: Expected, table: str, kind: str, statement: str
) -> None:
    """A row taken away, one too many, or one changed, in each table."""
    changed = {
        "sensor_readings": "value = value + 1",
        "predictions": "predicted_value = predicted_value + 1e-9",
        "ml_events": "message = 'other'",
        "alert_notifications": "title = 'other'",
    }[table]
    with sqlite3.connect(database) as held:
        indexes = held.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL",
            (table,),
        )
        for (name,) in indexes.fetchall():
            held.execute(f"DROP INDEX {name}")
        columns = [row[1] for row in held.execute(f"PRAGMA table_info({table})")]
        fresh = {"id": "NULL", "event_id": "event_id || 'x'", "notification_id": "notification_id || 'x'"}
        copy = ", ".join(fresh.get(name, name) for name in columns)
        held.execute(statement.format(table=table, copy=copy, changed=changed))
    held.close()
    verdict = Verdict()
    compare.database(verdict, database, wanted)
    assert sum(getattr(verdict, kind).values()) >= 1, verdict
    assert not verdict.clean


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        ("lost", "DELETE FROM sensor_windows WHERE window_start < '2023-11-14T22:13:22Z'"),
        (
            "doubled",
            "UPDATE sensor_windows SET window_start = '2024-01-01T00:00:00.000Z' WHERE size_ms = 10000",
        ),
        ("different", "UPDATE sensor_windows SET mean = mean + 1e-9 WHERE size_ms = 1000"),
    ],
)
def test_each_difference_of_windows_is_found(
    database: Path, wanted: Expected, kind: str, statement: str
) -> None:
    """Windows that are gone, that nobody expects, and with another mean."""
    with sqlite3.connect(database) as held:
        held.execute(
            "DELETE FROM sensor_windows WHERE size_ms = 10000 AND window_start > '2023-11-14T22:13:21Z'"
        )
        held.execute(statement)
    held.close()
    verdict = Verdict()
    compare.database(verdict, database, wanted)
    assert getattr(verdict, kind)["windows"] >= 1


def test_a_record_that_is_not_there_is_lost(readings: Held, wanted: Expected) -> None:
    """An acknowledgement of what the topic does not hold, at its place or at all."""
    body = readings[PARTITION][3].value
    for change in (
        lambda journal: journal.add(body, PARTITION, 4),
        lambda journal: journal.add(body, PARTITION, 400),
        lambda journal: journal.add(b'{"sensor_id": 1, "value": 2}', PARTITION, -1),
    ):
        verdict, journal = Verdict(), Journal()
        _apply(change, journal)
        compare.acknowledged(verdict, journal, readings, wanted)
        assert verdict.lost == {"acknowledged records": 1}


def _apply(change: Callable[[Journal], None], journal: Journal) -> None:
    change(journal)


def test_a_record_sent_once_is_there_once(readings: Held, wanted: Expected) -> None:
    """A second copy that no producer sent is told; where a producer sent it again, it is not."""
    body = readings[PARTITION][3].value
    twice = {PARTITION: [*readings[PARTITION], _record(41, body)]}
    verdict, journal = Verdict(), Journal()
    journal.add(body, PARTITION, 3)
    compare.acknowledged(verdict, journal, twice, wanted)
    assert verdict.doubled == {"records sent once": 1}
    verdict = Verdict()
    journal.unsure(body, "503")
    compare.acknowledged(verdict, journal, twice, wanted)
    assert verdict.clean


def test_an_event_stands_until_the_next() -> None:
    """The next event of its sensor ends it; a recovery never stands."""
    assert active([(1, "a", 2), (2, "b", 0)]) == set()
    assert active([(1, "a", 2), (2, "b", 1)]) == {"b"}
