"""A command on a terminal of its own, for the live tests: what it shows, and what somebody types."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from tests.live.processes import SOON_S, eventually

#: Rows and columns: a line of a progress bar has room.
_SIZE = struct.pack("HHHH", 50, 200, 0, 0)


class Terminal:
    """A running `python ARGUMENTS` that believes that somebody looks."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self._process, self._master = process, master
        self._shown = b""
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            self._shown += os.read(self._master, 65_536)
        except OSError:  # nobody has the other side any more
            asyncio.get_running_loop().remove_reader(self._master)

    @property
    def text(self) -> str:
        """What was shown so far, without what moves the cursor and colours it."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._shown.decode(errors="replace"))

    async def until_shown(self, text: str) -> None:
        """Wait until the text is there; fails where the command has ended without it."""

        async def shown() -> bool:
            assert text in self.text or self._process.returncode is None, self.text
            return text in self.text

        await eventually(shown)

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._master, f"{text}\n".encode())

    async def ended(self) -> int:
        """The exit code, once it has ended."""
        return await asyncio.wait_for(self._process.wait(), SOON_S)

    async def close(self) -> None:
        """End it if it runs, and let go of the terminal."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)


@asynccontextmanager
async def on_terminal(environment: Mapping[str, str], *arguments: str) -> AsyncIterator[Terminal]:
    """Run `python ARGUMENTS` on a terminal; it is ended with the block."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, _SIZE)
    # Some variables, such as CI's, would have programs believe that nobody looks.
    told = {
        name: value for name, value in environment.items() if name not in {"CI", "NO_COLOR", "TTY_COMPATIBLE"}
    }
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            env=told | {"TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
    finally:
        os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        await terminal.close()
