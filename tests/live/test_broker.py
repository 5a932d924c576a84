"""The embedded broker: comes up, keeps what it was given, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from streamproc.errors import BrokerError
from streamproc.kafka import clients
from streamproc.kafka.broker import Broker, Installation, install
from streamproc.settings.connection import Connection
from streamproc.topics import TopicSpec, apply, plan

#: Several times what a start takes while other tests load the machine.
PATIENCE_S = 120

TOPIC = TopicSpec("kept", "d", None, 1, {"cleanup.policy": "delete"})

#: Starts a broker in the directory given, tells its pid, and would wait for its end.
PARENT = """
import asyncio, sys
from pathlib import Path
from time import monotonic
from streamproc.kafka.broker import Broker, install

async def main():
    broker = await Broker.start(await install(lambda line: None), Path(sys.argv[1]))
    print(broker.pid, flush=True)
    await broker.wait()

asyncio.run(main())
"""


async def produce(bootstrap: Connection, topic: str, value: bytes) -> None:
    """Write one record, with the key that a compacted topic wants, acknowledged by all."""
    async with clients.producer(bootstrap, acks="all", max_request_size=4_000_000) as producer:
        await producer.send_and_wait(topic, value, key=b"k")


async def consume(bootstrap: Connection, topic: str) -> bytes:
    """The topic's first record."""
    async with clients.consumer(bootstrap, topic, auto_offset_reset="earliest") as consumer:
        record = await asyncio.wait_for(consumer.getone(), PATIENCE_S)
        return bytes(record.value)


async def ended(descriptor: int) -> None:
    """Wait for a process, by its pidfd, that need not be ours to end."""
    try:
        await asyncio.to_thread(select.select, [descriptor], [], [], PATIENCE_S)
        assert select.select([descriptor], [], [], 0)[0], "it is still alive"
    finally:
        os.close(descriptor)


async def test_a_record_goes_in_and_comes_out(bootstrap: Connection, topics: str) -> None:
    """A block as large as a checkpoint's is acknowledged and read back."""
    block = os.urandom(300_000)
    await produce(bootstrap, f"{topics}checkpoints", block)
    assert await consume(bootstrap, f"{topics}checkpoints") == block


async def test_a_misspelt_topic_is_not_made(broker: Broker | None, topics: str) -> None:
    """Topics come from topics.yaml alone."""
    if broker is None:
        pytest.skip("how the broker given is set up is not ours to say")
    name, other = f"{topics}raedings", replace(TOPIC, name=f"{topics}kept")
    async with clients.producer(broker.connection) as producer:
        await producer.client.add_topic(name)
        await producer.client.force_metadata_update()
        # Made by the same controller, it is there after what was asked for before it.
        await apply(broker.connection, await plan(broker.connection, [other]))
        await producer.client.add_topic(other.name)
        await producer.client.force_metadata_update()
        assert other.name in producer.client.cluster.topics()
        assert name not in producer.client.cluster.topics()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_restart_keeps_records(installation: Installation, tmp_path: Path, end: str) -> None:
    """On the same directory and port the topics and records are there again, however it ended."""
    broker = await Broker.start(installation, tmp_path)
    await apply(broker.connection, await plan(broker.connection, [TOPIC]))
    await produce(broker.connection, TOPIC.name, b"1")
    if end == "kill":
        broker.kill()
        assert await broker.wait() == -signal.SIGKILL
    else:
        await broker.stop()
        assert await broker.wait() == 128 + signal.SIGTERM
    port = int(broker.bootstrap.rpartition(":")[2])
    again = await Broker.start(installation, tmp_path, port)
    try:
        assert again.bootstrap == broker.bootstrap
        assert await consume(again.connection, TOPIC.name) == b"1"
    finally:
        await again.stop()
    assert "Kafka Server started" in (tmp_path / "broker.log").read_text()


async def test_stop_is_idempotent_and_kills_what_does_not_end(
    installation: Installation, tmp_path: Path
) -> None:
    """A broker that cannot answer SIGTERM is gone all the same, and a second stop has nothing to do."""
    broker = await Broker.start(installation, tmp_path / "en España 漢 😀" / "kafka")
    assert os.getsid(broker.pid) == broker.pid, "Ctrl-C at the terminal must not reach it"
    os.kill(broker.pid, signal.SIGSTOP)
    await broker.stop(0.2)
    assert await broker.wait() == -signal.SIGKILL
    await broker.stop()


async def test_a_directory_that_kafka_would_split_is_refused(
    installation: Installation, tmp_path: Path
) -> None:
    """To Kafka a comma parts two directories: one of them would lie wherever the broker was started."""
    with pytest.raises(BrokerError, match="comma"):
        await Broker.start(installation, tmp_path / "one, two")
    assert not (tmp_path / "one, two").exists()


async def test_a_parent_that_is_killed_leaves_no_broker(installation: Installation, tmp_path: Path) -> None:
    """SIGKILL of who started it ends the JVM too; a broker started at once waits for the directory."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, tmp_path, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), PATIENCE_S))
    jvm_gone = asyncio.create_task(ended(os.pidfd_open(pid)))
    parent.kill()
    await parent.wait()
    broker = await Broker.start(installation, tmp_path)
    await broker.stop()
    await jvm_gone


async def test_two_brokers_do_not_share_a_directory(installation: Installation, tmp_path: Path) -> None:
    """A second one is refused before it touches anything, for it would cut the first one's log short."""
    broker = await Broker.start(installation, tmp_path)
    try:
        with pytest.raises(BrokerError, match="another broker is running in"):
            await Broker.start(installation, tmp_path)
        await apply(broker.connection, await plan(broker.connection, [TOPIC]))
    finally:
        await broker.stop()


async def test_a_port_in_use_is_told(installation: Installation, tmp_path: Path) -> None:
    """A port that another program has is named, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} is in use"):
            await Broker.start(installation, tmp_path, port)


async def test_a_broker_that_does_not_come_up_tells_why(installation: Installation, tmp_path: Path) -> None:
    """The error carries what Kafka said, without its stack traces."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=7\n")
    with pytest.raises(BrokerError, match=r"ended with code 1 .*\n(?s:.*)Stored node id 7") as told:
        await Broker.start(installation, tmp_path)
    assert "\tat " not in str(told.value)


async def test_a_broker_that_is_not_ready_in_time_is_ended(
    installation: Installation, tmp_path: Path
) -> None:
    """After the time-out no process is left: the next one has the directory to itself."""
    with pytest.raises(BrokerError, match="did not answer in time"):
        await Broker.start(installation, tmp_path, ready_timeout_s=0)
    broker = await Broker.start(installation, tmp_path)
    await broker.stop()


async def test_an_installation_is_made_once(installation: Installation, tmp_path: Path) -> None:
    """Of two at once one fetches what is missing or damaged, the other waits; a third has nothing to do."""
    home = next(parent for parent in installation.jars[0].parents if parent.name == "repository")
    copy = tmp_path / "streamproc" / home.parent.name / "repository"
    shutil.copytree(home, copy)
    small = next(jar for jar in installation.jars if jar.name.startswith("jspecify"))
    (copy / small.relative_to(home)).write_bytes(b"cut short")
    lines: list[str] = []
    first, second = await asyncio.gather(install(lines.append, tmp_path), install(lines.append, tmp_path))
    assert first == second
    assert len([line for line in lines if "downloading 1 jar " in line]) == 1
    assert len([line for line in lines if "waiting" in line]) == 1
    assert (copy / small.relative_to(home)).read_bytes() == small.read_bytes()
    lines.clear()
    assert await install(lines.append, tmp_path) == first
    assert lines == []
