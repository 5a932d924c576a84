"""The benchmarks that are quick enough for it, run as their users run them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from streamproc.settings.connection import Connection


async def test_bench_gateway(bootstrap: Connection) -> None:
    """Two seconds of each server: figures of both, nothing refused, and their ratio."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamproc", "bench", "gateway"),
        *("--seconds", "2", "--rounds", "1", "--connections", "8"),
        env=os.environ | bootstrap.variables(),
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    lines = output.decode().splitlines()
    bare, gateway, half, ratio = lines
    assert bare.startswith("8 connections, bare: ")
    assert gateway.startswith("8 connections, gateway: ")
    assert half.startswith("8 connections, gateway at half of that load: ")
    assert all(line.endswith(", 0 refused or broken") for line in lines[:3])
    assert 0 < float(ratio.partition("per CPU-second ")[2].split()[0]) < 1.5
