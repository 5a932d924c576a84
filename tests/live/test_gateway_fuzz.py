"""A real gateway on a real broker under nearly right requests; `make fuzz` does the same for long."""

from __future__ import annotations

import asyncio

import pytest

from streamproc.settings import Settings
from tests.fuzz.aim import aim
from tests.fuzz.schema import requests_of_the_document
from tests.fuzz.topic import faults_on
from tests.fuzz.wire import requests_as_bytes
from tests.live.processes import Site

#: Another seed finds other things: `make fuzz SEED=2`. This one is fixed, so that who breaks a test is who changed the code.
SEED = 1


async def assert_topic(site: Site) -> int:
    """Check the topic and give the number of its records."""
    topic = f"{site.prefix}readings"
    count, faults = await faults_on(site.bootstrap, topic, Settings.model_validate({}).allowed_skew_ms)
    assert not faults, "\n".join(faults[:5])
    return count


@pytest.mark.parametrize("keyed", [False, True], ids=["open", "keys"])
async def test_requests_of_the_document(site: Site, keyed: bool) -> None:
    """Requests made of the OpenAPI document are answered as it says, and what they leave on the topic is readings."""
    print(f"seed {SEED}")  # noqa: T201  # what failed is asked for again by it
    target = await aim(site, keyed=keyed)
    answered = await asyncio.to_thread(requests_of_the_document, target.url, 15, SEED, target.keys)
    assert answered > 100
    assert await assert_topic(site) > (0 if keyed else 5)
    assert target.stage.told("request_failed") == []


@pytest.mark.parametrize("keyed", [False, True], ids=["open", "keys"])
async def test_requests_as_bytes(site: Site, keyed: bool) -> None:
    """Broken framing, lengths, headers, encodings and JSON end in an answer below 500, or a closed connection."""
    print(f"seed {SEED}")  # noqa: T201  # as above
    target = await aim(site, keyed=keyed)
    answers = await requests_as_bytes(target.place, 600, SEED, target.keys)
    assert sum(answers.counts.values()) == 600
    wanted = {200, 201, 204, 401, 403, 412} if keyed else {202, 207, 413, 415}
    assert {400, 404, 405, 422} | wanted <= answers.counts.keys(), answers
    assert await assert_topic(site) > (0 if keyed else 20)
    assert target.stage.told("request_failed") == []
