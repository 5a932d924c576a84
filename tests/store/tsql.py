"""A real server that speaks T-SQL, where SQLSERVER_TEST_DSN names one: the way to it, and what is made on it and dropped."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from uuid import uuid4

import pytest

from streamproc.dev.readiness import until
from streamproc.store.sqlserver import driver
from streamproc.store.sqlserver.connections import Limits, Link, connect

VARIABLE = "SQLSERVER_TEST_DSN"
#: An ODBC connection string, such as `Driver={ODBC Driver 18 for SQL Server};Server=localhost,1433;UID=sa;PWD=…;Encrypt=no`;
#: its login makes databases and drops them.
DSN = os.environ.get(VARIABLE, "")
#: The collation of each database that is made, such as Latin1_General_100_BIN2, which tells capitals apart.
COLLATION = os.environ.get("SQLSERVER_TEST_COLLATION", "")

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


def variables(database: str) -> dict[str, str]:
    """The settings that lead a process of streamproc to a database on the server."""
    host, port = address()
    server = read(DSN)
    return {
        "DB_HOST": host,
        "DB_PORT": str(port),
        "DB_USER": server["uid"],
        "DB_PASSWORD": server["pwd"],
        "DB_NAME": database,
        "ODBC_DRIVER": server["driver"],
        "DB_ENCRYPT": server.get("encrypt", "yes"),
        "DB_TRUST_SERVER_CERTIFICATE": server.get("trustservercertificate", "no"),
    }


def address() -> tuple[str, int]:
    """The server's host and port."""
    host, _, port = read(DSN)["server"].removeprefix("tcp:").partition(",")
    return host, int(port or read(DSN).get("port", "1433"))


@asynccontextmanager
async def made_database() -> AsyncIterator[str]:
    """The name of an empty database, dropped at the end."""
    name = await make_database()
    try:
        yield name
    finally:
        await drop_database(name)


def databases() -> set[str]:
    """The databases on the server."""
    with closing(driver.pyodbc().connect(dsn(), autocommit=True)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sys.databases").fetchall()}


async def make_database() -> str:
    """Make an empty database; gives its name."""
    return await _make("DATABASE")


async def drop_database(name: str) -> None:
    """Drop a database as soon as nobody is connected to it."""
    await _drop("DATABASE", name)


@asynccontextmanager
async def made_login(password: str) -> AsyncIterator[str]:
    """The name of a login with this password, dropped at the end."""
    name = await _make("LOGIN", _with(password))
    try:
        yield name
    finally:
        await _drop("LOGIN", name)


@contextmanager
def database_made() -> Iterator[str]:
    """As `made_database`, for tests that have no event loop."""
    name = asyncio.run(_make("DATABASE"))
    try:
        yield name
    finally:
        asyncio.run(_drop("DATABASE", name))


@contextmanager
def login_made(password: str) -> Iterator[str]:
    """As `made_login`, for tests that have no event loop."""
    name = asyncio.run(_make("LOGIN", _with(password)))
    try:
        yield name
    finally:
        asyncio.run(_drop("LOGIN", name))


def _with(password: str) -> str:
    quoted = password.replace("'", "''")
    return f" WITH PASSWORD = N'{quoted}'"


async def _make(kind: str, how: str = "") -> str:
    name = f"streamproc_test_{uuid4().hex[:12]}"
    how += f" COLLATE {COLLATION}" if kind == "DATABASE" and COLLATION else ""
    async with _logged_in() as link:
        await (await link.connection.execute(f"CREATE {kind} {name}{how}")).close()
    return name


async def _drop(kind: str, name: str) -> None:
    async with _logged_in() as link:
        await until(lambda: _dropped(link, kind, name))


@asynccontextmanager
async def _logged_in() -> AsyncIterator[Link]:
    link = await connect(dsn(), "the test server", Limits(login_s=30), autocommit=True)
    try:
        yield link
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
