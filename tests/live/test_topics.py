"""topics.yaml against the real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamproc.errors import TopicsError
from streamproc.kafka import clients
from streamproc.settings.connection import Connection
from streamproc.topics import TopicSpec, apply, check, load, plan, prefixed
from streamproc.topics.commands import commands
from streamproc.topics.protocol import SetTopicConfigs
from tests.live.conftest import delete_topics


@pytest.fixture
async def specs(bootstrap: Connection, topic_prefix: str) -> AsyncIterator[list[TopicSpec]]:
    """A keyed, an unkeyed and a co-partitioned topic that are not there yet."""
    keyed = TopicSpec("keyed", "d", "k", 2, {"cleanup.policy": "delete", "retention.ms": "60000"})
    unkeyed = TopicSpec("unkeyed", "d", None, 1, {"cleanup.policy": "compact"})
    partner = TopicSpec("partner", "d", None, 2, {"cleanup.policy": "delete"}, "keyed")
    yield prefixed([keyed, unkeyed, partner], topic_prefix)
    await delete_topics(bootstrap, topic_prefix)


async def make(bootstrap: Connection, specs: Sequence[TopicSpec]) -> None:
    """Plan and apply."""
    await apply(bootstrap, await plan(bootstrap, specs))


async def partitions(bootstrap: Connection, prefix: str) -> dict[str, int]:
    """How many partitions each topic with the prefix has on the broker."""
    admin = clients.admin(bootstrap)
    await admin.start()
    try:
        described = await admin.describe_topics()
    finally:
        await admin.close()
    return {t["topic"]: len(t["partitions"]) for t in described if t["topic"].startswith(prefix)}


async def test_declared_topics_come_up_as_declared(bootstrap: Connection, topics: str) -> None:
    """After the fixture's plan and apply, the broker has all of topics.yaml, and a second plan is empty."""
    specs = prefixed(load(), topics)
    assert await check(bootstrap, specs) == []
    again = await plan(bootstrap, specs)
    assert (again.changes, again.refused) == ([], ())
    assert await partitions(bootstrap, topics) == {spec.name: spec.partitions for spec in specs}
    await apply(bootstrap, again)


async def test_only_the_prefixed_names_are_made(
    bootstrap: Connection, specs: list[TopicSpec], topic_prefix: str
) -> None:
    """What a plan creates is what it names, and a plan alone creates nothing."""
    found = await plan(bootstrap, specs)
    assert [spec.name for spec in found.create] == [spec.name for spec in specs]
    assert await partitions(bootstrap, topic_prefix) == {}
    await apply(bootstrap, found)
    assert set(await partitions(bootstrap, topic_prefix)) == {
        f"{topic_prefix}{name}" for name in ("keyed", "unkeyed", "partner")
    }


async def test_topics_of_others_are_left_alone(
    bootstrap: Connection, specs: list[TopicSpec], topic_prefix: str
) -> None:
    """A topic that the file does not name is neither in the plan nor touched."""
    await make(bootstrap, specs)
    found = await plan(bootstrap, specs[:1])
    assert (found.changes, found.refused) == ([], ())
    assert len(await partitions(bootstrap, topic_prefix)) == 3


async def test_a_changed_config_is_altered_and_foreign_ones_stay(
    bootstrap: Connection, specs: list[TopicSpec]
) -> None:
    """A config that somebody else has set survives an alteration of another one."""
    await make(bootstrap, specs)
    name = specs[0].name
    foreign = {"max.message.bytes": "123456"}
    admin = clients.admin(bootstrap)
    await admin.start()
    try:
        await admin._send_to_controller(SetTopicConfigs({name: foreign}))
    finally:
        await admin.close()
    wanted = [replace(specs[0], configs={**specs[0].configs, "retention.ms": "120000"}), *specs[1:]]
    assert await check(bootstrap, wanted) == [f"alter {name}: retention.ms 60000 → 120000"]
    await make(bootstrap, wanted)
    stays = replace(wanted[0], configs={**wanted[0].configs, **foreign})
    assert await check(bootstrap, [stays, *wanted[1:]]) == []


async def test_growth_moves_keys_and_is_refused_unless_allowed(
    bootstrap: Connection, specs: list[TopicSpec], topic_prefix: str
) -> None:
    """More partitions are added at once only where no key lives in one."""
    await make(bootstrap, specs)
    more = [replace(spec, partitions=spec.partitions + 1) for spec in specs]
    found = await plan(bootstrap, more)
    assert [growth.name for growth in found.grow] == [f"{topic_prefix}unkeyed"]
    assert len(found.refused) == 2
    await apply(bootstrap, found)
    assert await partitions(bootstrap, topic_prefix) == {
        f"{topic_prefix}keyed": 2,
        f"{topic_prefix}partner": 2,
        f"{topic_prefix}unkeyed": 2,
    }
    await apply(bootstrap, await plan(bootstrap, more, allow_partition_growth=True))
    assert set((await partitions(bootstrap, topic_prefix)).values()) == {3, 2}
    assert await check(bootstrap, more) == []


async def test_fewer_partitions_are_refused(bootstrap: Connection, specs: list[TopicSpec]) -> None:
    """Kafka cannot take partitions away, whatever is allowed; check still calls it a difference."""
    await make(bootstrap, specs)
    fewer = [replace(specs[0], partitions=1)]
    found = await plan(bootstrap, fewer, allow_partition_growth=True)
    assert found.changes == []
    assert len(found.refused) == 1
    await apply(bootstrap, found)
    assert await check(bootstrap, fewer) == list(found.refused)


async def test_a_plan_that_is_out_of_date_is_told(bootstrap: Connection, specs: list[TopicSpec]) -> None:
    """Where somebody else made the topic in between, apply says so."""
    found = await plan(bootstrap, specs)
    await apply(bootstrap, found)
    with pytest.raises(TopicsError, match=r"keyed.*already exists"):
        await apply(bootstrap, found)


@pytest.mark.usefixtures("specs")
async def test_what_the_broker_refuses_is_told_with_its_reason(
    bootstrap: Connection, topic_prefix: str
) -> None:
    """A config that Kafka does not know fails with its name, at creation and at alteration."""
    good = TopicSpec(f"{topic_prefix}odd", "d", None, 1, {"cleanup.policy": "delete"})
    bad = replace(good, configs={"retention.msec": "1"})
    with pytest.raises(TopicsError, match=r"odd.*retention\.msec"):
        await make(bootstrap, [bad])
    await make(bootstrap, [good])
    with pytest.raises(TopicsError, match=r"odd.*retention\.msec"):
        await make(bootstrap, [bad])


async def test_no_broker_is_told() -> None:
    """Where nothing answers, the error names the address."""
    with pytest.raises(TopicsError, match=r"127\.0\.0\.1:1\b"):
        await plan(Connection("127.0.0.1:1"), load())


def test_commands(bootstrap: Connection, topic_prefix: str, tmp_path: Path) -> None:
    """Check differs, plan tells, apply does, check agrees: with the exit codes that scripts rely on."""
    file = tmp_path / "topics.yaml"
    file.write_text(
        "topics:\n  - {name: one, description: d, key: null, partitions: 1, cleanup: delete, retention: 1h}\n"
    )
    options = ["--bootstrap", str(bootstrap), "--file", str(file)]

    def run(command: str) -> tuple[int, str]:
        result = CliRunner().invoke(
            commands, [command, *options], env={"STREAMPROC_TOPIC_PREFIX": topic_prefix}
        )
        return result.exit_code, result.output

    line = f"create {topic_prefix}one: 1 partition, cleanup.policy=delete, retention.ms=3600000\n"
    assert run("check") == (1, line)
    assert run("plan") == (0, line)
    assert run("apply") == (0, line + "done\n")
    assert run("check") == (0, "as declared: 1 topic\n")
    code, told = run("plan")
    assert (code, told.split(": ", 1)[1]) == (0, "nothing to do, as declared: 1 topic\n")
    file.write_text("topics: [{name: one}]")
    with pytest.raises(TopicsError, match="`cleanup` is missing"):
        CliRunner().invoke(commands, ["plan", *options], catch_exceptions=False)
