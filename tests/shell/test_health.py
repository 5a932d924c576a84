"""`streamproc health`, against the endpoints that the stages really have."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence

import pytest

from streamproc.cli.health import ask
from streamproc.errors import SettingsError
from streamproc.kafka.broker import free_port
from streamproc.monitor import Address, Check, Told, serving
from streamproc.settings import load

#: They start programs, or wait: seconds in all.
pytestmark = pytest.mark.live

GOOD, BAD = Check("partitions", True, "has 4"), Check("broker", False, "last answer 9.2 s ago")


async def _asked(*checks: Check, host: str = "127.0.0.1", options: Sequence[str] = ()) -> tuple[int, str]:
    """What the command says of a worker that listens on this host and has these checks."""
    port = free_port()
    async with serving(
        Address(host, port, "STREAMPROC_WORKER_PORT"), Told("worker", lambda: checks, lambda: ())
    ):
        environment = os.environ | {
            "STREAMPROC_WORKER_HOST": host,
            "STREAMPROC_WORKER_PORT": str(port),
            "http_proxy": "http://127.0.0.1:9",  # nobody is there: a health check must not go through a proxy
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "streamproc", "health", "worker", *options),
            env=environment,
            stdout=PIPE,
            stderr=PIPE,
        )
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out + err).decode()


async def test_a_stage_that_answers_is_alive() -> None:
    """Exit code 0, whatever its checks say: one that is not ready must not be restarted."""
    assert await _asked(BAD) == (0, "worker: alive\n")


async def test_a_stage_on_all_addresses_is_asked_on_the_loopback() -> None:
    """As in a container, where it listens on 0.0.0.0."""
    assert await _asked(GOOD, host="0.0.0.0") == (0, "worker: alive\n")  # noqa: S104


async def test_ready_is_another_question() -> None:
    """With --ready the answer is the checks', and the one that fails is told with exit code 1."""
    assert await _asked(GOOD, options=["--ready"]) == (0, "worker: ready\n")
    code, text = await _asked(GOOD, BAD, options=["--ready"])
    assert code == 1
    assert "503" in text
    assert "broker: last answer 9.2 s ago" in text


def test_a_stage_that_is_away_is_not_alive() -> None:
    """The line names the address that was asked."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody else can listen there meanwhile
        port = held.getsockname()[1]
        answer = ask(load(sink_port=port), "sink")
    assert not answer.ok
    assert answer.text.startswith(f"sink: no answer from http://127.0.0.1:{port}/health: ")


def test_a_stage_that_hangs_is_not_alive() -> None:
    """A connection that is taken and never answered ends the question in bounded time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = ask(load(gateway_port=server.getsockname()[1]), "gateway", timeout_s=0.2)
    assert not answer.ok
    assert "timed out" in answer.text


def test_a_stage_without_a_port_cannot_be_asked() -> None:
    """The error names the variable that gives it one."""
    with pytest.raises(SettingsError, match="STREAMPROC_WORKER_PORT"):
        ask(load(worker_port=0), "worker")


def test_stages_that_there_are_not_are_refused() -> None:
    """The choices are told."""
    result = subprocess.run(
        [sys.executable, "-m", "streamproc", "health", "kitchen"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert "gateway" in result.stderr
