"""Readings of other devices' sensors at the sink's writer, on a real SQLite file: by the registry as of their place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from streamproc.core.chunk import EDIT, Chunk, Headers
from streamproc.core.registry import RegistryLog
from streamproc.errors import KafkaUnavailable
from streamproc.records import DeadLetter, SensorEntry
from streamproc.registry.following import Followed, Whole
from streamproc.settings import Settings
from streamproc.sink.writer import Writer
from streamproc.store.protocol import Reached
from streamproc.store.sqlite.connection import connection
from streamproc.store.sqlite.store import SqliteStore
from tests.store.builders import GROUP, PLACE, START, chunk, packet

MINE, OTHER = "device-a", "device-b"


class Bench:
    """A database, the registry, and records of `readings`, each a millisecond after the one before."""

    def __init__(self, path: Path) -> None:
        self.path, self.store = path, SqliteStore(path, auto_register=True)
        self.log = RegistryLog()
        self.records: list[tuple[bytes, Headers]] = []

    def own(self, *devices: str | None) -> None:
        """Edit the registry now: the sensor `s` belongs to this device, and then to the next one."""
        for device in devices:
            self.log.append(
                self.log.position, START + len(self.records), "s", SensorEntry("s", device=device)
            )

    def edited(self, position: int | None = None) -> None:
        """A control record that names a position, by default the registry's."""
        named = self.log.position if position is None else position
        self.records.append((b"", ((EDIT, b"%d" % named),)))

    def send(self, device: str, *sensors: str) -> None:
        """A record of this device with a reading of each sensor; values are offsets."""
        for sensor in sensors or ("s",):
            at = float(len(self.records))
            self.records.append((packet(device, sensor, [at], ts=START / 1000 + at), ()))

    def chunk(self, begin: int, end: int) -> Chunk:
        """Some of the records."""
        part = self.records[begin:end]
        headers = {index: headers for index, (_, headers) in enumerate(part) if headers}
        return chunk([value for value, _ in part], begin, headers=headers)

    def writer(self, registry: Followed | None = None, wait_s: float = 60.0) -> Writer:
        """A sink's writer that has just been started."""
        settings = Settings.model_validate({"STREAMPROC_WATCHDOG_SECONDS": wait_s})
        return Writer(self.store, settings, _none, registry or Whole(self.log))

    def stored(self) -> list[int]:
        """The offsets of the records that have a row."""
        with connection(self.path) as opened:
            return [
                offset for (offset,) in opened.execute("SELECT value FROM sensor_readings ORDER BY value")
            ]

    def forget(self) -> None:
        """Make the database one that was written before it kept positions of the registry."""
        with connection(self.path) as opened:
            opened.execute("UPDATE stream_offsets SET registry_position = NULL")

    async def reached(self) -> Reached:
        """Where the partition stands in the database."""
        return (await self.store.reached(GROUP))[PLACE]


async def _none(letters: list[DeadLetter]) -> None:
    """The dead letter of a foreign reading is the engine's: the sink has none."""
    raise AssertionError(letters)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A fresh file that registers what it does not know."""
    made = Bench(tmp_path / "s.db")
    await made.store.open()
    yield made
    await made.store.close()


def told(name: str) -> float:
    """How a counter stands."""
    return REGISTRY.get_sample_value(name) or 0.0


@pytest.mark.parametrize("cuts", [(), (1, 2, 3, 4, 5, 6, 7, 8), (3, 4), (5,)])
async def test_each_reading_is_judged_at_its_place(bench: Bench, cuts: tuple[int, ...]) -> None:
    """Across edits, chunks and restarts of the sink, which knows no more than what the database has."""
    before = told("streamproc_sink_foreign_readings_total")
    bench.own(MINE)
    bench.send(MINE)  # 0: the registry as of the first record
    bench.send(OTHER)  # 1: foreign
    bench.own(OTHER)
    bench.send(OTHER, "s", "free")  # 2: foreign still, for the edit has no place yet; 3: nobody's sensor
    bench.edited()  # 4
    bench.send(OTHER)  # 5
    bench.send(MINE)  # 6: foreign from here on
    bench.edited(99)  # 7: a position that the registry did not have
    bench.send(MINE, "s", "free")  # 8: foreign, 9
    for begin, end in zip((0, *cuts), (*cuts, len(bench.records)), strict=True):
        await bench.writer().write([bench.chunk(begin, end)])
    assert bench.stored() == [0, 3, 5, 9]
    assert await bench.reached() == Reached(10, 2)
    assert told("streamproc_sink_foreign_readings_total") - before == 4


async def test_what_is_foreign_in_a_packet_leaves_the_rest(bench: Bench) -> None:
    """Row by row, as in the engine; names are the same in any case."""
    bench.own(OTHER.upper())
    rows = b'{"device_uuid":"%s","readings":[{"sensor_uuid":"S","value":1},{"sensor_uuid":"x","value":2}],"ts":5}'
    mine, theirs = (rows % name.encode() for name in (MINE, OTHER))
    await bench.writer().write(
        [chunk([mine, theirs.replace(b":5", b":6"), b'{"sensor_uuid":"s","value":3}'])]
    )
    assert bench.stored() == [1, 2, 2, 3]


async def test_a_database_of_before_begins_by_the_time_of_its_next_record(bench: Bench) -> None:
    """What is foreign by then is left out, and nothing else: rows of before stay, and positions of before are passed over."""
    bench.send(MINE)
    bench.send(OTHER)
    await bench.writer().write([bench.chunk(0, 2)])
    bench.forget()
    bench.own(MINE, OTHER)
    bench.send(MINE)  # 2: foreign by the time
    bench.send(OTHER)  # 3
    bench.edited(1)  # 4: the worker's word on an edit of before
    bench.send(OTHER)  # 5
    bench.own(MINE)
    bench.send(OTHER)  # 6
    await bench.writer().write([bench.chunk(2, 7)])
    assert bench.stored() == [0, 1, 3, 5, 6]
    assert await bench.reached() == Reached(7, 2)


async def test_a_registry_that_was_made_anew_is_taken_as_it_is(bench: Bench) -> None:
    """It does not reach the position in the database: judging begins again with the time of the next record."""
    before = told("streamproc_sink_registry_ignored_total")
    bench.own(OTHER, OTHER, OTHER)
    bench.send(MINE)
    await bench.writer().write([bench.chunk(0, 1)])
    bench.log = RegistryLog()
    bench.own(MINE)
    bench.send(MINE)
    bench.send(OTHER)
    await bench.writer().write([bench.chunk(1, 3)])
    assert (bench.stored(), await bench.reached()) == ([1], Reached(3, 1))
    assert told("streamproc_sink_registry_ignored_total") - before == 1


class Behind(Whole):
    """A registry that is read up to a position, and on once `go` is set; `asked` is when somebody waits for more."""

    def __init__(self, whole: RegistryLog, upto: int) -> None:
        super().__init__()
        for edit in whole.between(0, upto):
            self.log.append(*edit)
        self.whole, self.asked, self.go = whole, asyncio.Event(), asyncio.Event()

    async def reached(self, position: int) -> bool:
        """Wait for the rest if it is wanted."""
        if self.log.position < position:
            self.asked.set()
            await self.go.wait()
            self.log = self.whole
        return self.log.position >= position


async def test_a_record_that_names_what_is_not_read_yet_is_waited_for(bench: Bench) -> None:
    """Nothing is written meanwhile, and the wait is counted."""
    before = told("streamproc_sink_registry_waited_seconds_total")
    bench.own(MINE)
    bench.send(MINE)
    bench.own(OTHER)
    bench.edited()
    bench.send(MINE)
    registry = Behind(bench.log, 1)
    writing = asyncio.create_task(bench.writer(registry).write([bench.chunk(0, 3)]))
    await registry.asked.wait()
    done, _ = await asyncio.wait([writing], timeout=0.05)
    assert (done, bench.stored()) == (set(), [])
    registry.go.set()
    await writing
    assert bench.stored() == [0]
    assert told("streamproc_sink_registry_waited_seconds_total") > before


async def test_the_wait_has_a_bound(bench: Bench) -> None:
    """After it the sink ends with an error that says what to look at; nothing is written or passed over."""
    bench.send(MINE)
    bench.own(OTHER)
    bench.edited()
    writer = bench.writer(Behind(bench.log, 0), wait_s=0.05)
    with pytest.raises(KafkaUnavailable, match=r"`registry` was not read within 0 s as far as readings/0"):
        await writer.write([bench.chunk(0, 2)])
    assert (bench.stored(), await bench.store.reached(GROUP)) == ([], {})


class Asked(Whole):
    """A registry that counts how often all that is there is asked for."""

    asked = 0

    async def caught_up(self) -> None:
        """It is."""
        self.asked += 1
        await super().caught_up()


async def test_the_registry_is_asked_for_once_at_the_begin(bench: Bench) -> None:
    """Not for each chunk that has come meanwhile: with half a second for each, the first rows would be seconds late."""
    bench.own(MINE)
    for _ in range(20):
        bench.send(MINE)
    registry = Asked(bench.log)
    writer = bench.writer(registry)
    await writer.write([bench.chunk(at, at + 1) for at in range(19)])
    await writer.write([bench.chunk(19, 20)])
    assert (registry.asked, len(bench.stored())) == (1, 20)
