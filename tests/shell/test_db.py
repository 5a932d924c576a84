"""`streamproc db` and `streamproc doctor`, run as their users run them."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from streamproc.cli.doctor import State, disk, listening
from streamproc.settings import PREFIX, Settings
from streamproc.store.migrations import scripts
from tests.store.tsql import made_database, on_a_server
from tests.store.tsql import variables as to_database

pytestmark = pytest.mark.live  # most of it is other processes

ALL = len(scripts("sqlite"))


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `streamproc ARGUMENTS` with these settings and no others."""
    known = {str(field.alias) for field in Settings.model_fields.values()}
    rest = {
        name: value for name, value in os.environ.items() if name not in known and not name.startswith(PREFIX)
    }
    return subprocess.run(
        [sys.executable, "-m", "streamproc", *arguments],
        env=rest | {"IOT_ENV_FILE": os.devnull} | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def through_its_life(variables: Mapping[str, str], applied: int) -> None:
    """Behind, brought up to date, and nothing more to do."""
    behind = run("db", "check", **variables)
    assert behind.returncode == 1, behind.stderr
    assert "run `streamproc db migrate`" in behind.stdout
    made = run("db", "migrate", **variables)
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("applied 0") == applied
    assert "nothing to do" in run("db", "migrate", **variables).stdout
    current = run("db", "check", **variables)
    assert (current.returncode, "up to date" in current.stdout) == (0, True)
    told = json.loads(run("db", "status", "--json", **variables).stdout)
    assert told["state"] == "current"
    assert [row["state"] for row in told["migrations"]] == ["applied"] * applied


def test_sqlites_schema_is_told_and_brought_up_to_date(tmp_path: Path) -> None:
    """To look makes no file."""
    variables = {"STREAMPROC_DATABASE": str(tmp_path / "s.db")}
    assert run("db", "status", **variables).returncode == 1
    assert not (tmp_path / "s.db").exists()
    through_its_life(variables, ALL)


@on_a_server
async def test_sql_servers_schema_is_told_and_brought_up_to_date() -> None:
    """By the settings that its users have."""
    async with made_database() as name:
        variables = to_database(name)
        through_its_life(variables, len(scripts("sqlserver")))
        examined = run("doctor", **variables).stdout
        assert (
            f"ok    database   {variables['DB_HOST']}:{variables['DB_PORT']}/{name}: up to date" in examined
        )
        assert variables["DB_PASSWORD"] not in examined


def test_a_schema_that_is_not_ours_is_told_and_left_alone(tmp_path: Path) -> None:
    """Changed, or of a later program: exit code 1, the script by name, and no migration."""
    variables = {"STREAMPROC_DATABASE": str(tmp_path / "s.db")}
    run("db", "migrate", **variables)
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as connection:
        connection.execute("UPDATE schema_migrations SET checksum = 'other' WHERE version = 2")
    shown = run("db", "status", **variables)
    assert shown.returncode == 1
    assert [line.split()[1] for line in shown.stdout.splitlines()[:3]] == ["applied", "changed", "applied"]
    assert "migration 2 is not the one that was applied" in shown.stdout
    refused = run("db", "migrate", **variables)
    assert refused.returncode == 2
    assert refused.stderr.startswith("streamproc: migration 2")
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as connection:
        connection.execute("UPDATE schema_migrations SET version = 99 WHERE version = 2")
    told = json.loads(run("db", "status", "--json", **variables).stdout)
    assert told["state"] == "foreign"
    assert {row["version"]: row["state"] for row in told["migrations"]}[99] == "unknown"


def test_a_database_that_cannot_be_asked_is_an_error(tmp_path: Path) -> None:
    """Exit code 2 and a line, so that a script can tell it from a schema that is behind."""
    (tmp_path / "s.db").write_bytes(b"no database, but long enough to be looked at" * 50)
    failed = run("db", "check", STREAMPROC_DATABASE=str(tmp_path / "s.db"))
    assert failed.returncode == 2
    assert len(failed.stderr.splitlines()) == 1
    assert "not a database" in failed.stderr


def test_a_healthy_machine_is_told_so(tmp_path: Path) -> None:
    """Each line is one finding, and the exit code is 0."""
    well = run(
        "doctor", STREAMPROC_DATA_DIR=str(tmp_path), GATEWAY_PORT="0", CONSOLE_PORT="0", KAFKA_PORT="1"
    )
    assert well.returncode == 0, well.stdout + well.stderr
    assert all(line.startswith(("ok ", "note ")) for line in well.stdout.splitlines())
    assert "the sink makes it" in well.stdout
    assert well.stderr == ""


def test_what_is_wrong_is_told_with_what_to_do(tmp_path: Path) -> None:
    """All of it in one run: a broker that is away, a schema that is behind, a port that another program has."""
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        connection.execute("CREATE TABLE schema_migrations (version INTEGER, checksum TEXT, applied_at TEXT)")
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = run(
            "doctor",
            STREAMPROC_DATABASE=str(tmp_path / "s.db"),
            KAFKA_BOOTSTRAP="127.0.0.1:1",
            CONSOLE_PORT="0",
            GATEWAY_PORT=str(server.getsockname()[1]),
        )
    assert found.returncode == 1
    assert found.stderr == ""
    wrong = [line.split()[1] for line in found.stdout.splitlines() if line.startswith("wrong ")]
    assert wrong == ["database", "kafka", "port"]
    for advice in ("streamproc db migrate", "KAFKA_BOOTSTRAP", "set GATEWAY_PORT to another"):
        assert advice in found.stdout


async def test_a_free_port_is_free() -> None:
    """As long as nobody has it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert (await listening("GATEWAY_PORT", "127.0.0.1", port)).state is State.OK


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no file system without room that every Linux has")
def test_a_disk_without_room_is_told() -> None:
    """The folder need not be there yet."""
    assert disk(Path("/proc/absent/data")).state is State.WRONG
