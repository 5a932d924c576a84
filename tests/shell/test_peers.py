"""The peers' benchmark: what is sent to them, how they are run and how their figures are read."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.bench.engine import EPOCH_S, Load, packets
from streamproc.bench.peers import (
    EVENT_RATE,
    MADE_TOPICS,
    OURS,
    Figures,
    Race,
    Result,
    alone,
    chosen,
    measure_peer,
    parse,
    table,
    timeout_s,
)
from streamproc.bench.programs import (
    LOCK,
    PEERS,
    TAIL_BYTES,
    TAIL_LINES,
    Absent,
    JavaPeer,
    Place,
    PythonPeer,
    execute,
    why,
)
from streamproc.errors import StreamprocError
from streamproc.settings.connection import Connection

pytestmark = pytest.mark.live  # most of it is other processes

#: Ends what would hang; nothing here takes a tenth of it.
SOON_S = 20.0

FAUST, QUIX, ROCKSDB, _, FLINK = PEERS
SCRIPT = PythonPeer("script", "script.py", 1_000, ("mode",))


def shell(folder: Path, name: str, text: str) -> Path:
    """An executable script, so that a test has the tools on its PATH that it says."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def place(tmp_path: Path, path: str = "") -> Place:
    """Sources and a cache under `tmp_path`, and no tool on the PATH unless one is given."""
    sources, cache = tmp_path / "sources", tmp_path / "cache"
    for folder in (sources, cache):
        folder.mkdir(exist_ok=True)
    return Place(sources, cache, path)


@given(st.integers(1, 300), st.integers(1, 50), st.sampled_from([0.5, 2_000.0, 333.3]))
def test_packets_are_those_of_the_peers_producer(readings: int, sensors: int, rate: float) -> None:
    """Each packet is byte for byte what `json.dumps` makes of the sensor, the value and the time."""
    rng = Random(1)  # noqa: S311  # made data
    wanted = [
        (
            i % sensors,
            json.dumps(
                {"sensor_id": f"s{i % sensors}", "value": rng.gauss(20, 1), "ts": EPOCH_S + i / rate}
            ).encode(),
        )
        for i in range(readings)
    ]
    assert list(packets(Load(readings, sensors, rate))) == wanted


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs", "Nd"])),
    st.sampled_from(["quix", "kafka-streams memory"]),
    *[st.integers(1, 10**9)] * 3,
)
def test_figures_are_found_in_any_noise(noise: str, name: str, readings: int, wall: int, cpu: int) -> None:
    """What else a program prints before and after its figures does not matter."""
    said = f"{name}: {readings} readings, {wall}/s wall, {cpu} per CPU-second"
    assert parse(f"{noise}\n{said}\n{noise}") == Figures(readings, float(wall), float(cpu))
    assert parse(noise) is None


@pytest.mark.parametrize("said", ["0 readings, 0/s wall, 0 per CPU-second", "9 readings, Infinity/s wall"])
def test_figures_that_measure_nothing_are_none(said: str) -> None:
    """A rate of zero or infinity has no ratio."""
    assert parse(f"flink: {said}\n") is None


def test_table_compares_by_cpu_time_and_tells_what_is_missing() -> None:
    """The ratio is that of CPU times; a part of the readings, a skipped and a failed peer are told."""
    results: dict[str, Result] = {
        "faust": Figures(40, 900.0, 1_000.0),
        "quix": Absent("ended with code 1\n    no such thing"),
        "flink": Absent("needs Maven", skipped=True),
        OURS: Figures(4_000, 200_000.0, 250_000.0),
    }
    assert table(results, 4_000).splitlines() == [
        "| peer       |    readings | readings/s wall | readings per CPU-second | ratio ours/peer |",
        "|------------|------------:|----------------:|------------------------:|----------------:|",
        "| faust      | 40 of 4,000 |             900 |                   1,000 |          250.00 |",
        "| quix       |           - |               - |                       - |               - |",
        "| flink      |           - |               - |                       - |               - |",
        "| streamproc |       4,000 |         200,000 |                 250,000 |            1.00 |",
        "",
        "quix: failed: ended with code 1",
        "    no such thing",
        "flink: skipped: needs Maven",
    ]


def test_table_without_our_figures_has_no_ratios() -> None:
    """The peers' figures are shown even when our engine failed."""
    rows = table({"quix": Figures(4, 8.0, 9.0), OURS: Absent("no figures")}, 4).splitlines()
    assert rows[2].split() == ["|", "quix", "|", "4", "|", "8", "|", "9", "|", "-", "|"]


async def test_a_program_gets_what_it_needs_and_leaves_nothing(tmp_path: Path) -> None:
    """A peer is called with topic, count and mode, the broker and a directory of its own that is gone afterwards."""
    script, told = tmp_path / "peer.py", tmp_path / "told.json"
    script.write_text(
        "import json, os, pathlib, sys, tempfile\n"
        "state = tempfile.mkdtemp()\n"
        f"pathlib.Path({str(told)!r}).write_text(json.dumps([sys.argv[1:], os.environ['KAFKA_BOOTSTRAP'], state]))\n"
        "print('noise')\n"
        "os.write(2, b'script: 7 readings, 70/s wall, 80 per CPU-second\\n')\n"
    )
    result = await measure_peer(SCRIPT, [sys.executable, str(script)], Connection("broker:1"), "topic", 7)
    assert result == Figures(7, 70.0, 80.0)
    arguments, bootstrap, state = json.loads(told.read_text())
    assert (arguments, bootstrap) == (["topic", "7", "mode"], "broker:1")
    assert not await asyncio.to_thread(Path(state).exists)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit('no broker')", "script.py ended with code 1\n    no broker"),
        ("print('hello')", "script.py ended with code 0\n    hello"),
        (
            "print('a: 7 readings, 7/s wall, 7 per CPU-second'); raise SystemExit(3)",
            "script.py ended with code 3",
        ),
    ],
)
async def test_a_failed_program_is_told(program: str, reason: str) -> None:
    """Without figures, or with an exit code, there is no result but how it ended and what it said last."""
    result = await measure_peer(SCRIPT, [sys.executable, "-c", program], Connection("broker:1"), "topic", 7)
    assert isinstance(result, Absent)
    assert not result.skipped
    assert result.reason.startswith(reason)


#: Starts a child that holds the named pipe open for writing, tells so, and hangs as the child does.
HANGING = """
import os, signal, sys
if os.fork() == 0:
    pipe = os.open(sys.argv[1], os.O_WRONLY)
    os.write(pipe, b"up")
signal.pause()
"""


@asynccontextmanager
async def reading(path: Path) -> AsyncIterator[asyncio.StreamReader]:
    """A new named pipe, open for reading without waiting for a writer; it ends when the last writer is gone."""
    os.mkfifo(path)
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        yield reader
    finally:
        transport.close()


async def test_a_hanging_program_is_ended_with_its_children(tmp_path: Path) -> None:
    """After its time-out the whole session is gone: the pipe that its child held open ends."""
    told = b""
    for seconds in (0.5, 2.0, SOON_S):  # a busy machine may start the child later than the first
        pipe = tmp_path / f"pipe-{seconds}"
        async with asyncio.timeout(2 * SOON_S), reading(pipe) as held:
            code, _ = await execute([sys.executable, "-c", HANGING, str(pipe)], tmp_path, {}, seconds)
            assert code is None
            if told := await held.read():
                break
    assert told == b"up"


async def test_a_cancelled_race_ends_its_program(tmp_path: Path) -> None:
    """Ctrl-C leaves no peer running."""
    pipe = tmp_path / "pipe"
    command = [sys.executable, "-c", HANGING, str(pipe)]
    async with asyncio.timeout(SOON_S), reading(pipe) as held:
        running = asyncio.create_task(execute(command, tmp_path, {}, SOON_S))
        assert await held.readexactly(2) == b"up"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await held.read() == b""


async def test_only_the_end_of_a_long_output_is_kept(tmp_path: Path) -> None:
    """A program that says too much fills a file, not the memory; its figures come last."""
    program = f"print('x' * {3 * TAIL_BYTES}); print('a: 7 readings, 8/s wall, 9 per CPU-second')"
    code, output = await execute([sys.executable, "-c", program], tmp_path, {}, SOON_S)
    assert code == 0
    assert len(output) == TAIL_BYTES
    assert parse(output) == Figures(7, 8.0, 9.0)


async def test_a_program_that_goes_on_after_its_figures_is_ended(tmp_path: Path) -> None:
    """Flink's job may restart for ever after its last record; what it has measured counts."""
    program = "import signal; print('a: 7 readings, 8/s wall, 9 per CPU-second', flush=True); signal.pause()"
    async with asyncio.timeout(SOON_S):
        code, output = await execute([sys.executable, "-c", program], tmp_path, {}, 10 * SOON_S, parse)
    assert code is None
    assert parse(output) == Figures(7, 8.0, 9.0)


def test_a_reason_is_short() -> None:
    """Of a long failure the last lines are shown."""
    told = why("mvn", None, "\n".join(map(str, range(1_000))))
    assert told.splitlines()[0] == "mvn was ended at its time-out"
    assert told.splitlines()[-1] == "    999"
    assert len(told.splitlines()) == TAIL_LINES + 1


async def test_java_peers_are_skipped_without_their_tools(tmp_path: Path) -> None:
    """Without Maven, or with a Java that is too old, the reason is told and nothing is built."""
    told = await FLINK.ready(place(tmp_path))
    assert isinstance(told, Absent)
    assert told.skipped
    assert "Maven" in told.reason
    tools = tmp_path / "tools"
    tools.mkdir()
    shell(tools, "mvn", "exit 1")
    shell(tools, "java", "echo 'openjdk version \"1.8.0_402\"' >&2")
    told = await FLINK.ready(place(tmp_path, str(tools)))
    assert isinstance(told, Absent)
    assert told.skipped
    assert "17" in told.reason
    assert not list((tmp_path / "cache").iterdir())


async def test_java_peers_are_built_once_in_a_copy(tmp_path: Path) -> None:
    """Maven runs on a copy of the sources, once for each state of them, and again after it failed."""
    tools, built = tmp_path / "tools", tmp_path / "built"
    tools.mkdir()
    shell(tools, "java", "echo 'openjdk version \"21.0.1\" 2023-10-17' >&2")
    shell(tools, "mvn", f'for pom; do :; done; echo "$pom" >> {built}; grep -q good "$pom"')
    where = place(tmp_path, str(tools))
    pom = where.sources / "kafka-streams" / "pom.xml"
    pom.parent.mkdir()
    pom.write_text("bad")
    for _ in range(2):
        failed = await ROCKSDB.ready(where)
        assert isinstance(failed, Absent)
        assert not failed.skipped
    pom.write_text("good")
    pom.parent.chmod(0o555)
    command = await ROCKSDB.ready(where)
    again = await ROCKSDB.ready(where)
    assert isinstance(command, list)
    assert command == again
    poms = [Path(line) for line in built.read_text().splitlines()]
    assert len(poms) == 3
    assert all(path.is_relative_to(where.cache) for path in poms)
    assert command[-1] == "Windows"
    assert command[-2].startswith(str(poms[-1].parent))


async def test_two_races_do_not_measure_each_other(tmp_path: Path) -> None:
    """The second is refused while the first runs, and welcome afterwards."""
    with alone(tmp_path), pytest.raises(StreamprocError, match="another"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_absent_and_unknown_peers_are_named(tmp_path: Path) -> None:
    """The error tells what the directory lacks and how to name another; only what is wanted must be there."""
    with pytest.raises(StreamprocError, match=r"lacks flink, kafka-streams, peer_faust\.py.*PEERS="):
        chosen(tmp_path, [])
    with pytest.raises(StreamprocError, match="no such peer: flunk; there are faust"):
        chosen(tmp_path, ["flunk"])
    (tmp_path / "flink").mkdir()
    assert chosen(tmp_path, ["flink"]) == (FLINK,)


def test_only_faust_gets_a_part_of_the_readings() -> None:
    """Faust's share bounds its own readings, never those of the others, and never exceeds all."""
    load = Load(1_000, 10, EVENT_RATE)
    assert [Race(PEERS, load, 40).share(peer) for peer in (FAUST, QUIX, FLINK)] == [40, 1_000, 1_000]
    assert Race(PEERS, load, 4_000).share(FAUST) == 1_000


def test_time_outs_leave_room() -> None:
    """Each peer has minutes to start in and several times its slowest run; four million end within the hour."""
    for peer in PEERS:
        assert timeout_s(1, peer.slowest) >= 120
        assert timeout_s(4_000_000, peer.slowest) >= 3 * 4_000_000 / peer.slowest
    assert timeout_s(4_000_000, QUIX.slowest) < 3_600


def test_only_topics_of_a_race_are_deleted() -> None:
    """On a broker that stays, the names of a race's topics are told from anybody's."""
    stamp = 1_700_000_000_000_000_000
    made = [
        f"bench-{os.getpid()}-1-readings",
        f"peer-faust-{stamp}-w1-changelog",
        f"changelog__peer-quix-{stamp}--readings--1000",
        f"peer-kstreams-{stamp}-w1-changelog",
    ]
    others = ["readings", "peer-reviews", "peer-quix", f"bench-{os.getpid()}1-readings", "changelog__orders"]
    assert [name for name in made + others if MADE_TOPICS.match(name)] == made


def test_the_lock_has_a_hash_for_each_and_no_address() -> None:
    """Nothing is installed but what was locked from whatever index the user has; Faust is the engine's own."""
    lines = LOCK.read_text().splitlines()
    pinned = [index for index, line in enumerate(lines) if "==" in line and not line.startswith("#")]
    assert pinned
    assert all(lines[index + 1].strip().startswith("--hash=sha256:") for index in pinned)
    assert "://" not in LOCK.read_text()
    ours = Path("requirements.lock").read_text().splitlines()
    faust = [line for line in lines if line.startswith("faust-streaming==")]
    assert len(faust) == 1
    assert faust[0] in ours


def test_java_peers_share_what_is_built() -> None:
    """Both stores of Kafka Streams are one program: one source, one build, two modes."""
    streams = [peer for peer in PEERS if isinstance(peer, JavaPeer) and peer.source == "kafka-streams"]
    assert [peer.mode for peer in streams] == [("rocksdb",), ("memory",)]
    assert len({peer.main for peer in streams}) == 1
