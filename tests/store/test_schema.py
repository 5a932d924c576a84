"""What can be told of the schema without a server: that its language is T-SQL, and that both databases have the same."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from streamproc.store.migrations import migrate, scripts
from tests.store.tsql_scripts import SCRIPTS, additions, batches, parsed, programs, statements, tables, words

#: Columns of sqlite that programs of the reference system call by another name.
RENAMED = {
    ("ml_models", "name"): "model_name",
    ("sensors", "kind"): "sensor_type",
    ("alert_notifications", "source_event_id"): "event_id",
}
#: What only SQL Server has: what those programs read and write, keys that are GUIDs there, and what an index is filtered by.
EXTRA_TABLES = {"alerts", "alert_thresholds", "delta_thresholds", "sensor_readings_latest"}
EXTRA_COLUMNS = {
    "devices": "device_uuid stream_key device_type last_connection metadata",
    "sensors": "sensor_uuid stream_key status",
    "sensor_readings": "kafka_landmark",
    "ml_models": "sensor_id trained_at accuracy",
    "predictions": "device_id horizon_minutes trend window_points risk_level severity status",
    "ml_events": "acknowledged_at acknowledged_by resolved_at resolved_by",
    "alert_notifications": "source_event_id device_id read_at triggered_value event_type snapshot_data",
}
#: A server may cut a longer name of an index, which would then not be known again.
LONGEST_INDEX_NAME = 31

#: Words of the language that are names of columns as well.
ALSO_COLUMNS = {"AFTER", "COUNT", "FIRST", "LANGUAGE", "LAST", "LOWER", "MAX", "MIN", "PARTITION", "UPPER"}
#: Capitals in names that Microsoft has given.
THEIRS = {
    "Latin1_General_CI_AS",
    "Latin1_General_100_BIN2",
    "@Resource",
    "@LockMode",
    "@LockOwner",
    "@LockTimeout",
}

ALL = [statement for script in SCRIPTS for statement in statements(script.read_text("utf-8"))]


def named(pattern: str) -> list[tuple[str, tuple[str, ...]]]:
    """Each match of a pattern in a batch, with the batch."""
    return [(text, match.groups()) for text in ALL for match in re.finditer(pattern, text)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_grammar_of_t_sql_reads_every_script(script: Path) -> None:
    """All of each script is T-SQL."""
    assert [fault for batch in batches(script.read_text("utf-8")) for fault in parsed(batch)[1]] == []


@pytest.mark.parametrize(
    "fault",
    [
        "CREATE TRIGGER dbo.t ON dbo.x AFTER INSERT AS BEGIN UPDATE a SET b = FROM dbo.x; END",
        "CREATE PROCEDURE dbo.p AS BEGIN INSERT INTO dbo.x (a,) VALUES (1); END",
        "CREATE TABLE IF NOT EXISTS dbo.x (a INT)",
        "INSERT INTO dbo.x VALUES (1) ON CONFLICT DO NOTHING",
        "SELECT a FROM dbo.x LIMIT 5",
    ],
)
def test_the_grammar_of_t_sql_knows_faults(fault: str) -> None:
    """A fault within a trigger or procedure, or another database's language, is told."""
    assert parsed(fault)[1]


def test_scripts_start_with_the_settings_that_indexes_need() -> None:
    """Sqlcmd's default would make procedures that cannot write to tables with filtered indexes."""
    first = "SET QUOTED_IDENTIFIER ON; SET ANSI_NULLS ON;"
    assert {statements(script.read_text("utf-8"))[0] for script in SCRIPTS} == {first}


def test_what_is_made_is_looked_for_first() -> None:
    """Tables, columns, roles, views, triggers and procedures: a script may be run again."""
    for text, (table,) in named(r"CREATE TABLE (\S+)"):
        assert text.startswith(f"IF OBJECT_ID(N'{table}', N'U') IS NULL CREATE TABLE")
    for text, (table, column) in named(r"ALTER TABLE (dbo\.\w+) ADD \[?(\w+)"):
        assert f"IF COL_LENGTH(N'{table}', N'{column}') IS NULL ALTER TABLE {table} ADD" in text
    for text, (role,) in named(r"CREATE ROLE (\w+)"):
        assert text == f"IF DATABASE_PRINCIPAL_ID(N'{role}') IS NULL CREATE ROLE {role};"
    for text, (kind, name) in named(r"^CREATE (VIEW|TRIGGER) (\S+)"):
        code = {"VIEW": "V", "TRIGGER": "TR"}[kind]
        before = f"IF OBJECT_ID(N'{name}', N'{code}') IS NOT NULL DROP {kind} {name};"
        assert ALL[ALL.index(text) - 1] == before
    for text, (name,) in named(r"^ALTER PROCEDURE (\S+)"):
        before = f"IF OBJECT_ID(N'{name}', N'P') IS NULL EXEC (N'CREATE PROCEDURE {name} AS RETURN 0');"
        assert ALL[ALL.index(text) - 1] == before
    assert len(named(r"CREATE PROCEDURE")) == len(named(r"^ALTER PROCEDURE"))
    assert len(named(r"CREATE (?:VIEW|TRIGGER)")) == len(named(r"^CREATE (?:VIEW|TRIGGER)"))


def test_indexes_are_looked_for_by_the_names_that_they_get() -> None:
    """The pattern that guards an index matches its name."""
    made = named(r"CREATE (?:UNIQUE )?NONCLUSTERED INDEX (\w+) ON (dbo\.\w+)")
    assert len(made) == len(named(r"\bINDEX \w+ ON "))
    for text, (name, table) in made:
        assert len(name) <= LONGEST_INDEX_NAME
        assert f"FROM sys.indexes WHERE object_id = OBJECT_ID(N'{table}')" in text
        patterns = re.findall(r"name LIKE N'([^']*)'", text)
        assert any(re.fullmatch(p.replace("[_]", "_").replace("%", ".*"), name) for p in patterns)


def test_names_are_written_as_they_are_made() -> None:
    """A database may tell capitals apart: names are in small letters, but for those of indexes and constraints."""
    made = {name for _, (name,) in named(r"\b(?:INDEX|CONSTRAINT) ((?:DF|PK|FK|CK|UQ|UX|IX)_\w+)")}
    assert all(name.partition("_")[2].islower() for name in made)
    columns = {column for its in tables().values() for column in its}
    names = columns | set(tables()) | {name.lower() for name in made} | {"dbo", "sys", "inserted", "deleted"}
    texts = [*((script.name, script.read_text("utf-8")) for script in SCRIPTS), *programs()]
    for place, text in texts:
        outside, inside = words(text)
        wrong = {w for w in outside if not w.islower() and not w.isupper()} - made - THEIRS
        wrong |= {w for w in outside if w.isupper() and w.lower() in names} - ALSO_COLUMNS
        wrong |= {w for w in inside if w.lower() in names and not w.islower()} - made
        wrong |= outside & {"information_schema"}  # the standard's own has capitals throughout
        assert (place, wrong) == (place, set())


def test_nothing_is_taken_away() -> None:
    """No script drops or empties what may hold rows; the procedure that deletes is not called."""
    assert (
        named(r"\b(?:TRUNCATE TABLE|MERGE (?:INTO|dbo)|DROP (?:TABLE|COLUMN|INDEX|PROCEDURE|ROLE))\b") == []
    )
    loosened = {name for _, (name,) in named(r"\bDROP CONSTRAINT (\w+)")}
    assert loosened == {"CK_registry_audit_kind"}  # streamproc's own, which knew of two kinds
    deleting = {text.split()[2] for text, _ in named(r"\bDELETE (?:FROM|TOP|\w FROM)\b")}
    assert deleting == {"dbo.streamproc_delete_old", "dbo.streamproc_delete_old_trials"}
    updating = {text for text, _ in named(r"\bUPDATE \w+ SET\b") if text.startswith(("UPDATE", "WITH"))}
    models = {text for text in updating if text.startswith("UPDATE dbo.ml_models")}
    assert all("river-online" in text and "sensor_id IS NULL" in text for text in models)  # streamproc's own
    assert len(updating - models) == 1  # the ranges, into columns that are new
    assert "AND s.warning_low IS NULL" in (updating - models).pop()


def test_an_added_column_is_the_one_that_an_empty_database_gets() -> None:
    """But for its reference to another table, whose rows in a database in use might not be there."""
    made = tables(added=False)
    for table, column, definition in additions():
        if column not in made[table]:
            continue  # an empty database gets it by the same statement
        wanted = re.sub(r" CONSTRAINT FK_\w+ REFERENCES \S+ \(id\)", "", made[table][column])
        assert (table, column, definition) == (table, column, wanted)


def test_both_databases_have_the_same_tables_and_columns() -> None:
    """But for those named above."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, scripts("sqlite"))
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'schema_migrations'"
        names = [name for (name,) in connection.execute(query)]
        there = {
            table: {
                RENAMED.get((table, column), column)
                for _, column, *_ in connection.execute(f"PRAGMA table_info({table})")
            }
            for table in names
        }
    here = {table: set(columns) for table, columns in tables().items() if table not in EXTRA_TABLES}
    for table, columns in EXTRA_COLUMNS.items():
        assert set(columns.split()) <= here[table]
        here[table] -= set(columns.split())
    assert here == there


def test_an_index_on_a_status_can_be_asked_whatever_its_type() -> None:
    """Beside NVARCHAR the reference system's VARCHAR column is converted, and under some collations no index is of use."""
    found = [place for place, text in programs() if re.search(r"\bstatus (?:=|IN) \(?N'(?:active|ack)", text)]
    assert found == []
