"""How much of a bare `executemany` the sink's writer reaches, in rows per CPU-second."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import numpy as np
import orjson

from streamproc.core.chunk import Chunk
from streamproc.records import DeadLetter
from streamproc.settings import Settings
from streamproc.sink.rows import Decoder
from streamproc.sink.writer import Writer
from streamproc.store.protocol import ReadingColumns
from streamproc.store.sqlite import SqliteStore, connection
from streamproc.store.sqlite_rows import INSERT_READING, reading_columns

#: 2023-11-14T22:13:20Z: a fixed time, so that each run writes the same rows.
_START_MS = 1_700_000_000_000
_TOPIC = "readings"


async def run(rows: int, sensors: int = 1_000, batch_rows: int = 20_000, rounds: int = 3) -> None:
    """Print the rows per CPU-second of the writer, those of a bare `executemany`, and the ratio.

    The writer's are from Kafka's bytes to committed. The other gets the same rows for the same table: same
    indexes, pragmas and file system, one transaction a batch. The best of some rounds counts, each with
    fresh files.
    """
    chunks = list(_chunks(rows, sensors, batch_rows))
    with tempfile.TemporaryDirectory() as folder:
        writer, bare = [], []
        for number in range(rounds):
            writer.append(await _writer(Path(folder) / f"writer-{number}.db", chunks, sensors))
            bare.append(await _bare(Path(folder) / f"bare-{number}.db", chunks, sensors))
    ours, theirs = rows / min(writer), rows / min(bare)
    print(f"{rows} rows, {sensors} sensors, {batch_rows} rows a batch, best of {rounds}")
    print(f"writer, bytes to committed  {ours:12,.0f} rows per CPU-second")
    print(f"bare executemany            {theirs:12,.0f} rows per CPU-second")
    print(f"ratio                       {ours / theirs:12.2f}")


def _chunks(rows: int, sensors: int, batch_rows: int) -> Iterator[Chunk]:
    """Single readings as direct producers write them, sensor by sensor in turn."""
    values = np.random.default_rng(1).normal(20, 5, rows).round(3).tolist()
    for begin in range(0, rows, batch_rows):
        at = np.arange(begin, min(begin + batch_rows, rows))
        yield Chunk(
            topic=_TOPIC,
            partition=0,
            offsets=at,
            timestamps=_START_MS + at,
            values=[
                orjson.dumps(
                    {"sensor_id": f"sensor-{i % sensors}", "value": values[i], "ts": (_START_MS + i) / 1000}
                )
                for i in at.tolist()
            ],
        )


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


async def _writer(path: Path, chunks: list[Chunk], sensors: int) -> float:
    """CPU-seconds, of all threads, that the writer takes."""
    await _prepared(path, sensors)
    store = SqliteStore(path)
    settings = Settings.model_validate({"sink_batch_rows": max(map(len, chunks))})
    writer = Writer(store, settings, _no_letters)
    await writer.positions([(_TOPIC, 0)])
    started = process_time()
    for chunk in chunks:
        await writer.write([chunk])
    seconds = process_time() - started
    await store.close()
    _check(path, chunks)
    return seconds


async def _no_letters(letters: list[DeadLetter]) -> None:
    raise AssertionError(f"the benchmark's rows are all good, yet {letters[0].reason}")


async def _bare(path: Path, chunks: list[Chunk], sensors: int) -> float:
    """CPU-seconds of one plain `executemany` a batch, its parameters made ready beforehand."""
    await _prepared(path, sensors)
    opened = connection(path)
    ids: dict[str, int] = dict(opened.execute("SELECT uuid, id FROM sensors"))
    decoder = Decoder(0)
    tables = [decoder.piece(chunk).rows for chunk in chunks]
    batches = [
        list(zip(*reading_columns(rows, ids), strict=True))
        for rows in tables
        if isinstance(rows, ReadingColumns)
    ]
    started = process_time()
    for batch in batches:
        opened.execute("BEGIN")
        opened.executemany(INSERT_READING, batch)
        opened.execute("COMMIT")
    seconds = process_time() - started
    opened.close()
    _check(path, chunks)
    return seconds


def _check(path: Path, chunks: list[Chunk]) -> None:
    opened = connection(path)
    (count,) = opened.execute("SELECT count(*) FROM sensor_readings").fetchone()
    opened.close()
    if count != sum(map(len, chunks)):
        raise AssertionError(f"{count} rows were written of {sum(map(len, chunks))}")
