"""Each process does its work as a user of its own, with the rights that docs/kafka-security.md lists and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from time import time

import aiohttp
import msgspec
import pytest
from aiokafka.protocol.admin import CreateAclsRequest

from streamproc.engine.checkpoints import read
from streamproc.errors import KafkaRefused, TopicsError
from streamproc.kafka import clients
from streamproc.kafka.broker import Installation, free_port
from streamproc.settings.connection import Connection
from streamproc.topics import apply, load, plan, prefixed
from tests.live.feed import producing, send
from tests.live.oracle import reading
from tests.live.pipeline import rows
from tests.live.processes import Site, eventually, running, until_ready
from tests.live.secured import Secured, start
from tests.live.worked import until_checkpointed
from tests.loops import run

DOCUMENT = Path(__file__).parents[2] / "docs" / "kafka-security.md"
MARK = "<!-- rights -->"
#: Kafka's numbers: https://kafka.apache.org/protocol, and AclOperation.
TOPIC, GROUP = 2, 3
READ, WRITE, CREATE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS = 3, 4, 5, 7, 8, 10, 11
LITERAL, PREFIXED, ALLOW = 3, 4, 3
PREFIX = "ours-"

#: A kind of resource, its name without the prefix, and what may be done with it.
Right = tuple[int, str, int]


def listed() -> dict[str, list[Right]]:
    """The rights of each process, as the document has them."""
    _, table, _ = DOCUMENT.read_text().split(MARK)
    found = {}
    for line in table.strip().splitlines()[2:]:
        process, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        kinds = ((TOPIC, READ), (TOPIC, WRITE), (GROUP, READ), (GROUP, DESCRIBE))
        found[process] = [
            (resource, name, operation)
            for (resource, operation), cell in zip(kinds, cells, strict=True)
            for name in re.findall(r"`([\w-]+)`", cell)
        ]
    return found


async def give(kafka: Connection, user: str, rights: list[Right], pattern: int = LITERAL) -> None:
    """Have the broker allow the user this, and nothing else."""
    admin = clients.admin(kafka)
    await admin.start()
    try:
        for resource, name, operation in rights:
            principal = f"User:{user}"
            request = CreateAclsRequest(resource, PREFIX + name, pattern, principal, "*", operation, ALLOW)
            answer = await admin._send_to_controller(request)
            assert [code for code, _ in answer.creation_responses] == [0], answer
    finally:
        await admin.close()


@pytest.fixture(scope="module")
def kafka(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker that allows nothing to nobody but this test's own plain connection, and then what the document lists."""
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    rules = {"authorizer.class.name": authorizer, "super.users": "User:ANONYMOUS"}

    async def started() -> Secured:
        made = await start(installation, tmp_path_factory.mktemp("rights"), rules)
        for user, rights in listed().items():
            await give(made.broker.connection, user, rights)
        operations = (CREATE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS)
        rights = [(TOPIC, "", operation) for operation in operations]
        await give(made.broker.connection, "topics", rights, PREFIXED)
        topics = made.as_user("topics")
        await apply(topics, await plan(topics, prefixed(load(), PREFIX)))
        return made

    made = run(started())
    yield made
    run(made.broker.stop())


def test_the_document_lists_each_process() -> None:
    """Stages and commands, each with a topic at least; and only topics and groups that there are."""
    rights = listed()
    assert list(rights) == ["gateway", "worker", "sink", "console", "registry", "dlq", "replay"]
    topics = {name for held in rights.values() for kind, name, _ in held if kind == TOPIC}
    assert topics == {spec.name for spec in load()}
    groups = {name for held in rights.values() for kind, name, _ in held if kind == GROUP}
    assert groups == {"streamproc-worker", "streamproc-sink"}


async def test_each_process_does_its_work_with_its_own_rights(kafka: Secured, tmp_path: Path) -> None:
    """Readings become rows, windows, events, late readings and letters; checkpoints and snapshots are kept."""
    ours = kafka.broker.connection
    made = (
        "windows",
        "predictions",
        "events",
        "notifications",
        "late",
        "dead-letter",
        "checkpoints",
        "snapshots",
    )
    async with (
        running(ours, PREFIX, tmp_path) as site,
        reading(ours, PREFIX, "readings", "registry", *made) as reader,
        producing(ours) as device,
    ):
        site.variables |= {"STREAMPROC_AUTO_REGISTER": "false", "STREAMPROC_SNAPSHOT_INTERVAL_SECONDS": "1"}
        await registered(site, kafka.as_user("registry"))
        stages = [await site.start(name, **kafka.as_user(name).variables()) for name in ("worker", "sink")]
        for stage in stages:
            await stage.until_assigned()
        port = free_port()
        # The gateway lets the unknown sensor pass, so that the sink refuses it and writes a letter.
        gateway = {"GATEWAY_PORT": str(port), "STREAMPROC_AUTO_REGISTER": "true"}
        gateway |= kafka.as_user("gateway").variables()
        stages.append(await site.start("gateway", **gateway))
        url = f"http://127.0.0.1:{port}"
        await until_ready(url)
        console = await site.start("console", CONSOLE_PORT="0", **kafka.as_user("console").variables())
        stages.append(console)
        await console.until_told("topics are followed")
        await (await send(device, f"{PREFIX}readings", "d", b"no JSON"))

        async def all_of_it() -> bool:
            for sensor in ("limited", "unknown"):
                assert (
                    await post(url, sensor, *(100.0 if tick % 5 == 4 else 20.0 for tick in range(20))) == 202
                )
            there = [topic for topic in made if await reader.values(topic)]
            kinds = {msgspec.json.decode(letter)["topic"] for letter in await reader.values("dead-letter")}
            return there == list(made) and len(kinds) > 1

        await eventually(all_of_it)
        assert await eventually(lambda: stored(site))
        await until_checkpointed(site)  # before, a replay has nothing to compare with
        for name, *arguments in (
            ("replay", "--from", "2020-01-01T00:00:00Z"),
            ("dlq", "redrive", "--all", "--yes"),
        ):
            command = await site.start(
                name, "-m", "streamproc", name, *arguments, **kafka.as_user(name).variables()
            )
            assert await command.ended() == 0, command.log.read_text()
            stages.append(command)
        logs = {stage.log.name: stage.log.read_text() for stage in stages}
    for name, log in logs.items():
        for words in ("uthorization", "may not do this", "Traceback"):
            assert words not in log, f"{name}: {log}"


async def registered(site: Site, kafka: Connection) -> None:
    """The command that puts a sensor with a range on the topic."""
    file = site.directory / "sensors.yaml"
    file.write_text("sensors:\n  - {sensor: limited, name: a, critical: {high: 50}}\n")
    command = await site.start(
        "registry", "-m", "streamproc", "registry", "import", str(file), **kafka.variables()
    )
    assert await command.ended() == 0, command.log.read_text()


async def post(url: str, sensor: str, *values: float) -> int:
    """A second a value, the last of them now, and one that comes too late for its window."""
    now = time()
    moments = [(now - len(values) + at, value) for at, value in enumerate(values)]
    readings = [
        {"sensor_uuid": sensor, "value": value, "ts": ts} for ts, value in [*moments, (now - 600, 1.0)]
    ]
    packet = {"device_uuid": sensor, "readings": readings}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/ingest/packets", json=packet) as answer,
    ):
        return answer.status


async def stored(site: Site) -> bool:
    """Whether the sink has written a reading of the sensor that is registered."""
    return any(sensor == "limited" for sensor, _, _ in rows(site))


async def test_what_is_not_allowed_is_told(kafka: Secured) -> None:
    """By an error that names the user and where the rights are listed."""
    with pytest.raises(
        KafkaRefused,
        match=r"KAFKA_SASL_USERNAME may not do this \(.*ours-checkpoints.*docs/kafka-security\.md",
    ):
        await read(kafka.as_user("gateway"), f"{PREFIX}checkpoints", {0: 0})
    with pytest.raises(TopicsError, match="KAFKA_SASL_USERNAME may not do this"):
        await plan(kafka.as_user("gateway"), prefixed(load(), PREFIX))


@pytest.mark.parametrize(("stage", "user"), [("worker", "sink"), ("sink", "worker")])
async def test_a_stage_that_may_not_join_its_group_ends_and_says_so(
    stage: str, user: str, kafka: Secured, tmp_path: Path
) -> None:
    """It would wait for ever, silently, to be given partitions."""
    async with running(kafka.as_user(user), PREFIX, tmp_path) as site:
        started = await site.start(stage)
        assert await started.ended() == 1
        (line, *_) = started.told("stage failed")
        assert "GroupAuthorizationFailedError" in line["exception"]
        assert "may not do this" in line["exception"]
