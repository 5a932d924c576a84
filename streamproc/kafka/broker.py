"""A real single-node Apache Kafka (KRaft, broker and controller in one JVM) for `streamproc dev` and tests.

It listens on the loopback only. Ctrl-C at the terminal does not reach it: who started it stops it. If its
parent dies without a chance to (SIGKILL), a watcher process sees the pipe between them close and ends it.
That is plain POSIX, on Linux and macOS alike.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from streamproc.errors import BrokerError
from streamproc.kafka.installation import Installation, install, try_lock
from streamproc.settings.connection import Connection

__all__ = ["Broker", "Installation", "install"]

HOST = "127.0.0.1"
#: Serial collection spends the least CPU on a heap this small; the broker idles at 240 MB resident.
JVM_OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)
#: The format tool lives for a second: no optimising compiler for it.
FORMAT_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
#: Seconds between looks at a process or a port that may be ready; a start takes 2 s, a stop 0.3 s.
_POLL_S = 0.05
#: One readiness question; a broker that is up answers in milliseconds.
_ANSWER_S = 2.0
#: A broker whose parent was killed is gone after five seconds; one that is still there then will stay.
_LOCK_S = 6.0
#: The last lines of the log that an error shows.
_TAIL_LINES = 20

#: Reads the JVM's pid, then waits: a line ends the watch, the pipe's end ends the JVM (TERM, KILL 4 s later).
_WATCHER = """
read -r pid
read -r line && exit
kill "$pid" 2>/dev/null || exit
for second in 1 2 3 4; do sleep 1; kill -0 "$pid" 2>/dev/null || exit; done
kill -9 "$pid"
"""

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners={listeners},CONTROLLER://{host}:{controller_port}
advertised.listeners={listeners}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,\
  SASL_SSL:SASL_SSL
log.dirs={log_dir}
# Topics come from topics.yaml; a misspelt name is an error and not a new topic.
auto.create.topics.enable=false
# One node: one replica. Few partitions, for each is files to open at start.
default.replication.factor=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# The first member of a group starts at once.
group.initial.rebalance.delay.ms=0
# A broker that was killed cannot register again before its old session ends: it starts in 5 s, in 12 with
# Kafka's own 9,000.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# Two cores and a small heap: by default the cleaner alone takes 128 MB of it.
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
{more}
"""

_LOGGING = """\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={path}
appender.file.filePattern={path}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d %p %m (%c{{1}})%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
rootLogger.level=warn
rootLogger.appenderRefs=file
rootLogger.appenderRef.file.ref=file
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
"""


@dataclass(frozen=True, slots=True)
class Guard:
    """A broker's listeners besides its plain one, for tests of clients that need TLS or a login."""

    #: The port of each further listener, by its protocol: SSL, SASL_PLAINTEXT or SASL_SSL.
    ports: Mapping[str, int]
    #: Kafka's own properties: certificates, ways to log in, who may do what.
    properties: Mapping[str, str]
    #: Users with their passwords, for SCRAM; they are made when the storage is.
    users: Mapping[str, str] = field(default_factory=dict)


class Broker:
    """A running broker, made by `start`. It is bound to no event loop: one loop may start it, another stop it."""

    def __init__(
        self, process: subprocess.Popen[bytes], watcher: subprocess.Popen[bytes], home: _Home
    ) -> None:
        self._process = process
        self._watcher = watcher
        self._home = home
        self.bootstrap = f"{HOST}:{home.port}"

    @classmethod
    async def start(
        cls,
        installation: Installation,
        data_dir: Path,
        port: int = 0,
        ready_timeout_s: float = 60.0,
        guard: Guard | None = None,
    ) -> Self:
        """Start it on `data_dir`, with the topics that are there, and wait until it answers.

        Port 0 is any free one. An idle machine needs 2 s, 3 with an empty `data_dir`, 5 after a SIGKILL.
        Raises BrokerError, with what the broker said, when it does not come up.
        """
        home = _Home(data_dir, _choose_port(port), guard or Guard({}, {}))
        with home.lock.open("w") as lock:
            await _lock(lock.fileno(), home)
            await asyncio.to_thread(home.prepare, installation)
            arguments = ("kafka.Kafka", str(home.properties))
            process = _java(installation, home, JVM_OPTIONS, arguments, (lock.fileno(),))
        broker = cls(process, _watch(process.pid), home)
        try:
            await broker._ready(time.monotonic() + ready_timeout_s)
        except BaseException:
            await broker.stop(0)
            raise
        return broker

    @property
    def connection(self) -> Connection:
        """How this machine reaches it: without TLS or a login."""
        return Connection(self.bootstrap)

    @property
    def pid(self) -> int:
        """The JVM's process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait for the process to end and return its exit code (143 after SIGTERM, -9 after SIGKILL)."""
        while (code := self._process.poll()) is None:  # noqa: ASYNC110  # another process's end sets no event
            await asyncio.sleep(_POLL_S)
        self._release_watcher()
        return code

    async def stop(self, timeout_s: float = 4.0) -> None:
        """End it: SIGTERM (0.3 s on an idle machine), SIGKILL after `timeout_s`. Twice is as good as once."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), timeout_s)
        except TimeoutError:
            self.kill()
            await self.wait()

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut would; `wait` returns when it is gone."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    async def _ready(self, deadline: float) -> None:
        while not await _answers(self._home.port):
            if (code := self._process.poll()) is not None:
                raise BrokerError(f"the broker ended with code {code} before it was ready{self._home.tail()}")
            if time.monotonic() > deadline:
                raise BrokerError(f"the broker did not answer in time{self._home.tail()}")
            await asyncio.sleep(_POLL_S)

    def _release_watcher(self) -> None:
        if self._watcher.stdin and not self._watcher.stdin.closed:
            self._watcher.communicate(b"done\n")


class _Home:
    """The broker's directory: settings, logs and `log/`, where the topics are."""

    def __init__(self, path: Path, port: int, guard: Guard) -> None:
        path = path.resolve()
        if "," in str(path):
            raise BrokerError(
                f"{path}: Kafka takes the comma for the end of a directory's name; choose another data directory"
            )
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.port, self._guard = port, guard
        self.properties = path / "server.properties"
        self.logging = path / "log4j2.properties"
        self.log = path / "broker.log"
        self.console = path / "console.log"
        self.topics = path / "log"
        self.lock = path / "lock"
        self._said_before = self.log.stat().st_size if self.log.exists() else 0

    def prepare(self, installation: Installation) -> None:
        """Write the settings, and format the storage where that was not done; raises BrokerError."""
        controller_port = _choose_port(0)
        ports = {"PLAINTEXT": self.port, **self._guard.ports}
        text = _PROPERTIES.format(
            host=HOST,
            listeners=",".join(f"{protocol}://{HOST}:{port}" for protocol, port in ports.items()),
            controller_port=controller_port,
            log_dir=_property(self.topics),
            more="\n".join(f"{name}={value}" for name, value in self._guard.properties.items()),
        )
        self.properties.write_text(text, encoding="utf-8")
        self.logging.write_text(_LOGGING.format(path=_property(self.log)), encoding="utf-8")
        # The tool writes meta.properties last, so an interrupted format is done again.
        if not (self.topics / "meta.properties").exists():
            self._format(installation)

    def _format(self, installation: Installation) -> None:
        tool = "kafka.tools.StorageTool"
        arguments = [tool, "format", "-t", _cluster_id(), "-c", str(self.properties), "--ignore-formatted"]
        for name, password in self._guard.users.items():
            arguments += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        if _java(installation, self, FORMAT_OPTIONS, tuple(arguments)).wait():
            raise BrokerError(f"Kafka's storage cannot be formatted{self.tail()}")

    def tail(self) -> str:
        """The last lines of what the broker said since it was started, for an error's text."""
        lines: list[str] = []
        for path, start in ((self.log, self._said_before), (self.console, 0)):
            if path.exists():
                text = path.read_bytes()[start:].decode(errors="replace")
                # A stack trace tells a user nothing; it stays in the file.
                told = [line for line in text.splitlines() if not line.lstrip().startswith("at ")]
                lines += told[-_TAIL_LINES:]
        return "\n".join([f" (in {self.path}){':' if lines else ''}", *lines])


def _java(
    installation: Installation,
    home: _Home,
    options: tuple[str, ...],
    arguments: tuple[str, ...],
    inherited: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    logging = f"-Dlog4j2.configurationFile={home.logging}"
    with home.console.open("wb") as console:
        return subprocess.Popen(  # noqa: S603  # our own JRE and jars
            [installation.java, *options, logging, "-cp", installation.classpath, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=inherited,
        )


async def _lock(descriptor: int, home: _Home) -> None:
    """Take the directory for the JVM that will inherit the file; raises BrokerError if another JVM keeps it.

    Kafka's own lock comes too late: a second controller has cut the first one's log short by then.
    """
    deadline = time.monotonic() + _LOCK_S
    while not try_lock(descriptor):
        if time.monotonic() > deadline:
            raise BrokerError(f"another broker is running in {home.path}")
        await asyncio.sleep(_POLL_S)


def _watch(pid: int) -> subprocess.Popen[bytes]:
    """A shell that ends `pid` when this process is gone; it holds none of our files open."""
    watcher = subprocess.Popen(  # noqa: S603  # a constant program
        ["/bin/sh", "-c", _WATCHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert watcher.stdin is not None
    watcher.stdin.write(f"{pid}\n".encode())
    watcher.stdin.flush()
    return watcher


def _property(path: Path) -> str:
    """A path as a Java properties file has it: ASCII, with the escapes that JSON has too."""
    return json.dumps(str(path))[1:-1]


def _cluster_id() -> str:
    """22 characters of base64, as Kafka's own; never a leading dash, which its tool takes for an option."""
    return "S" + secrets.token_urlsafe(16)[1:]


def _choose_port(port: int) -> int:
    """The port, or for 0 a free one; raises BrokerError where it is taken."""
    if not port:
        return free_port()
    if not _is_free(port):
        raise BrokerError(f"port {port} is in use by another program")
    return port


def free_port() -> int:
    """A port of the loopback that is kept for this process and those it starts; raises BrokerError where there is none.

    It stays bound, and not listened on, until this process ends: so Linux gives it to no outgoing connection and to no
    other caller of this, while whoever lets addresses be used again (SO_REUSEADDR), as asyncio and Java do, can listen
    there. Other systems would refuse them too; there, the port is let go, and is only unlikely to be taken meanwhile.
    """
    for _ in range(100):
        kept = socket.socket()
        try:
            kept.bind((HOST, random.choice(_PORTS)))  # noqa: S311  # no secret
        except OSError:
            kept.close()
            continue
        port: int = kept.getsockname()[1]
        if sys.platform == "linux":
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            kept.detach()  # the system closes it
        else:
            kept.close()
        return port
    raise BrokerError(f"no port between {_PORTS.start} and {_PORTS.stop - 1} is free")


#: Where free ports are looked for: below those that most systems give to outgoing connections (Linux: from 32768).
_PORTS = range(20_000, 32_000)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: TIME_WAIT does not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


async def _answers(port: int) -> bool:
    """Whether the broker answers a metadata request, version 1, with itself among the living brokers.

    The bytes: Kafka protocol guide, https://kafka.apache.org/protocol; no topics are asked for.
    """
    request = struct.pack(">hhih10si", 3, 1, 0, 10, b"streamproc", 0)
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(struct.pack(">i", len(request)) + request)
                _size, _correlation, brokers = struct.unpack(">iii", await reader.readexactly(12))
            finally:
                writer.close()
    except (OSError, EOFError):  # refused, timed out, or closed half-way
        return False
    return bool(brokers > 0)
