"""Compares the declared topics with a broker: plan, apply, check."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, for_code

from streamproc.errors import TopicsError
from streamproc.kafka import clients
from streamproc.kafka.diagnosis import failure
from streamproc.settings.connection import Connection
from streamproc.topics.changes import Plan, TopicState, compare
from streamproc.topics.protocol import SetTopicConfigs
from streamproc.topics.spec import TopicSpec

#: Let the broker's `default.replication.factor` decide: how many brokers there are is not the file's affair.
_BROKERS_REPLICATION = -1
#: A broker shows a change that its controller has taken within some ten milliseconds; one on a disk that others keep busy,
#: which has a file or two to make for each partition, took more than fifteen seconds.
_SETTLE_POLL_S = 0.02
_SETTLE_S = 60.0


async def plan(
    kafka: Connection, specs: Sequence[TopicSpec], *, allow_partition_growth: bool = False
) -> Plan:
    """What has to change on the broker; raises TopicsError if it cannot be asked."""
    async with _admin(kafka) as admin:
        return compare(specs, await _state(admin, specs), allow_partition_growth=allow_partition_growth)


async def check(kafka: Connection, specs: Sequence[TopicSpec]) -> list[str]:
    """How the broker differs from the declared topics, a line each; empty: it does not. Raises as `plan`."""
    found = await plan(kafka, specs)
    return [*found.changes, *found.refused]


async def apply(kafka: Connection, plan: Plan) -> None:
    """Do what the plan says and nothing else, and return when the broker shows it; raises TopicsError.

    If something came in between, such as a topic that exists by now, the error tells it; what was done stays.
    """
    async with _admin(kafka) as admin:
        if plan.create:
            response = await admin.create_topics([_new_topic(spec) for spec in plan.create])
            _raise((topic, code, message) for topic, code, message, *_ in response.topic_errors)
        if plan.grow:
            # It raises by itself; the others answer with codes.
            await admin.create_partitions({growth.name: NewPartitions(growth.after) for growth in plan.grow})
        if plan.alter:
            await _alter(admin, plan)
        await _settled(admin, plan)


@asynccontextmanager
async def _admin(kafka: Connection) -> AsyncIterator[Any]:
    admin = clients.admin(kafka)
    try:
        await admin.start()
        yield admin
    except KafkaError as error:
        reason = await failure(kafka, error)
        raise TopicsError(str(reason)) from reason
    finally:
        await admin.close()


async def _state(admin: Any, specs: Iterable[TopicSpec]) -> dict[str, TopicState]:
    """The named topics that exist. All are asked for: on some brokers, asking for a name creates it."""
    names = {spec.name for spec in specs}
    partitions = {
        topic["topic"]: len(topic["partitions"])
        for topic in await admin.describe_topics()
        if topic["topic"] in names and not topic["error_code"]
    }
    if not partitions:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in partitions]
    (response,) = await admin.describe_configs(resources)
    if unseen := [told[3] for told in response.resources if told[0] == TopicAuthorizationFailedError.errno]:
        raise TopicAuthorizationFailedError(f"describe the configs of {', '.join(unseen)}")
    return {
        name: TopicState(partitions[name], {entry[0]: entry[1] for entry in entries})
        for code, _message, _type, name, entries in response.resources
        if not code  # deleted since
    }


def _new_topic(spec: TopicSpec) -> Any:
    # aiokafka takes the broker's replication factor only with assignments, of which none may be given.
    return NewTopic(spec.name, spec.partitions, _BROKERS_REPLICATION, {}, dict(spec.configs))


async def _alter(admin: Any, plan: Plan) -> None:
    configs = {
        alteration.name: {name: after for name, (_, after) in alteration.configs.items()}
        for alteration in plan.alter
    }
    response = await admin._send_to_controller(SetTopicConfigs(configs))  # noqa: SLF001  # it has no public one
    _raise((name, code, message) for code, message, _type, name in response.resources)


def _raise(answers: Iterable[tuple[str, int, str | None]]) -> None:
    faults = [f"{name}: {message or for_code(code).description}" for name, code, message in answers if code]
    if faults:
        raise TopicsError("\n".join(faults))


async def _settled(admin: Any, plan: Plan) -> None:
    """Wait until the broker shows what its controller has taken; growth that was refused stays so."""
    try:
        async with asyncio.timeout(_SETTLE_S):
            while plan.differs_from(await _state(admin, plan.specs)):  # noqa: ASYNC110  # a broker sets no event
                await asyncio.sleep(_SETTLE_POLL_S)
    except TimeoutError as error:
        raise TopicsError(f"the broker does not show the changes after {_SETTLE_S:g} s") from error
