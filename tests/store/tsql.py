"""A real server that speaks T-SQL, where SQLSERVER_TEST_DSN names one, and a connection to it that can be cut."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import pytest

from streamproc.dev.readiness import until
from streamproc.store.sqlserver import driver
from streamproc.store.sqlserver.connections import Limits, Link, connect

VARIABLE = "SQLSERVER_TEST_DSN"
#: An ODBC connection string, such as `Driver={ODBC Driver 18 for SQL Server};Server=localhost,1433;UID=sa;PWD=…;Encrypt=no`;
#: its login makes databases and drops them.
DSN = os.environ.get(VARIABLE, "")

#: Marks what cannot be tested without a server.
on_a_server = pytest.mark.skipif(not DSN, reason=f"no T-SQL server: {VARIABLE} is not set")


def read(text: str) -> dict[str, str]:
    """The keywords of a connection string, lower-case, and their values, by the rules of ODBC's SQLDriverConnect."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        name, at = text[at : text.index("=", at)], text.index("=", at) + 1
        if text.startswith("{", at):
            match = re.compile(r"\{((?:[^}]|\}\})*)\}").match(text, at)
            assert match is not None, f"no closing brace in {text[at:]!r}"
            value, at = match[1].replace("}}", "}"), match.end()
            assert at == len(text) or text[at] == ";", f"something follows a closing brace: {text[at:]!r}"
        else:
            end = text.find(";", at)
            end = len(text) if end < 0 else end
            value, at = text[at:end], end
        at += 1
        found.setdefault(name.strip().lower(), value)
    return found


def dsn(**changes: str) -> str:
    """The server's connection string with some keywords changed."""
    return driver.written(read(DSN) | {name.lower(): value for name, value in changes.items()})


async def login(text: str) -> Link:
    """A connection that commits each statement."""
    return await connect(text, "the test server", Limits(login_s=30), autocommit=True)


@asynccontextmanager
async def made_database() -> AsyncIterator[str]:
    """The name of an empty database, dropped at the end."""
    name = f"streamproc_test_{uuid4().hex[:12]}"
    async with _made("DATABASE", name):
        yield name


@asynccontextmanager
async def made_login(password: str) -> AsyncIterator[str]:
    """The name of a login with this password, dropped at the end."""
    name = f"streamproc_test_{uuid4().hex[:12]}"
    quoted = password.replace("'", "''")
    async with _made("LOGIN", name, f" WITH PASSWORD = N'{quoted}'"):
        yield name


@asynccontextmanager
async def _made(kind: str, name: str, how: str = "") -> AsyncIterator[None]:
    link = await login(dsn())
    try:
        await (await link.connection.execute(f"CREATE {kind} {name}{how}")).close()
        try:
            yield
        finally:
            await until(lambda: _dropped(link, kind, name))
    finally:
        await link.close()


async def _dropped(link: Link, kind: str, name: str) -> bool:
    """Drop it, unless the server has not yet heard that the last connection to it is closed."""
    try:
        await (await link.connection.execute(f"DROP {kind} {name}")).close()
    except driver.pyodbc().Error as error:
        if not any(words in str(error) for words in ("currently in use", "currently logged in")):
            raise
        return False
    return True


class Wire:
    """A port on this machine that passes everything on to the server, until it is cut or holds it back."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.logins = 0

    async def mend(self) -> None:
        """Listen; the second time, on the same port."""
        self._passes.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Close all connections, and take no more: the server has gone down."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self) -> None:
        """Pass nothing on, and say nothing: the network has gone."""
        self._passes.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.logins += 1
        theirs, ours = await asyncio.open_connection(*self._target)
        self._writers |= {writer, ours}
        for one, other in ((reader, ours), (theirs, writer)):
            task = asyncio.create_task(self._pump(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def wired() -> AsyncIterator[tuple[Wire, str]]:
    """A wire to the server, and the connection string that goes over it."""
    host, _, port = read(DSN)["server"].removeprefix("tcp:").partition(",")
    wire = Wire(host, int(port or read(DSN).get("port", "1433")))
    await wire.mend()
    try:
        yield wire, dsn(Server=f"127.0.0.1,{wire.port}")
    finally:
        await wire.cut()
