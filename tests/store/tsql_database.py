"""A database on the T-SQL server as its own people see it: statements and rows, and the reference system's tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from streamproc.store.sqlserver import driver
from tests.store.tsql import database_made, dsn
from tests.store.tsql_scripts import SCRIPTS, batches

REFERENCE = Path(__file__).with_name("reference_database.sql")
#: What a writer that lost a race gets: a deadlock, or an alert that another has just raised. It tries again.
_RACES = ("(1205)", "(2601)", "(2627)")


class Database:
    """One database by name; every connection commits each statement."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connection = self.connect()

    def connect(self, **login: str) -> Any:
        """Another connection; some servers need a session to have had a temporary table before it uses a trigger's."""
        connection = driver.pyodbc().connect(dsn(Database=self.name, **login), autocommit=True)
        connection.execute("CREATE TABLE #first (a INT)")
        connection.execute("DROP TABLE #first")
        return connection

    def close(self) -> None:
        """Close the connection that `rows` and `run` use."""
        self.connection.close()

    def run(self, statement: str, *values: object) -> None:
        """Run a statement."""
        self.connection.execute(statement, *values)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query gives."""
        return [tuple(row) for row in self.connection.execute(query, *values).fetchall()]

    def value(self, query: str, *values: object) -> Any:
        """The one value that a query gives."""
        ((value,),) = self.rows(query, *values)
        return value

    def apply(self, scripts: Sequence[Path] = SCRIPTS) -> None:
        """Run scripts, batch by batch."""
        for script in scripts:
            for batch in batches(script.read_text("utf-8")):
                self.run(batch)

    def sensor(self, **columns: object) -> int:
        """The number of a new sensor, with a device."""
        key = uuid4().hex
        self.run("INSERT INTO dbo.devices (stream_key) VALUES (?)", f"d-{key}")
        names = ", ".join(["stream_key", "device_id", *columns])
        places = ", ".join(["?", "(SELECT id FROM dbo.devices WHERE stream_key = ?)", *"?" * len(columns)])
        insert = f"INSERT INTO dbo.sensors ({names}) VALUES ({places})"  # noqa: S608  # the test's own names
        self.run(insert, key, f"d-{key}", *columns.values())
        number: int = self.value("SELECT id FROM dbo.sensors WHERE stream_key = ?", key)
        return number

    def alerts(self, sensor: int) -> list[tuple[Any, ...]]:
        """Severity, status and value of a sensor's alerts."""
        query = "SELECT severity, status, triggered_value FROM dbo.alerts WHERE sensor_id = ? ORDER BY id"
        return [(severity, status, float(value)) for severity, status, value in self.rows(query, sensor)]

    def told(self, sensor: int) -> list[str]:
        """The severities of a sensor's notifications."""
        query = "SELECT severity FROM dbo.alert_notifications WHERE sensor_id = ? ORDER BY id"
        return [severity for (severity,) in self.rows(query, sensor)]


@contextmanager
def made() -> Iterator[Database]:
    """A new database, dropped at the end."""
    with database_made() as name:
        database = Database(name)
        try:
            yield database
        finally:
            database.close()


def reference_text(database: Database, changes: Mapping[str, str] | None = None) -> list[str]:
    """The reference's database; on a server that cannot make a column NULL later, as if that had been done.

    `changes` are texts for others: how somebody's own differs.
    """
    database.run("CREATE TABLE dbo.probe (a BIGINT NOT NULL)")
    null = "NOT NULL"
    try:
        database.run("ALTER TABLE dbo.probe ALTER COLUMN a BIGINT NULL")
    except driver.pyodbc().Error as error:
        if "not currently supported" not in str(error):
            raise
        null = "NULL"
    database.run("DROP TABLE dbo.probe")
    text = REFERENCE.read_text("utf-8").replace("{NOT NULL}", null)
    for was, now in (changes or {}).items():
        assert was in text
        text = text.replace(was, now)
    return batches(text)


def insisting(connection: Any, statement: str, *values: object) -> None:
    """Run a statement until it has neither lost a race nor been the victim of a deadlock, as writers do."""
    while True:
        try:
            connection.execute(statement, *values)
        except driver.pyodbc().Error as error:
            if not any(number in str(error) for number in _RACES):
                raise
        else:
            return
