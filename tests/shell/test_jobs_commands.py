"""`streamproc jobs list` and `run`, over a file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streamproc.jobs.commands import commands
from streamproc.store.schema import SqliteSchema
from tests.store.databases import Sqlite


@pytest.fixture
def database(tmp_path: Path) -> Sqlite:
    """A file with the schema."""
    path = tmp_path / "streamproc.db"
    asyncio.run(SqliteSchema(path).migrate())
    return Sqlite(path)


def call(database: Sqlite, *arguments: str, **variables: str) -> Result:
    """Run `streamproc jobs ARGUMENTS`."""
    return CliRunner().invoke(commands, arguments, env=database.variables | variables)


def test_a_run_by_command_is_told_and_listed(database: Sqlite) -> None:
    """Under its name or the reference's; what it counted, and when the schedule comes next."""
    assert "never" in call(database, "list").stdout
    database.execute(
        "INSERT INTO registry_audit (at, actor, action, kind, name, version)"
        " VALUES ('2023-01-01T00:00:00.000Z', 'a', 'put', 'sensor', 's', 1),"
        " ('2023-01-02T00:00:00.000Z', 'a', 'put', 'sensor', 's', 2)"
    )
    done = call(database, "run", "cleanup_metrics", STREAMPROC_RETENTION_AUDIT="9d")
    assert done.exit_code == 0
    assert done.stdout.endswith("cleanup: done (1 audit)\n")
    text = call(database, "list").stdout
    assert "by command: done (1 audit)" in text
    assert "0 4 * * 0 UTC" in text
    (row,) = json.loads(call(database, "list", "--json", STREAMPROC_CLEANUP_SCHEDULE="off").stdout)
    assert (row["name"], row["schedule"], row["next"]) == ("cleanup", None, None)
    assert (row["last"]["outcome"], row["last"]["counts"]) == ("done", {"audit": 1})


def test_a_job_that_another_process_is_at_is_not_run(database: Sqlite) -> None:
    """Exit code 1; the other's run stays as it is."""
    database.execute(
        "INSERT INTO job_runs (name, started_by, schedule, due_at, attempt, outcome, claimed_by, lease_until, began_at)"
        " VALUES ('cleanup', 'command', '', '2023-01-01T00:00:00.000Z', 1, 'running', 'x', '2999-01-01T00:00:00.000Z',"
        " '2023-01-01T00:00:00.000Z')"
    )
    refused = call(database, "run", "cleanup")
    assert refused.exit_code == 1
    assert "another process is at it" in refused.stderr
    assert "running" in call(database, "list").stdout
    database.execute("UPDATE job_runs SET lease_until = '2023-01-01T00:01:00.000Z'")
    assert "lost" in call(database, "list").stdout
    assert call(database, "run", "cleanup").exit_code == 0


def test_a_run_that_fails_says_why(database: Sqlite) -> None:
    """Exit code 1; the other tables are done."""
    database.execute(
        "INSERT INTO registry_audit (at, actor, action, kind, name, version)"
        " VALUES ('2023-01-01T00:00:00.000Z', 'a', 'put', 'sensor', 's', 1),"
        " ('2023-01-02T00:00:00.000Z', 'a', 'put', 'sensor', 's', 2)"
    )
    database.execute(
        "CREATE TRIGGER theirs BEFORE DELETE ON registry_audit BEGIN SELECT RAISE(ABORT, 'we keep that'); END"
    )
    failed = call(database, "run", "cleanup", STREAMPROC_RETENTION_AUDIT="9d")
    assert failed.exit_code == 1
    assert "cleanup: failed: audit: we keep that" in failed.stderr


def test_a_job_that_there_is_not_is_refused(database: Sqlite) -> None:
    """Exit code 2, with those that there are."""
    refused = call(database, "run", "clean")
    assert refused.exit_code == 2
    assert "no job 'clean'; there are: cleanup" in refused.stderr


@pytest.mark.parametrize("words", [["list"], ["run", "cleanup"]])
def test_where_there_is_no_database_none_is_made(tmp_path: Path, words: list[str]) -> None:
    """In another directory than its own, an empty one would say that there is nothing old."""
    failed = call(Sqlite(tmp_path / "elsewhere" / "s.db"), *words)
    assert failed.exit_code == 2
    assert f"there is no database at {tmp_path}/elsewhere/s.db" in failed.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_a_database_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    """Exit code 2 and a line, not a trace."""
    (tmp_path / "folder").mkdir()
    failed = call(Sqlite(tmp_path / "folder"), "list")
    assert failed.exit_code == 2
    assert "streamproc:" in failed.stderr
