"""`streamproc dev` as a newcomer meets it: real broker, stages and simulator, each in its process."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, Queue

import pytest

from streamproc.kafka import clients
from streamproc.kafka.broker import free_port
from streamproc.settings.connection import Connection
from tests.slowness import in_time

pytestmark = [
    pytest.mark.timeout(500),
    pytest.mark.skipif(bool(os.environ.get("KAFKA_BOOTSTRAP")), reason="dev is to start its own broker here"),
]

#: Set-up with a cached Kafka takes some 10 s on an idle machine, with a download 20.
READY_S = 150.0
SOON_S = 100.0
#: What Ctrl-C may take.
STOP_S = 5.0
#: The time between two looks at the database.
LOOK_S = 0.01


class Dev:
    """A running `streamproc dev`, its output in lines."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.gateway_port = free_port()
        self.kafka_port = free_port()
        self.console_port = free_port()
        ports = {
            "GATEWAY_PORT": self.gateway_port,
            "KAFKA_PORT": self.kafka_port,
            "CONSOLE_PORT": self.console_port,
        }
        self.seen: list[str] = []
        self._lines: Queue[str] = Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamproc", "dev", "--data-dir", str(directory), *options],
            env=os.environ | {name: str(port) for name, port in ports.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def until(self, pattern: str, within_s: float) -> str:
        """The next line that matches."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0))
            except Empty:
                pytest.fail(f"no line like {pattern!r} in time, but:\n" + "\n".join(self.seen[-40:]))
            self.seen.append(line)
            if re.search(pattern, line):
                return line

    def post(self, packet: object) -> int:
        """Post a packet as curl does, without a JSON content type; gives the status."""
        url = f"http://127.0.0.1:{self.gateway_port}/ingest/packets"
        with urllib.request.urlopen(url, json.dumps(packet).encode(), timeout=SOON_S) as answer:
            return int(answer.status)

    def took_until_row(self, sensor: str, began: float) -> float:
        """Seconds from `began` until the database has a reading of the sensor."""
        query = "SELECT value FROM sensor_readings r JOIN sensors s ON s.id = r.sensor_id WHERE s.uuid = ?"
        with closing(sqlite3.connect(f"file:{self.directory}/streamproc.db?mode=ro", uri=True)) as database:
            eventually(lambda: database.execute(query, (sensor,)).fetchall() == [(23.5,)])
        return time.monotonic() - began

    def processes(self) -> dict[int, str]:
        """Every process that has to do with this data directory, by its command line or environment."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if str(self.directory).encode() in command + (entry / "environ").read_bytes():
                    found[int(entry.name)] = command.replace(b"\0", b" ").decode()
        return found

    def child(self, name: str) -> int:
        """The process id of a stage."""
        (pid,) = [pid for pid, command in self.processes().items() if command.rstrip().endswith(f" {name}")]
        return pid

    def close(self) -> None:
        """Stop it, in whatever state it is, and read to the end."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=SOON_S)
        self._reader.join(timeout=SOON_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


def eventually(condition: Callable[[], bool]) -> None:
    """Look until the condition holds; fails after SOON_S."""
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, "did not come to be in time"
        threading.Event().wait(LOOK_S)


@pytest.fixture(scope="module")
def dev(installation: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:  # noqa: ARG001  # downloads first
    """One `dev` without simulator for the tests of this module, ready."""
    dev = Dev(tmp_path_factory.mktemp("dev") / "data", "--no-simulate")
    try:
        dev.until("^ready", READY_S)
        yield dev
    finally:
        dev.close()


def test_the_ready_line_has_the_addresses(dev: Dev) -> None:
    """Console, gateway, broker and database are named, and they are those of the settings."""
    (line,) = [line for line in dev.seen if line.startswith("ready")]
    assert f"console http://127.0.0.1:{dev.console_port}/" in line
    with urllib.request.urlopen(f"http://127.0.0.1:{dev.console_port}/", timeout=SOON_S) as answer:
        assert answer.headers["Content-Type"].startswith("text/html")
    assert f"http://127.0.0.1:{dev.gateway_port}" in line
    assert f"127.0.0.1:{dev.kafka_port}" in line
    assert str(dev.directory / "streamproc.db") in line


def test_a_posted_reading_is_a_row_within_a_second(dev: Dev) -> None:
    """202, then the row, for a device that nobody has registered; the best of three counts."""
    took = []
    for sensor in ("posted-1", "posted-2", "posted-3"):
        packet = {
            "device_uuid": "d-1",
            "readings": [{"sensor_uuid": sensor, "value": 23.5}],
            "ts": time.time(),
        }
        assert dev.post(packet) == 202
        took.append(dev.took_until_row(sensor, time.monotonic()))
    assert in_time(min(took), 1), took


def test_the_jobs_schedules_count(dev: Dev) -> None:
    """Old rows go on one's own machine, too."""
    with closing(sqlite3.connect(f"file:{dev.directory}/streamproc.db?mode=ro", uri=True)) as database:
        query = "SELECT DISTINCT name FROM job_runs WHERE outcome = 'enrolled'"
        eventually(lambda: database.execute(query).fetchall() == [("cleanup",)])


async def test_a_produced_reading_is_a_row_within_a_second(dev: Dev) -> None:
    """The same JSON written straight to the topic, by a producer that knows no key, gets the same result."""
    producer = clients.producer(Connection(f"127.0.0.1:{dev.kafka_port}"), acks="all")
    await producer.start()
    took = []
    try:
        for sensor in ("produced-1", "produced-2", "produced-3"):
            packet = {
                "device_uuid": "D-2",
                "readings": [{"sensor_uuid": sensor, "value": 23.5}],
                "ts": time.time(),
            }
            await producer.send_and_wait("readings", json.dumps(packet).encode())
            took.append(dev.took_until_row(sensor, time.monotonic()))
    finally:
        await producer.stop()
    assert in_time(min(took), 1), took


@pytest.mark.parametrize("name", ["worker", "sink", "gateway", "jobs"])
def test_a_killed_stage_is_back(dev: Dev, name: str) -> None:
    """After kill -9 the reason is shown, the stage runs again, and readings become rows as before."""
    os.kill(dev.child(name), signal.SIGKILL)
    dev.until(f"^{name} was killed by SIGKILL; it starts again in", SOON_S)
    dev.until(f"^{name} runs again", SOON_S)
    sensor = f"after-{name}"
    packet = {"device_uuid": "d-3", "readings": [{"sensor_uuid": sensor, "value": 23.5}]}

    def accepted() -> bool:
        with suppress(OSError):
            return dev.post(packet | {"packet_id": name}) == 202
        return False

    eventually(accepted)
    dev.took_until_row(sensor, time.monotonic())


def test_a_newcomer_sees_changes_and_stops_it(installation: object, tmp_path: Path) -> None:  # noqa: ARG001  # downloads first
    """Severity changes come in plain words, and Ctrl-C ends it all with exit code 0 within 5 s."""
    dev = Dev(tmp_path / "data")
    try:
        dev.until("^ready", READY_S)
        dev.until(r"^\d\d:\d\d:\d\d  CRITICAL  .*boiler-2 temperature", SOON_S)
        dev.until(r"^\d\d:\d\d:\d\d  NORMAL    .*boiler-2 temperature", SOON_S)
        assert len(dev.processes()) >= 8
        began = time.monotonic()
        dev.process.send_signal(signal.SIGINT)
        assert dev.process.wait(timeout=SOON_S) == 0
        assert in_time(time.monotonic() - began, STOP_S)
        assert dev.processes() == {}
    finally:
        dev.close()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_nothing_outlives_a_killed_dev(installation: object, tmp_path: Path) -> None:  # noqa: ARG001  # downloads first
    """After kill -9 of `dev` itself all its children end, and the next one starts on the same directory."""
    dev = Dev(tmp_path / "data", "--no-simulate")
    dev.until("^ready", READY_S)
    dev.process.kill()
    eventually(lambda: dev.processes() == {})
    dev.close()
    again = Dev(tmp_path / "data", "--no-simulate")
    try:
        again.until("^ready", READY_S)
    finally:
        again.close()
    assert again.process.returncode == 0
