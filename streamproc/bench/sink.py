"""How much of a bare `executemany` the sink's writer reaches, in rows per CPU-second."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import orjson

from streamproc.core.chunk import Chunk
from streamproc.records import WINDOW_SIZES_MS, DeadLetter
from streamproc.registry.following import Whole
from streamproc.settings import Settings
from streamproc.sink.rows import Decoder
from streamproc.sink.writer import Writer
from streamproc.store.columns import reading_columns, window_columns
from streamproc.store.protocol import Columns, ReadingColumns, WindowColumns
from streamproc.store.sqlite.connection import connection
from streamproc.store.sqlite.rows import INSERT_READING, INSERT_WINDOW
from streamproc.store.sqlite.store import SqliteStore

#: 2023-11-14T22:13:20Z: a fixed time, so that each run writes the same rows.
_START_MS = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """What is written, as chunks of the topic, each a batch, and the table that its rows are in."""

    topic: str
    table: str
    chunks: list[Chunk]
    rows: int
    batch_rows: int
    sensors: int


async def run(rows: int, sensors: int = 1_000, batch_rows: int = 20_000, rounds: int = 3) -> None:
    """Print the rows per CPU-second of the writer, those of a bare `executemany`, and the ratio, for readings and windows.

    The writer's are from Kafka's bytes to committed. The other gets the same rows for the same table: same
    indexes, pragmas and file system, one transaction a batch. The best of some rounds counts, each with
    fresh files.
    """
    for load in (reading_load(rows, sensors, batch_rows), window_load(rows, sensors, batch_rows)):
        with tempfile.TemporaryDirectory() as folder:
            writer, bare = [], []
            for number in range(rounds):
                writer.append(await _writer(Path(folder) / f"writer-{number}.db", load))
                bare.append(await _bare(Path(folder) / f"bare-{number}.db", load))
        ours, theirs = load.rows / min(writer), load.rows / min(bare)
        print(
            f"{load.topic}: {load.rows} rows, {sensors} sensors, {batch_rows} rows a batch, best of {rounds}"
        )
        print(f"writer, bytes to committed  {ours:12,.0f} rows per CPU-second")
        print(f"bare executemany            {theirs:12,.0f} rows per CPU-second")
        print(f"ratio                       {ours / theirs:12.2f}")


def _chunk(topic: str, first: int, values: list[bytes]) -> Chunk:
    at = np.arange(first, first + len(values))
    return Chunk(topic, 0, at, _START_MS + at, values)


def reading_load(rows: int, sensors: int, batch_rows: int) -> Load:
    """Single readings as direct producers write them, sensor by sensor in turn."""
    values = np.random.default_rng(1).normal(20, 5, rows).round(2).tolist()
    messages = [
        orjson.dumps({"sensor_id": f"sensor-{i % sensors}", "value": values[i], "ts": (_START_MS + i) / 1000})
        for i in range(rows)
    ]
    chunks = [
        _chunk("readings", begin, messages[begin : begin + batch_rows])
        for begin in range(0, rows, batch_rows)
    ]
    return Load("readings", "sensor_readings", chunks, rows, batch_rows, sensors)


def window_load(rows: int, sensors: int, batch_rows: int) -> Load:
    """Windows as the engine writes them for sensors that each send a reading a second: a message a second and size."""
    chunks: list[Chunk] = []
    messages: list[bytes] = []
    offset = made = 0
    for value in _window_messages(sensors):
        messages.append(value)
        made += sensors
        if (len(messages) + 1) * sensors > batch_rows or made >= rows:
            chunks.append(_chunk("windows", offset, messages))
            offset += len(messages)
            messages = []
        if made >= rows:
            break
    return Load("windows", "sensor_windows", chunks, made, batch_rows, sensors)


def _window_messages(sensors: int) -> Iterator[bytes]:
    """One message for all sensors, of each size in turn as its windows end, for ever."""
    chance = np.random.default_rng(1)
    names = [f"sensor-{i}" for i in range(sensors)]
    at = np.arange(sensors)
    second = 0
    while True:
        second += 1
        for size_ms in (size for size in WINDOW_SIZES_MS if second * 1000 % size == 0):
            floats = chance.normal(20, 5, (7, sensors))
            yield orjson.dumps(
                {
                    "size_ms": size_ms,
                    "topic": "readings",
                    "partition": 0,
                    "sensor": names,
                    "start": np.full(sensors, _START_MS + second * 1000 - size_ms),
                    "count": np.full(sensors, size_ms // 1000),
                    **dict(
                        zip(
                            ("mean", "min", "max", "deviation", "first", "last", "trend"), floats, strict=True
                        )
                    ),
                    "first_offset": second * sensors + at,
                    "last_offset": second * sensors + at,
                },
                option=orjson.OPT_SERIALIZE_NUMPY,
            )


def batches_of(load: Load) -> Settings:
    """The settings with which each chunk of the load is a batch, as it is for the bare ways."""
    most = max(chunk.size_bytes for chunk in load.chunks)
    return Settings.model_validate({"sink_batch_rows": load.batch_rows, "sink_batch_bytes": most})


async def _prepared(path: Path, sensors: int) -> None:
    """A database that has the schema, and knows the sensors."""
    store = SqliteStore(path)
    await store.open()
    await store.close()
    opened = connection(path)
    opened.execute("BEGIN")
    opened.executemany("INSERT INTO sensors (uuid) VALUES (?)", ((f"sensor-{i}",) for i in range(sensors)))
    opened.execute("COMMIT")
    opened.close()


async def _writer(path: Path, load: Load) -> float:
    """CPU-seconds, of all threads, that the writer takes."""
    await _prepared(path, load.sensors)
    store = SqliteStore(path)
    writer = Writer(store, batches_of(load), no_letters, Whole())
    await writer.positions([(load.topic, 0)])
    started = process_time()
    for chunk in load.chunks:
        await writer.write([chunk])
    seconds = process_time() - started
    await store.close()
    _check(path, load)
    return seconds


async def no_letters(letters: list[DeadLetter]) -> None:
    """Fail: the rows are all good."""
    raise AssertionError(f"the benchmark's rows are all good, yet {letters[0].reason}")


async def _bare(path: Path, load: Load) -> float:
    """CPU-seconds of one plain `executemany` a batch, its parameters made ready beforehand."""
    await _prepared(path, load.sensors)
    opened = connection(path)
    ids: dict[str, int] = dict(opened.execute("SELECT uuid, id FROM sensors"))
    decoder = Decoder(0)
    batches = [_statement(decoder.piece(chunk).rows, ids) for chunk in load.chunks]
    started = process_time()
    for statement, rows in batches:
        opened.execute("BEGIN")
        opened.executemany(statement, rows)
        opened.execute("COMMIT")
    seconds = process_time() - started
    opened.close()
    _check(path, load)
    return seconds


def _statement(rows: Columns, ids: dict[str, int]) -> tuple[str, list[tuple[Any, ...]]]:
    if isinstance(rows, WindowColumns):
        return INSERT_WINDOW, list(zip(*window_columns(rows, ids), strict=True))
    assert isinstance(rows, ReadingColumns)
    return INSERT_READING, list(zip(*reading_columns(rows, ids), strict=True))


def _check(path: Path, load: Load) -> None:
    opened = connection(path)
    (count,) = opened.execute(f"SELECT count(*) FROM {load.table}").fetchone()  # noqa: S608  # a name from above
    opened.close()
    if count != load.rows:
        raise AssertionError(f"{count} rows were written of {load.rows}")
