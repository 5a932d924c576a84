"""The peers of `make bench-peers` as programs: what each needs, how it is built, and how it is run.

Builds are kept in the cache and made again when a lock file or a source has changed: one virtual environment from
`peers.lock` for the Python peers, and for each Java peer a copy built by Maven, since the peers' directory may be read-only.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import structlog

LOCK = Path(__file__).with_name("peers.lock")
#: What the peers are compiled for, as their POMs say.
JAVA_RELEASE = 17
#: One download or build: 60 to 90 MB, which 1 Mbit/s carries in ten minutes.
BUILD_TIMEOUT_S = 900.0
#: Between two looks at a running program's output.
LOOK_S = 1.0
#: How long a program that has told its figures may take to end by itself, with an exit code that says whether they hold.
END_S = 5.0
#: The end of a program's output, which has its figures, or why there are none.
TAIL_BYTES = 65_536
#: What is shown of that; Maven says in ten lines what is wrong.
TAIL_LINES = 15

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Absent:
    """Why there are no figures: the machine lacks something (`skipped`), or the peer failed."""

    reason: str
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where the peers' sources are, where what is made of them is kept, and the PATH that Java's tools are looked for on."""

    sources: Path
    cache: Path
    path: str


class Peer(Protocol):
    """A program that reads COUNT readings of a topic, and how it is made ready to run."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def source(self) -> str:
        """Its file or folder among the peers' sources."""

    @property
    def slowest(self) -> int:
        """The fewest readings per CPU-second that its README tells of."""

    async def ready(self, place: Place) -> list[str] | Absent:
        """Its command but for TOPIC, COUNT and the mode, made ready where that was not done before."""

    @property
    def mode(self) -> tuple[str, ...]:
        """What follows TOPIC and COUNT in its command."""


@dataclass(frozen=True, slots=True)
class PythonPeer:
    """A script, run in the virtual environment that all of them share."""

    name: str
    source: str
    slowest: int
    mode: tuple[str, ...] = ()

    async def ready(self, place: Place) -> list[str] | Absent:
        """The interpreter and the script; the environment is made anew when the lock or the Python is another."""
        version = f"{platform.python_implementation()}-{platform.python_version()}".lower()
        home = place.cache / f"{version}-{_digest([LOCK.read_bytes()])}"
        python = home / "bin" / "python"
        pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
        steps = [
            [sys.executable, "-m", "venv", "--clear", str(home)],
            [*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(LOCK)],
        ]
        absent = await _make(home, steps)
        return absent or [str(python), str(place.sources / self.source)]


@dataclass(frozen=True, slots=True)
class JavaPeer:
    """A Maven project, built in a copy, as its own directory may be read-only."""

    name: str
    source: str
    slowest: int
    main: str
    options: tuple[str, ...] = ()
    mode: tuple[str, ...] = ()

    async def ready(self, place: Place) -> list[str] | Absent:
        """The JVM, its options, the class path and the main class; built anew when a source is another."""
        java, maven = (shutil.which(tool, path=place.path) for tool in ("java", "mvn"))
        if java is None or maven is None:
            return Absent(f"needs Maven (mvn) and a JDK {JAVA_RELEASE} or newer on the PATH", skipped=True)
        release = await asyncio.to_thread(java_release, java)
        if release < JAVA_RELEASE:
            return Absent(f"needs a JDK {JAVA_RELEASE} or newer; {java} is {release}", skipped=True)
        files = _files(place.sources / self.source)
        home = place.cache / f"{self.source}-{_digest([str(name).encode() + text for name, text in files])}"
        for name, text in files:
            copy = home / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(text)
        goals = ["package", "dependency:copy-dependencies", "-DoutputDirectory=target/lib"]
        absent = await _make(home, [[maven, "-q", "-B", *goals, "-f", str(home / "pom.xml")]])
        classpath = f"{home}/target/peer.jar{os.pathsep}{home}/target/lib/*"
        return absent or [java, *self.options, "-cp", classpath, self.main]


#: Flink's serialisers look into the JDK's collections.
_FLINK_OPTIONS = tuple(f"--add-opens=java.base/java.{part}=ALL-UNNAMED" for part in ("util", "lang"))
PEERS: tuple[Peer, ...] = (
    PythonPeer("faust", "peer_faust.py", 560),
    PythonPeer("quix", "peer_quix.py", 8_600),
    JavaPeer("kafka-streams rocksdb", "kafka-streams", 5_000, "Windows", mode=("rocksdb",)),
    JavaPeer("kafka-streams memory", "kafka-streams", 38_000, "Windows", mode=("memory",)),
    JavaPeer("flink", "flink", 108_000, "FlinkWindows", _FLINK_OPTIONS),
)


def java_release(java: str) -> int:
    """The feature release of a JVM, such as 17; 0 where it does not tell."""
    told = subprocess.run([java, "-version"], check=False, capture_output=True, text=True)  # noqa: S603  # found on the PATH
    found = re.search(r'version "(\d+)', told.stderr + told.stdout)
    return int(found[1]) if found else 0


def _files(folder: Path) -> list[tuple[Path, bytes]]:
    """What is in the folder, but for what was built there, in a stable order."""
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [(name, (folder / name).read_bytes()) for name in names if name.parts[0] != "target"]


def _digest(parts: Sequence[bytes]) -> str:
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:8]


async def _make(home: Path, steps: Sequence[list[str]]) -> Absent | None:
    """Run the steps that make `home`, unless they were all done before; tells what failed."""
    complete = home / ".complete"
    if complete.exists():
        return None
    _log.info("downloading and building, once", into=str(home))
    for step in steps:
        code, output = await execute(step, home.parent, {}, BUILD_TIMEOUT_S)
        if code != 0:
            return Absent(why(Path(step[0]).name, code, output))
    complete.touch()
    return None


async def execute(
    command: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    timeout_s: float,
    enough: Callable[[str], object] = lambda _: False,
) -> tuple[int | None, str]:
    """Run a command in `folder`; gives its exit code, None if it was ended after `timeout_s`, and the end of its output.

    It is ended as well, with None, if it goes on for END_S once its output is `enough`: Flink's job may restart for ever
    after its last record.
    It leads a session of its own, and nothing of that outlives the call.
    """
    with tempfile.TemporaryFile(dir=folder) as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code: int | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while code is None and not enough(_tail(output)):
                    with suppress(TimeoutError):
                        code = await asyncio.wait_for(process.wait(), LOOK_S)
                if code is None:
                    code = await asyncio.wait_for(process.wait(), END_S)
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return code, _tail(output)


def _tail(output: IO[bytes]) -> str:
    """The end of what was written; the program writes at the same position, which reading must not move."""
    size = os.fstat(output.fileno()).st_size
    begin = max(size - TAIL_BYTES, 0)
    return os.pread(output.fileno(), size - begin, begin).decode(errors="replace")


def why(name: str, code: int | None, output: str) -> str:
    """How it ended, and below that the last lines that it said."""
    said = [f"    {line.rstrip()}" for line in output.splitlines() if line.strip()]
    ended = "was ended at its time-out" if code is None else f"ended with code {code}"
    return "\n".join([f"{name} {ended}", *said[-TAIL_LINES:]])
