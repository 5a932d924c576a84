"""The writer on a real SQLite file: each row once, whatever goes wrong."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from streamproc.core.chunk import MOVED, Chunk
from streamproc.errors import StaleOwner, StoreError, StoreUnavailable
from streamproc.records import DeadLetter, SensorEntry, Severity
from streamproc.settings import Settings
from streamproc.sink import metrics
from streamproc.sink.writer import Writer
from streamproc.store.protocol import Batch, Written
from streamproc.store.sqlite.store import SqliteStore
from tests.shell.sink_bench import Bench, singles
from tests.shell.test_sink_rows import window_value
from tests.store.builders import (
    GROUP,
    PLACE,
    START,
    chunk,
    event,
    ints,
    notification,
    packet,
    save_entries,
    single,
)

COUNT = "SELECT count(*) FROM sensor_readings"


async def test_all_topics_into_their_tables(bench: Bench) -> None:
    """One call, one transaction, every table."""
    happened = event("a", Severity.CRITICAL, Severity.NORMAL)
    told = notification("a", happened.event_id)
    await bench.writer().write(
        [
            chunk([packet("D", "A", [1.0, 2.0], ts=START / 1000)]),
            chunk([msgspec.json.encode(happened)], topic="events"),
            chunk([msgspec.json.encode(told)], topic="notifications"),
            chunk([window_value(sensor=["A", "a"])], topic="windows"),
        ]
    )
    query = (
        "SELECT s.uuid, d.uuid FROM {} t JOIN sensors s ON s.id = t.sensor_id"
        " JOIN devices d ON d.id = s.device_id"
    )
    for table, count in (
        ("sensor_readings", 2),
        ("ml_events", 1),
        ("alert_notifications", 1),
        ("sensor_windows", 2),
    ):
        assert bench.rows(query.format(table)) == [("a", "d")] * count
    assert bench.rows("SELECT topic, next_offset FROM stream_offsets ORDER BY topic") == [
        ("events", 1),
        ("notifications", 1),
        ("readings", 1),
        ("windows", 1),
    ]


async def test_it_reads_on_where_the_database_is(bench: Bench) -> None:
    """A partition that the database does not know begins at its beginning."""
    assert await bench.writer().positions([PLACE]) == {}
    await bench.writer().write([singles(10, 5)])
    assert await bench.writer().positions([PLACE, ("readings", 1)]) == {PLACE: 15}


async def test_records_read_again_are_passed_over(bench: Bench) -> None:
    """Also where only part of a chunk is new, or nothing; no dead letter goes out a second time either."""
    before = metrics.PASSED_OVER._value.get()
    writer = bench.writer()
    bad = chunk([b"?", b"?"], topic="events")
    await writer.write([singles(0, 5), singles(3, 4), bad])
    assert metrics.PASSED_OVER._value.get() == before + 2
    await writer.write([singles(0, 7), bad])
    await bench.writer().write([singles(5, 4), bad])
    assert bench.rows("SELECT value FROM sensor_readings ORDER BY value") == [(float(i),) for i in range(9)]
    assert len(bench.letters) == 2


async def test_gaps_in_offsets_are_no_loss(bench: Bench) -> None:
    """Compaction and control records leave some."""
    writer = bench.writer()
    await writer.write([singles(5, 1)])
    await writer.write([singles(90, 1)])
    assert await writer.positions([PLACE]) == {PLACE: 91}


async def test_a_retry_of_a_device_is_one_row(bench: Bench) -> None:
    """The same packet at another offset has the same identity."""
    again = packet("d", "a", [1.0], packet_id="p")
    await bench.writer().write([chunk([again, again], first_offset=0), chunk([again], first_offset=2)])
    assert bench.rows(COUNT) == [(1,)]


async def test_a_record_sent_on_is_one_row(bench: Bench) -> None:
    """Even without a time or id of its own, and in whichever order the two are read."""
    value = packet("d", "a", [1.0])
    sent = Chunk("readings", 1, ints(4), START + ints(99), [value], {0: ((MOVED, f"0:0:{START}".encode()),)})
    await bench.writer().write([sent])
    await bench.writer().write([chunk([value])])
    assert bench.rows("SELECT value, timestamp FROM sensor_readings") == [(1.0, "2023-11-14T22:13:20.000Z")]


async def test_no_transaction_has_more_rows_than_set(bench: Bench) -> None:
    """But for one record that has more by itself; the offsets move with each part."""
    bench.rows("CREATE TABLE log (rows INTEGER)")
    bench.rows(
        "CREATE TRIGGER log AFTER UPDATE ON stream_offsets"
        " BEGIN INSERT INTO log SELECT count(*) FROM sensor_readings; END"
    )
    writer = bench.writer(batch_rows=10)
    await writer.write([singles(0, 1)])
    big = chunk([packet("d", "b", [float(i) for i in range(25)])], first_offset=40)
    await writer.write([singles(1, 24), big, singles(50, 3)])
    # The offset moves first in each transaction: counted are the rows of those before.
    assert bench.rows("SELECT rows FROM log") == [(1,), (11,), (21,), (25,), (50,)]
    assert bench.rows(COUNT) == [(53,)]


async def test_no_transaction_has_more_bytes_than_set(bench: Bench) -> None:
    """But for one record that is larger by itself, which goes alone, as all do that are cut from what was fetched with it."""
    bench.rows("CREATE TABLE log (rows INTEGER)")
    bench.rows(
        "CREATE TRIGGER log AFTER UPDATE ON stream_offsets"
        " BEGIN INSERT INTO log SELECT count(*) FROM ml_events; END"
    )
    long = [msgspec.json.encode(event("a", Severity.WARN, Severity.NORMAL, ms)) for ms in range(12)]
    longest = msgspec.json.encode(
        replace(event("a", Severity.WARN, Severity.NORMAL, 99), explanation="é" * 5_000)
    )
    writer = bench.writer(batch_bytes=4 * len(long[-1]))
    await writer.write([chunk([b"?"], topic="events")])
    await writer.write([chunk([*long[:6], longest, *long[6:]], first_offset=1, topic="events")])
    # The offset moves first in each transaction: counted are the rows of those before.
    assert bench.rows("SELECT rows FROM log") == [(0,), (4,), (6,), (7,), (11,)]
    assert bench.rows("SELECT count(*), max(length(message)) FROM ml_events") == [(13, 5_000)]
    assert await bench.store.offsets(GROUP) == {("events", 0): 14}


async def test_while_the_database_is_locked_nothing_is_lost(bench: Bench) -> None:
    """Locked, locked again, released: written, once."""
    with closing(bench.connect()) as other:
        other.execute("BEGIN IMMEDIATE")

        async def release() -> None:
            if len(bench.pauses) == 2:
                other.execute("ROLLBACK")

        bench.while_away = release  # type: ignore[method-assign]  # a test's own answer
        await bench.writer().write([singles(0, 5)])
    assert len(bench.pauses) == 2
    assert bench.rows(COUNT) == [(5,)]


async def test_a_cancelled_write_can_be_done_again(bench: Bench) -> None:
    """Cancelled while the database is away, it writes nothing; the same writer goes on afterwards."""
    waiting = asyncio.Event()

    async def wait() -> None:
        waiting.set()
        await asyncio.Event().wait()

    bench.while_away = wait  # type: ignore[method-assign]
    writer = bench.writer()
    with closing(bench.connect()) as other:
        other.execute("BEGIN IMMEDIATE")
        task = asyncio.create_task(writer.write([singles(0, 5)]))
        await asyncio.wait_for(waiting.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        other.execute("ROLLBACK")
    assert bench.rows(COUNT) == [(0,)]
    await writer.write([singles(0, 5)])
    assert bench.rows(COUNT) == [(5,)]


class LostAnswer(SqliteStore):
    """Commits the first batch, and says that it could not."""

    lost = False

    async def write(self, batch: Batch) -> Written:
        """Write, and for the first time raise StoreUnavailable afterwards."""
        written = await super().write(batch)
        if not self.lost:
            self.lost = True
            raise StoreUnavailable("the answer was lost")
        return written


async def test_a_commit_whose_answer_is_lost_is_found(tmp_path: Path) -> None:
    """The second try finds its own offsets, and is no stale owner."""
    bench = Bench(tmp_path / "s.db", LostAnswer(tmp_path / "s.db", auto_register=True))

    async def nothing() -> None:
        pass

    bench.while_away = nothing  # type: ignore[method-assign]
    writer = bench.writer()
    await writer.write([singles(0, 5)])
    await writer.write([singles(5, 5)])
    assert bench.rows(COUNT) == [(10,)]
    await bench.store.close()


class Slow(SqliteStore):
    """Commits, and does not come back with the answer until it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, auto_register=True)
        self.committed, self.go_on = asyncio.Event(), asyncio.Event()

    async def write(self, batch: Batch) -> Written:
        """Write, and wait."""
        written = await super().write(batch)
        self.committed.set()
        await self.go_on.wait()
        return written


async def test_a_write_cancelled_as_it_commits_is_known_to_be_written(tmp_path: Path) -> None:
    """The same writer asks the database, passes over what it has, and goes on behind it."""
    store = Slow(tmp_path / "s.db")
    bench = Bench(tmp_path / "s.db", store)
    writer = bench.writer()
    task = asyncio.create_task(writer.write([singles(0, 5)]))
    await asyncio.wait_for(store.committed.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.go_on.set()
    await writer.write([singles(0, 7)])
    assert bench.rows(COUNT) == [(7,)]
    await store.close()


async def test_another_owner_is_told_and_then_followed(bench: Bench) -> None:
    """What another sink wrote meanwhile is not written again; asked anew, the writer reads on behind it."""
    writer = bench.writer()
    await writer.write([singles(0, 5)])
    await bench.writer().write([singles(5, 5)])
    with pytest.raises(StaleOwner):
        await writer.write([singles(5, 2)])
    assert await writer.positions([PLACE]) == {PLACE: 10}
    await writer.write([singles(5, 7)])
    assert bench.rows(COUNT) == [(12,)]


@pytest.mark.parametrize("bad", [{0}, {99}, {3, 4, 50}, set(range(40)), set(range(100))])
async def test_refused_rows_go_alone(bench: Bench, bad: set[int]) -> None:
    """Each is a dead letter with the database's reason, sent before the offset moves; others are rows."""
    bench.refuse(f"NEW.value IN ({', '.join(map(str, bad))})")
    await bench.writer().write([singles(0, 100)])
    good = sorted(set(range(100)) - bad)
    assert bench.rows("SELECT value FROM sensor_readings ORDER BY value") == [(float(i),) for i in good]
    assert [fault.offset for fault in bench.letters] == sorted(bad)
    assert {fault.reason for fault in bench.letters} == {"this reading is not wanted"}
    assert bench.letters[0].payload == single("a", float(min(bad)), min(bad)).decode()
    assert set(bench.offsets) == {None}
    assert await bench.store.offsets(GROUP) == {PLACE: 100}


async def test_rows_refused_only_together(bench: Bench) -> None:
    """Where each would be taken by itself, those beyond what is allowed are refused."""
    bench.refuse("(SELECT count(*) FROM sensor_readings) >= 7")
    await bench.writer().write([singles(0, 20)])
    assert bench.rows(COUNT) == [(7,)]
    assert [fault.offset for fault in bench.letters] == list(range(7, 20))


async def test_a_refusal_that_is_no_rows_fault_is_an_error(bench: Bench) -> None:
    """The writer must not drop rows for it, nor try for ever."""
    bench.rows(
        "CREATE TRIGGER refuse BEFORE INSERT ON stream_offsets BEGIN SELECT RAISE(ABORT, 'no offsets'); END"
    )
    with pytest.raises(StoreError, match="none of its rows: no offsets"):
        await bench.writer().write([singles(0, 3)])
    assert (bench.rows(COUNT), bench.letters) == ([(0,)], [])


async def test_unknown_sensors_go_alone(tmp_path: Path) -> None:
    """A record with some is one dead letter that names them; the known one's readings are rows."""
    bench = Bench(tmp_path / "s.db", SqliteStore(tmp_path / "s.db"))
    await save_entries(bench.store, [SensorEntry("a")])
    values = {"x": 1.0, "A": 2.0, "y": 3.0}
    readings = [{"sensor_uuid": sensor, "value": value} for sensor, value in values.items()]
    mixed = msgspec.json.encode({"device_uuid": "d", "readings": readings})
    happened = msgspec.json.encode(event("x", Severity.WARN, Severity.NORMAL))
    await bench.writer().write([chunk([mixed, single("a", 4.0)]), chunk([happened], topic="events")])
    assert bench.rows("SELECT value FROM sensor_readings ORDER BY value") == [(2.0,), (4.0,)]
    reasons = [(fault.topic, fault.offset, fault.reason) for fault in bench.letters]
    assert reasons == [
        ("readings", 0, "2 rows: unknown sensor x; unknown sensor y"),
        ("events", 0, "unknown sensor x"),
    ]
    await bench.store.close()


async def test_a_dead_letter_that_cannot_be_sent_holds_the_offset(bench: Bench) -> None:
    """Kafka away: the record is not passed over, and is tried again by the next write."""
    sent: list[DeadLetter] = []

    async def fails_once(letters: list[DeadLetter]) -> None:
        if not sent:
            sent.extend(letters)
            raise ConnectionError("no broker")
        sent.extend(letters)

    writer = Writer(bench.store, Settings(), fails_once, bench.registry)
    bad = chunk([b"?"], topic="events")
    with pytest.raises(ConnectionError):
        await writer.write([bad])
    assert await bench.store.offsets(GROUP) == {}
    await writer.write([bad])
    assert sent[0] == sent[1]
    assert await bench.store.offsets(GROUP) == {("events", 0): 1}


async def test_calls_at_once_take_turns(bench: Bench) -> None:
    """Agents of several topics share one writer."""
    writer = bench.writer()
    happened = [msgspec.json.encode(event("a", Severity.WARN, Severity.NORMAL, ms)) for ms in range(20)]
    calls = [writer.write([singles(i * 5, 5)]) for i in range(4)]
    calls += [writer.write([chunk(happened[i * 5 : i * 5 + 5], i * 5, "events")]) for i in range(4)]
    await asyncio.gather(*calls)
    assert bench.rows(COUNT) == [(20,)]
    assert bench.rows("SELECT count(*) FROM ml_events") == [(20,)]
