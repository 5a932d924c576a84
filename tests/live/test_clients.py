"""The clients that people are told of, run as they stand in README and docs/clients, against a real gateway."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from streamproc.core.codec import Packet, parse
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.store import SqliteStore
from tests.live.processes import SOON_S, Site, until_ready
from tests.live.test_gateway import records
from tests.store.builders import GROUP, readings

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "docs" / "clients"
#: Where README and sketch expect a gateway.
PLACE = "localhost:8001"
SENSOR = "00000000-0000-0000-0000-000000000101"


def needs(command: str) -> pytest.MarkDecorator:
    """A mark that skips a test where a command is missing."""
    return pytest.mark.skipif(shutil.which(command) is None, reason=f"needs {command}")


@dataclass
class Gateway:
    """A gateway's process: where it listens, and what it has put on the topic."""

    site: Site
    host: str
    port: int

    async def packets(self) -> list[Packet]:
        """What is on the topic."""
        found = await records(self.site.bootstrap, f"{self.site.prefix}readings")
        parsed = [parse(record.value) for record in found]
        return [packet for packet in parsed if isinstance(packet, Packet)]


@pytest.fixture
async def gateway(site: Site) -> Gateway:
    """Start a gateway with a database that has one sensor."""
    store = SqliteStore(site.database, auto_register=True)
    await store.open()
    await store.write(Batch(GROUP, readings=readings((SENSOR, 23.5, 1))))
    await store.close()
    stage = await site.start("gateway", GATEWAY_PORT="0", INGEST_API_KEY="")
    url = (await stage.until_told("gateway_listening"))["url"]
    await until_ready(url)
    place = urlsplit(url)
    return Gateway(site, place.hostname or "", place.port or 0)


def block(begin: str) -> str:
    """The indented block of the README that begins so."""
    lines = (ROOT / "README.md").read_text().splitlines()
    at = lines.index(f"    {begin}") if f"    {begin}" in lines else _first(lines, f"    {begin}")
    taken = []
    for line in lines[at:]:
        if line and not line.startswith("    "):
            break
        taken.append(line[4:])
    return "\n".join(taken).strip()


def _first(lines: list[str], begin: str) -> int:
    return next(index for index, line in enumerate(lines) if line.startswith(begin))


async def run(*command: str, cwd: Path | None = None) -> str:
    """What a command prints; it must end well."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=cwd
    )
    async with asyncio.timeout(SOON_S):
        out, err = await process.communicate()
    assert process.returncode == 0, f"{command}: {err.decode()}"
    return out.decode()


def told(text: str) -> dict[str, Any]:
    """The JSON that is the last thing in a text."""
    found: dict[str, Any] = json.loads(text[text.index("{") :])
    return found


@needs("curl")
async def test_curl_of_the_readme(gateway: Gateway) -> None:
    """The README's first command is answered as it says, and its second tells how the sensor stands."""
    text = block("curl -X POST").replace(PLACE, f"{gateway.host}:{gateway.port}")
    command, _, example = text.partition("\n\n")
    answer = told(await run("sh", "-c", command.replace("curl ", "curl -sS ", 1)))
    promised = told(example)
    assert answer["topic"] == f"{gateway.site.prefix}readings"
    for place in (answer, promised, *answer["results"], *promised["results"]):
        del place["partition"], place["offset"]
    assert answer | {"topic": "readings"} == promised
    [packet] = await gateway.packets()
    assert (packet.readings[0].sensor_uuid, packet.readings[0].value) == (SENSOR, 23.5)
    command = block("curl localhost").replace(PLACE, f"{gateway.host}:{gateway.port}")
    status = told(await run("sh", "-c", command.replace("curl ", "curl -sS ", 1)))
    assert (status["sensor"], status["last"]["value"]) == (SENSOR, 23.5)


async def test_python_of_the_readme(gateway: Gateway) -> None:
    """The README's client posts."""
    code = block("import json, time").replace(PLACE, f"{gateway.host}:{gateway.port}")
    answer = await run(sys.executable, "-W", "error", "-c", code)
    assert "'accepted': 1" in answer
    assert [packet.device_uuid for packet in await gateway.packets()] == ["pump-1"]


async def test_micropython(gateway: Gateway) -> None:
    """docs/clients/device.py posts."""
    answer = await run(
        sys.executable, "-W", "error", str(CLIENTS / "device.py"), gateway.host, str(gateway.port)
    )
    assert json.loads(answer)["accepted"] == 1
    [packet] = await gateway.packets()
    assert packet.packet_id is not None
    assert packet.packet_id.startswith("boot-")


@needs("cc")
async def test_c(gateway: Gateway, tmp_path: Path) -> None:
    """docs/clients/device.c compiles without a warning, and posts."""
    program = str(tmp_path / "device")
    await run("cc", "-Wall", "-Wextra", "-Werror", "-O1", "-o", program, str(CLIENTS / "device.c"))
    answer = await run(program, gateway.host, str(gateway.port))
    assert json.loads(answer)["accepted"] == 1
    assert [packet.device_uuid for packet in await gateway.packets()] == ["device-in-c"]


@needs("g++")
async def test_arduino(gateway: Gateway, tmp_path: Path) -> None:
    """The sketch compiles for a computer, and posts three readings with names of their own."""
    program = str(tmp_path / "device")
    place = (f'-DGATEWAY_HOST="{gateway.host}"', f"-DGATEWAY_PORT={gateway.port}")
    options = ("-x", "c++", "-Wall", "-Werror", *place, "-o", program)
    await run("g++", *options, str(CLIENTS / "arduino" / "arduino.ino"))
    await run(program)
    packets = await gateway.packets()
    assert len(packets) == 3
    assert len({packet.packet_id for packet in packets}) == 3
