"""A child process: in a session of its own, killed when its parent ends, its output in a file."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")
#: A log greater than this is set aside when its child starts; one such predecessor is kept.
LOG_LIMIT_BYTES = 10_000_000
#: How much of a log's end is searched for the last lines: several long tracebacks.
TAIL_BYTES = 8_192
#: What a terminal shows of a line in a few rows; of a longer one so much of each end.
END_LETTERS = 200


class Process:
    """A running command; the terminal's Ctrl-C does not reach it, and on Linux it ends with this process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        """Start `command` (its first word a path) with its output appended to `log`; raises OSError."""
        log.parent.mkdir(parents=True, exist_ok=True)
        set_aside(log)
        leashed = (sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *command)
        with log.open("ab") as output:
            return cls(
                await asyncio.create_subprocess_exec(
                    *leashed,
                    env=dict(environment),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    async def wait(self) -> int:
        """The exit code, or the negative number of the signal, once the process has ended."""
        return await self._process.wait()

    async def stop(self, timeout_s: float) -> None:
        """Ask the process to end (SIGTERM); kill it if it has not within `timeout_s`."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End the process and what it started, at once (SIGKILL)."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def set_aside(log: Path) -> None:
    """Rename a log that has grown beyond LOG_LIMIT_BYTES, in place of the one set aside before."""
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_name(log.name + ".1"))


def tail(log: Path, since: int = 0, lines: int = 3) -> list[str]:
    """The last lines of a file that are not blank, of what was written after byte `since`."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(since if since <= size else 0, size - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def complaints(told: list[str], most: int = 3) -> list[str]:
    """The last of a log's lines that are not at info, if any; of a long one, such as with a traceback, its two ends.

    >>> complaints(['{"level": "error", "event": "stage failed"}', '{"level": "info", "event": "Stopping..."}'])
    ['{"level": "error", "event": "stage failed"}']
    """
    found = [line for line in told if '"level": "info"' not in line] or told
    return [
        line if len(line) <= 2 * END_LETTERS else f"{line[:END_LETTERS]} … {line[-END_LETTERS:]}"
        for line in found[-most:]
    ]
