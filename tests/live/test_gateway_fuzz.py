"""A real gateway on a real broker under nearly right requests; `make fuzz` does the same for long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from streamproc.settings import Settings
from streamproc.store.sqlite import SqliteStore
from tests.fuzz.schema import requests_of_the_document
from tests.fuzz.topic import faults_on
from tests.fuzz.wire import requests_as_bytes
from tests.live.processes import Site, Stage

#: Another seed finds other things: `make fuzz SEED=2`. This one is fixed, so that who breaks a test is who changed the code.
SEED = 1


@dataclass
class Target:
    """A gateway's process, and where it listens."""

    stage: Stage
    url: str


@pytest.fixture
async def target(site: Site) -> Target:
    """Start a gateway with a database that has no sensor yet."""
    store = SqliteStore(site.database, auto_register=True)
    await store.open()
    await store.close()
    stage = await site.start("gateway", GATEWAY_PORT="0", STREAMPROC_BODY_TIMEOUT_SECONDS="2")
    return Target(stage, (await stage.until_told("gateway_listening"))["url"])


async def assert_topic(site: Site) -> int:
    """Check the topic and give the number of its records."""
    topic = f"{site.prefix}readings"
    count, faults = await faults_on(site.bootstrap, topic, Settings.model_validate({}).allowed_skew_ms)
    assert not faults, "\n".join(faults[:5])
    return count


async def test_requests_of_the_document(site: Site, target: Target) -> None:
    """Requests made of the OpenAPI document are answered as it says, and what they leave on the topic is readings."""
    print(f"seed {SEED}")  # noqa: T201  # what failed is asked for again by it
    answered = await asyncio.to_thread(requests_of_the_document, target.url, 15, SEED)
    assert answered > 100
    assert await assert_topic(site) > 5
    assert target.stage.told("request_failed") == []


async def test_requests_as_bytes(site: Site, target: Target) -> None:
    """Broken framing, lengths, headers, encodings and JSON end in an answer below 500, or a closed connection."""
    print(f"seed {SEED}")  # noqa: T201  # as above
    place = urlsplit(target.url)
    answers = await requests_as_bytes(place.hostname or "", place.port or 0, 600, SEED)
    assert sum(answers.counts.values()) == 600
    assert {202, 207, 400, 404, 405, 413, 415, 422} <= answers.counts.keys(), answers
    assert await assert_topic(site) > 20
    assert target.stage.told("request_failed") == []
