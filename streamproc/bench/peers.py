"""`make bench-peers`: the same windows computed by other stream processors from the same records, one peer after another.

The peers are small programs outside the project, in a directory that the command is given. Each prints the figures of its
own process, as `name: N readings, R/s wall, R per CPU-second`.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import structlog
import typer

from streamproc import settings
from streamproc.bench.engine import Load, broker, measure, prepare
from streamproc.bench.programs import PEERS, Absent, Peer, Place, execute, why
from streamproc.errors import StreamprocError
from streamproc.kafka import clients
from streamproc.kafka.installation import VERSION, try_lock
from streamproc.settings.connection import Connection

OURS = "streamproc"
#: Half of what our engine must reach (`docs/benchmarks.md`), for its time-out.
OURS_SLOWEST = 100_000
#: Readings in a second of event time, as the peers' own producer makes them.
EVENT_RATE = 2_000.0
#: Until the first reading: a JVM, a consumer group, the creation of change-log topics.
START_TIMEOUT_S = 120.0
#: A peer may take so many times the CPU time that was ever measured: the broker and others share the machine.
PATIENCE = 5
#: The topics of a race: ours, and the peers' change logs and the like, named by the application with its start in ns.
MADE_TOPICS = re.compile(
    rf"bench-{os.getpid()}-|(changelog__|repartition__)?peer-(faust|quix|kstreams)-\d{{12,}}"
)

_FIGURES = re.compile(
    r": (?P<readings>[1-9]\d*) readings, (?P<wall>[1-9]\d*)/s wall, (?P<cpu>[1-9]\d*) per CPU-second\s*$",
    re.MULTILINE,
)
_log = structlog.get_logger(__name__)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a program reached over `readings` readings: readings a second of wall time, and of its own CPU time."""

    readings: int
    wall: float
    cpu: float


Result = Figures | Absent


def parse(output: str) -> Figures | None:
    r"""The last figures that a peer has printed, or None.

    >>> parse("noise\nquix: 4000 readings, 8000/s wall, 9000 per CPU-second\n")
    Figures(readings=4000, wall=8000.0, cpu=9000.0)
    """
    found = list(_FIGURES.finditer(output))
    if not found:
        return None
    return Figures(int(found[-1]["readings"]), float(found[-1]["wall"]), float(found[-1]["cpu"]))


def table(results: Mapping[str, Result], readings: int) -> str:
    """The results as a Markdown table in their order; the ratio is that of ours to the peer, by CPU time."""
    ours = results.get(OURS)
    rows = [("peer", "readings", "readings/s wall", "readings per CPU-second", "ratio ours/peer")]
    notes = []
    for name, result in results.items():
        if isinstance(result, Absent):
            rows.append((name, "-", "-", "-", "-"))
            notes.append(f"{name}: {'skipped' if result.skipped else 'failed'}: {result.reason}")
            continue
        ratio = f"{ours.cpu / result.cpu:,.2f}" if isinstance(ours, Figures) else "-"
        part = "" if result.readings >= readings else f" of {readings:,}"
        rows.append((name, f"{result.readings:,}{part}", f"{result.wall:,.0f}", f"{result.cpu:,.0f}", ratio))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([lines[0], f"|{rule}|", *lines[1:], *([""] if notes else []), *notes])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        row[0].ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
    ]
    return f"| {' | '.join(cells)} |"


def timeout_s(readings: int, slowest: int) -> float:
    """How long a program may take that needs at most a CPU-second for `slowest` readings."""
    return START_TIMEOUT_S + PATIENCE * readings / slowest


async def measure_peer(
    peer: Peer, command: Sequence[str], kafka: Connection, topic: str, readings: int
) -> Result:
    """Run a peer over the first `readings` of the topic, with a directory of its own for its state."""
    _log.info("running", peer=peer.name, readings=readings)
    with tempfile.TemporaryDirectory(prefix="streamproc-peer-") as folder:
        # Java asks for its own property, not for TMPDIR.
        variables = {
            "KAFKA_BOOTSTRAP": kafka.bootstrap,
            "TMPDIR": folder,
            "JAVA_TOOL_OPTIONS": f"-Djava.io.tmpdir={folder}",
        }
        whole = [*command, topic, str(readings), *peer.mode]
        code, output = await execute(whole, Path(folder), variables, timeout_s(readings, peer.slowest), parse)
    figures = parse(output)
    return figures if code in (0, None) and figures else Absent(why(peer.source, code, output))


async def _measure_ours(kafka: Connection, prefix: str, readings: int) -> Result:
    _log.info("running", peer=OURS, readings=readings)
    try:
        async with asyncio.timeout(timeout_s(readings, OURS_SLOWEST)):
            told = await measure(kafka, prefix, readings)
    except TimeoutError:
        return Absent("was ended at its time-out")
    except StreamprocError as error:
        return Absent(str(error))
    return Figures(told["readings"], told["readings"] / told["wall_s"], told["readings"] / told["cpu_s"])


@dataclass(frozen=True, slots=True)
class Race:
    """Who is measured, over what; `faust_readings` is Faust's share, whose rate does not depend on it."""

    peers: tuple[Peer, ...]
    load: Load
    faust_readings: int

    def share(self, peer: Peer) -> int:
        """How many readings the peer gets."""
        return min(self.load.readings, self.faust_readings) if peer.name == "faust" else self.load.readings


async def run(race: Race, place: Place) -> dict[str, Result]:
    """Measure each peer alone, then our engine: it may add ticks to the topic, which are not for the peers."""
    task = asyncio.current_task()
    assert task is not None
    # As Ctrl-C: no peer outlives this process, and a broker of its own is stopped.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    ready = {peer.name: await peer.ready(place) for peer in race.peers}
    results: dict[str, Result] = {}
    async with broker() as kafka, cleaned(kafka):
        prefix = await prepare(kafka, race.load)
        for peer in race.peers:
            command = ready[peer.name]
            results[peer.name] = (
                command
                if isinstance(command, Absent)
                else await measure_peer(peer, command, kafka, f"{prefix}readings", race.share(peer))
            )
        results[OURS] = await _measure_ours(kafka, prefix, race.load.readings)
    return results


@asynccontextmanager
async def cleaned(kafka: Connection) -> AsyncIterator[None]:
    """Afterwards, delete the topics that were made meanwhile: ours, and the peers' own by their names."""
    admin = clients.admin(kafka)
    await admin.start()
    try:
        before = set(await admin.list_topics())
        yield
    finally:
        made = [name for name in set(await admin.list_topics()) - before if MADE_TOPICS.match(name)]
        if made:
            await admin.delete_topics(made)
        await admin.close()


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Hold the cache for this process: two races at once would measure each other. Raises StreamprocError."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        if not try_lock(lock.fileno()):
            raise StreamprocError("another bench-peers is running; each program is measured alone")
        yield


def chosen(sources: Path, only: Sequence[str]) -> tuple[Peer, ...]:
    """The peers that are wanted, all without `only`; raises StreamprocError for unknown or absent ones."""
    unknown = set(only) - {peer.name for peer in PEERS}
    if unknown:
        known = ", ".join(peer.name for peer in PEERS)
        raise StreamprocError(f"no such peer: {', '.join(sorted(unknown))}; there are {known}")
    peers = tuple(peer for peer in PEERS if not only or peer.name in only)
    missing = sorted({peer.source for peer in peers if not (sources / peer.source).exists()})
    if missing:
        raise StreamprocError(
            f"the peers are no part of streamproc, and {sources} lacks {', '.join(missing)}: "
            "name their directory with make bench-peers PEERS=…"
        )
    return peers


@app.command()
def main(
    sources: Annotated[Path, typer.Argument(help="The directory of the peers.")],
    readings: Annotated[int, typer.Option(min=1, help="Readings in all.")] = 4_000_000,
    sensors: Annotated[int, typer.Option(min=1, help="Different sensors.")] = 1_000,
    faust_readings: Annotated[
        int, typer.Option(min=1, help="Readings for Faust, which needs 1 ms each.")
    ] = 40_000,
    only: Annotated[list[str] | None, typer.Option(help="Only this peer; may be repeated.")] = None,
) -> None:
    """Measure the peers and this engine on one broker, one after another, and print the table."""
    race = Race(chosen(sources, only or []), Load(readings, sensors, EVENT_RATE), faust_readings)
    loaded = settings.load()
    cache = loaded.cache_home.expanduser() / "streamproc" / "peers"
    with alone(cache):
        results = asyncio.run(run(race, Place(sources.resolve(), cache, os.environ.get("PATH", os.defpath))))
    kafka = "the broker in KAFKA_BOOTSTRAP" if loaded.kafka_bootstrap else f"Kafka {VERSION} on this machine"
    print(f"{readings:,} readings of {sensors:,} sensors, {kafka}, {os.cpu_count()} CPUs")
    print(f"\n{table(results, readings)}")
    if any(isinstance(result, Absent) and not result.skipped for result in results.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the table alone is output
    try:
        app()
    except StreamprocError as error:
        print(f"bench-peers: {error}", file=sys.stderr)
        sys.exit(2)
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
