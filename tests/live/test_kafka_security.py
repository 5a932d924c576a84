"""TLS, logins and client certificates with a real broker: what works, and what is told where it does not."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from streamproc.errors import KafkaRefused, TopicsError
from streamproc.kafka.broker import Installation, free_port
from streamproc.kafka.reading import Manner, consuming
from streamproc.settings.connection import Connection, Security
from streamproc.topics import apply, load, plan
from tests.live.pipeline import running_pipeline
from tests.live.processes import SOON_S, eventually, running, until_ready
from tests.live.secured import PASSWORDS, Secured, start
from tests.loops import run
from tests.slowness import in_time

#: What a command may take to tell that it is not let in: a start of Python, and a few looks at the broker.
TOLD_S = 10.0


@pytest.fixture(scope="module")
def kafka(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One guarded broker for all tests here."""
    made = run(start(installation, tmp_path_factory.mktemp("secured")))
    yield made
    run(made.broker.stop())


async def post(url: str) -> int:
    """The gateway's answer to a packet, once it listens."""
    body = b'{"device_uuid": "d", "readings": [{"sensor_uuid": "s", "value": 21.5}], "ts": 1750000000}'
    async with aiohttp.ClientSession() as session:

        async def answered() -> int:
            try:
                async with session.post(f"{url}/ingest/packets", data=body) as answer:
                    return answer.status
            except aiohttp.ClientConnectionError:
                return 0

        return await eventually(answered)


async def whole_way(kafka: Connection, tmp_path: Path) -> None:
    """A packet to a gateway that runs as a process becomes a row; no log tells a password, or a fault."""
    port = free_port()
    async with running_pipeline(kafka, tmp_path) as line:
        await line.site.start("gateway", GATEWAY_PORT=str(port))
        await until_ready(f"http://127.0.0.1:{port}")
        assert await post(f"http://127.0.0.1:{port}") == 202
        assert await eventually(lambda: line.rows("s")) == [("s", 21.5, 1_750_000_000_000)]
        logs = "".join(stage.log.read_text() for stage in line.site.stages)
    assert not [password for password in PASSWORDS.values() if password in logs]
    assert "Traceback" not in logs


async def test_the_whole_way_with_tls_and_a_login(kafka: Secured, tmp_path: Path) -> None:
    """From the gateway over the worker to rows, each process logged in by SCRAM."""
    await whole_way(kafka.as_user(), tmp_path)


async def test_the_whole_way_with_client_certificates(kafka: Secured, tmp_path: Path) -> None:
    """The same where the broker knows its clients by their certificates."""
    await whole_way(kafka.by_certificate(kafka.client), tmp_path)


Change = Callable[[Secured], Connection]


def but(kafka: Connection, **changes: Any) -> Connection:
    """The connection with another security."""
    return replace(kafka, security=replace(kafka.security, **changes))


#: What is wrong with a connection, and the words that have to tell it.
WRONG: dict[str, tuple[Change, str]] = {
    "password": (
        lambda its: but(its.as_user(), password=SecretStr("wrong")),
        "refuses the login: look at KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
    ),
    "password over PLAIN": (
        lambda its: but(its.as_user(), password=SecretStr("wrong"), mechanism="PLAIN"),
        "refuses the login: look at KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
    ),
    "mechanism": (
        lambda its: but(its.as_user(), mechanism="SCRAM-SHA-256"),
        "does not take SCRAM-SHA-256: set KAFKA_SASL_MECHANISM to another",
    ),
    "authority": (
        lambda its: but(its.as_user(), ca_file=its.stranger.authority),
        r"certificate that is not trusted \(.*\): set KAFKA_SSL_CAFILE to its authority's",
    ),
    "no authority": (
        lambda its: but(its.as_user(), ca_file=None),
        r"certificate that is not trusted \(.*\): set KAFKA_SSL_CAFILE to its authority's",
    ),
    "name": (
        lambda its: replace(
            its.as_user(), bootstrap=its.as_user().bootstrap.replace("127.0.0.1", "localhost")
        ),
        "has a certificate for another name",
    ),
    "plain to TLS": (
        lambda its: Connection(its.as_user().bootstrap),
        "speaks TLS: set KAFKA_SECURITY_PROTOCOL to SSL",
    ),
    "login to TLS": (
        lambda its: but(its.as_user(), protocol="SASL_PLAINTEXT"),
        "speaks TLS: set KAFKA_SECURITY_PROTOCOL to SASL_SSL",
    ),
    "TLS to plain": (
        lambda its: its.at("PLAINTEXT", Connection("", Security("SSL", ca_file=its.files.authority))),
        "takes no TLS: set KAFKA_SECURITY_PROTOCOL to PLAINTEXT",
    ),
    "TLS and a login to a login alone": (
        lambda its: its.at("SASL_PLAINTEXT", its.as_user()),
        "takes no TLS: set KAFKA_SECURITY_PROTOCOL to SASL_PLAINTEXT",
    ),
    "a login where none is asked for": (
        lambda its: its.at("PLAINTEXT", but(its.as_user(), protocol="SASL_PLAINTEXT", ca_file=None)),
        "asks for no login: set KAFKA_SECURITY_PROTOCOL to PLAINTEXT",
    ),
    "plain where a login is asked for": (
        lambda its: its.at("SASL_PLAINTEXT", Connection("")),
        r"wants a login \(.*SCRAM-SHA-512.*\): set KAFKA_SECURITY_PROTOCOL to SASL_PLAINTEXT",
    ),
    "no login where TLS and one are asked for": (
        lambda its: its.at("SASL_SSL", its.by_certificate(None)),
        r"wants a login \(.*SCRAM-SHA-512.*\): set KAFKA_SECURITY_PROTOCOL to SASL_SSL",
    ),
    "no certificate": (
        lambda its: its.by_certificate(None),
        "wants a client's certificate: set KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE",
    ),
    "a stranger's certificate": (
        lambda its: its.by_certificate(its.stranger),
        "does not take the certificate in KAFKA_SSL_CERTFILE",
    ),
}


@pytest.mark.parametrize("what", WRONG)
async def test_what_is_wrong_is_told_by_its_setting(what: str, kafka: Secured) -> None:
    """At once, by whatever reads or looks, as an error that tells trying again is no use; without the password."""
    change, words = WRONG[what]
    wrong = change(kafka)
    began = time.monotonic()
    with pytest.raises(KafkaRefused, match=words) as told:
        async with consuming(wrong, Manner()):
            pass
    with pytest.raises(TopicsError, match=words):
        await plan(wrong, load())
    assert in_time(time.monotonic() - began, TOLD_S)
    assert not told.value.retriable
    assert "wrong'" not in str(told.value)


async def ended(kafka: Connection, tmp_path: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """A command's exit code, and what it says for people on a terminal or in a log."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamproc", *arguments),
        env=os.environ
        | kafka.variables()
        | {"STREAMPROC_DATA_DIR": str(tmp_path), "GATEWAY_PORT": "0"}
        | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), SOON_S)
    return process.returncode or 0, output.decode()


@pytest.mark.parametrize(
    "command", ["worker", "sink", "topics check", "dlq list", "registry import", "simulate", "dev"]
)
async def test_a_command_that_is_not_let_in_says_so(command: str, kafka: Secured, tmp_path: Path) -> None:
    """It ends with the code for wrong settings and names them, without a traceback, and without the password."""
    file = tmp_path / "sensors.yaml"
    file.write_text("sensors:\n  - {sensor: s, name: a}\n")
    arguments = [*command.split(), *([str(file)] if command == "registry import" else [])]
    code, told = await ended(but(kafka.as_user(), password=SecretStr("wrong-hush")), tmp_path, *arguments)
    assert code == 2, told
    assert "refuses the login: look at KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD" in told
    assert "Traceback" not in told
    assert "wrong-hush" not in told


async def test_no_log_has_a_password_at_whatever_level(kafka: Secured, tmp_path: Path) -> None:
    """Not even with PLAIN, which sends it as it is, and at debug, where libraries tell what they send."""
    plain = but(kafka.as_user(), mechanism="PLAIN")
    code, told = await ended(plain, tmp_path, "topics", "check", STREAMPROC_LOG_LEVEL="debug")
    assert code < 2, told
    assert PASSWORDS["site"] not in told


async def test_doctor_looks_at_the_login(kafka: Secured, tmp_path: Path) -> None:
    """It says what is wrong with it, or that its password can be read on the way, and where to read on."""
    _, told = await ended(but(kafka.as_user(), password=SecretStr("wrong-hush")), tmp_path, "doctor")
    assert re.search(
        r"^wrong kafka .* refuses the login: .*\n +docs/kafka-security\.md", told, re.MULTILINE
    ), told
    plain = but(kafka.as_user(), protocol="SASL_PLAINTEXT", mechanism="PLAIN", ca_file=None)
    await apply(kafka.broker.connection, await plan(kafka.broker.connection, load()))
    _, told = await ended(kafka.at("SASL_PLAINTEXT", plain), tmp_path, "doctor")
    assert re.search(
        r"^note  kafka .* KAFKA_SASL_PASSWORD is sent unencrypted\n +use SASL_SSL", told, re.MULTILINE
    ), told
    _, told = await ended(kafka.as_user(), tmp_path, "doctor")
    assert re.search(r"^ok    kafka .*: as declared: \d+ topics$", told, re.MULTILINE), told


async def test_a_gateway_that_is_not_let_in_says_so_and_tries_on(kafka: Secured, tmp_path: Path) -> None:
    """In its log, and without names at /ready; it answers 503, and need not be started again once the user is repaired."""
    port = free_port()
    wrong = but(kafka.as_user(), password=SecretStr("wrong-hush"))
    async with running(wrong, "", tmp_path) as site:
        gateway = await site.start("gateway", GATEWAY_PORT=str(port))
        assert await post(f"http://127.0.0.1:{port}") == 503
        await gateway.until_told(
            "kafka_unreachable",
            lambda line: (
                "refuses the login: look at KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD" in line["reason"]
            ),
        )
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/ready") as answer,
        ):
            ready = await answer.text()
            assert answer.status == 503
        assert "no connection to Kafka: it refuses the gateway, as its log says" in ready
        assert wrong.bootstrap not in ready
        assert "wrong-hush" not in gateway.log.read_text() + ready
        assert (await gateway.terminate())[0] == 0
