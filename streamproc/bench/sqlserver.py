"""How much of the fastest bare way into SQL Server the sink's writer reaches, in rows per second on the same server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter, process_time
from typing import Any

from streamproc.bench.database import LIMITS, connection_string, made
from streamproc.bench.sink import Load, batches_of, no_letters, reading_load, window_load
from streamproc.registry.following import Whole
from streamproc.settings import Settings
from streamproc.sink.rows import Decoder
from streamproc.sink.writer import Writer
from streamproc.store.protocol import Columns
from streamproc.store.sqlserver.connections import Connections, connect
from streamproc.store.sqlserver.forms import Form, Values, form_of
from streamproc.store.sqlserver.store import SqlServerStore

#: Gives the rows of one batch to the server, in a transaction that is committed by the caller.
Bare = Callable[[Any, Form, Values], Awaitable[None]]


async def run(
    settings: Settings, rows: int, sensors: int = 1_000, batch_rows: int = 20_000, rounds: int = 3
) -> None:
    """Print the rows per second of the writer and of each bare way, and the ratio to the fastest, for readings and windows.

    The writer's are from Kafka's bytes to committed, with offsets. The bare ways get the same rows, ready made, for the same
    table with the same indexes and trigger, one transaction a batch, and look for no row that is there. The best of some
    rounds counts, each in an empty table of a database that is made for it on the server of the settings, and dropped.
    """
    for load in (reading_load(rows, sensors, batch_rows), window_load(rows, sensors, batch_rows)):
        best: dict[str, tuple[float, float]] = {}
        for _ in range(rounds):
            for name, way in _WAYS.items():
                async with made_database(settings, load) as text:
                    took = await way(text, load)
                best[name] = min(best.get(name, took), took)
        _tell(load, best, rounds)


def _tell(load: Load, best: dict[str, tuple[float, float]], rounds: int) -> None:
    print(
        f"{load.topic}: {load.rows} rows, {load.sensors} sensors, {load.batch_rows} rows a batch, best of {rounds}"
    )
    for name, (seconds, cpu) in best.items():
        print(
            f"{name:32} {load.rows / seconds:10,.0f} rows/s   {load.rows / cpu:12,.0f} per CPU-second of the client"
        )
    writer, *bare = (seconds for seconds, _ in best.values())
    print(f"ratio to the fastest bare way    {min(bare) / writer:10.2f}")


@asynccontextmanager
async def made_database(settings: Settings, load: Load) -> AsyncIterator[str]:
    """The connection string for a database with the schema and the load's sensors, which goes with the block."""
    async with made(settings) as chosen:
        text = connection_string(chosen)
        link = await connect(text, "the benchmark's database", LIMITS)
        try:
            cursor = await link.connection.cursor()
            for number in range(load.sensors):
                await cursor.execute("INSERT INTO dbo.sensors (stream_key) VALUES (?)", f"sensor-{number}")
            await cursor.close()
            await link.connection.commit()
        finally:
            await link.close()
        yield text


async def _writer(text: str, load: Load) -> tuple[float, float]:
    """Seconds, and CPU-seconds of all threads, that the writer takes."""
    store = SqlServerStore(Connections(text, "the benchmark's database", LIMITS))
    await store.open()
    writer = Writer(store, batches_of(load), no_letters, Whole())
    await writer.positions([(load.topic, 0)])
    began, cpu = perf_counter(), process_time()
    for chunk in load.chunks:
        await writer.write([chunk])
    took = perf_counter() - began, process_time() - cpu
    await store.close()
    return took


def _bare(insert: Bare) -> Callable[[str, Load], Awaitable[tuple[float, float]]]:
    """The same for a bare way, its values made ready beforehand."""

    async def way(text: str, load: Load) -> tuple[float, float]:
        link = await connect(text, "the benchmark's database", LIMITS)
        try:
            cursor = await link.connection.cursor()
            await cursor.execute("SELECT uuid, id FROM dbo.sensors")
            ids: dict[str, int] = dict(map(tuple, await cursor.fetchall()))
            decoder = Decoder(0)
            made = [_values(decoder.piece(chunk).rows, ids) for chunk in load.chunks]
            began, cpu = perf_counter(), process_time()
            for form, values in made:
                await insert(cursor, form, values)
                await link.connection.commit()
            took = perf_counter() - began, process_time() - cpu
            await cursor.close()
        finally:
            await link.close()
        return took

    return way


def _values(rows: Columns, ids: dict[str, int]) -> tuple[Form, Values]:
    form = form_of(rows)
    return form, form.values(rows, ids, {})


async def _parameters(cursor: Any, form: Form, values: Values) -> None:
    """Arrays of parameters: what pyodbc calls fast_executemany."""
    cursor._impl.fast_executemany = True  # noqa: SLF001  # aioodbc has no other way to it
    names, places = ", ".join(f"[{name}]" for name in form.types), ", ".join("?" * len(form.types))
    statement = f"INSERT INTO {form.relation} ({names}) VALUES ({places})"  # noqa: S608  # the form's own names
    await cursor.executemany(statement, list(zip(*values, strict=True)))


async def _json(cursor: Any, form: Form, values: Values) -> None:
    """One JSON text, as the store does it, without a look at what is there."""
    ((statement, parameters),) = form.inserts(values)
    before, _, _ = statement.partition(" WHERE NOT EXISTS")
    await cursor.execute(before, *parameters)


_WAYS: dict[str, Callable[[str, Load], Awaitable[tuple[float, float]]]] = {
    "writer, bytes to committed": _writer,
    "bare fast_executemany": _bare(_parameters),
    "bare INSERT from OPENJSON": _bare(_json),
}
