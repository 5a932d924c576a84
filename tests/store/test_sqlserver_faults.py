"""What SQL Server's errors mean; a wrong answer loses rows or tries for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import RowsRefused, StoreError, StoreUnavailable
from streamproc.store.sqlserver.faults import Kind, breaks, classify, parsed, translated

AWAY, REFUSED, WRONG = Kind.AWAY, Kind.REFUSED, Kind.WRONG
PRODUCT = "[Microsoft][ODBC Driver 18 for SQL Server]"


@pytest.mark.parametrize(
    ("state", "number", "kind", "code", "lost"),
    [
        ("08S01", 10054, AWAY, "connection_lost", True),
        ("08S01", 0, AWAY, "connection_lost", True),
        ("08001", 10061, AWAY, "connection_lost", True),
        ("08001", 233, AWAY, "connection_lost", True),
        ("HY000", 596, AWAY, "connection_lost", True),
        ("42000", 6005, AWAY, "connection_lost", True),
        ("HY010", 0, AWAY, "connection_lost", True),
        ("HYT00", 0, AWAY, "timeout", True),
        ("HYT01", 0, AWAY, "timeout", True),
        ("HY008", 0, AWAY, "timeout", True),
        ("42000", 17142, AWAY, "cannot_open", True),
        ("42000", 976, AWAY, "cannot_open", True),
        ("42000", 983, AWAY, "cannot_open", True),
        ("42000", 4060, AWAY, "cannot_open", True),
        ("42000", 40613, AWAY, "cannot_open", True),
        ("42000", 40501, AWAY, "busy", True),
        ("42000", 49918, AWAY, "busy", True),
        ("40001", 1205, AWAY, "deadlock", False),
        ("42000", 1205, AWAY, "deadlock", False),
        ("42000", 3960, AWAY, "deadlock", False),
        ("42000", 1222, AWAY, "locked", False),
        ("HYT00", 1222, AWAY, "locked", False),
        ("42000", 1204, AWAY, "no_memory", False),
        ("42000", 1105, AWAY, "full", False),
        ("42000", 9002, AWAY, "full", False),
        ("25000", 3906, AWAY, "read_only", False),
        ("HY000", 823, AWAY, "io_error", True),
        ("23000", 2601, REFUSED, "other", False),
        ("23000", 2627, REFUSED, "other", False),
        ("23000", 547, REFUSED, "other", False),
        ("23000", 515, REFUSED, "other", False),
        ("22001", 2628, REFUSED, "other", False),
        ("22001", 8152, REFUSED, "other", False),
        ("22003", 8115, REFUSED, "other", False),
        ("42000", 8023, REFUSED, "other", False),
        ("42000", 3609, REFUSED, "other", False),
        ("42000", 50_000, REFUSED, "other", False),
        ("42000", 2**31 - 1, REFUSED, "other", False),
        ("22007", 0, REFUSED, "other", False),
        ("28000", 18456, WRONG, "other", False),
        ("42S02", 208, WRONG, "other", False),
        ("42000", 102, WRONG, "other", False),
        ("42000", 33_557_097, WRONG, "other", False),
        ("HY000", 0, WRONG, "other", False),
    ],
)
def test_what_an_error_means(state: str, number: int, kind: Kind, code: str, lost: bool) -> None:
    """By its number, else by its SQLSTATE; what nobody knows is no reason to drop a row or to try for ever."""
    fault = classify(state, number)
    assert (fault.kind, fault.code, fault.breaks) == (kind, code, lost)


@given(st.text(), st.integers(-1, 2**31 - 1), st.sampled_from(["SQLExecDirectW", "SQLEndTran", "SQLFetch"]))
def test_the_number_is_the_last_one(quoted: str, number: int, function: str) -> None:
    """A text may quote a device's own words: they decide nothing."""
    text = f"[42000] {PRODUCT}[SQL Server]refused: '{quoted} (1205) (SQLExecDirectW)' ({number}) ({function})"
    state, found, _ = parsed(("42000", text))
    assert (state, found) == ("42000", number)


def test_arguments_of_all_forms_are_read() -> None:
    """As the driver gives them, as pyodbc does by itself, and none."""
    text = f"[23000] {PRODUCT}[SQL Server]duplicate (2627) (SQLExecute)"
    assert parsed(("23000", text)) == ("23000", 2627, f"{PRODUCT}[SQL Server]duplicate (2627)")
    assert parsed(("ODBC SQL type -155 is not yet supported.", "HY106"))[:2] == ("HY106", 0)
    assert parsed(("The cursor's connection has been closed.",))[:2] == ("HY000", 0)
    assert parsed(()) == ("HY000", 0, "")


def told(state: str, text: str, number: int) -> StoreError:
    """The store's error for one of pyodbc's."""
    return translated(
        Exception(state, f"[{state}] {PRODUCT}{text} ({number}) (SQLDriverConnect)"), "db:1433/iot"
    )


def test_errors_become_the_stores_own() -> None:
    """Each of the three kinds, with the place and what the database said."""
    away = told("40001", "[SQL Server]deadlocked", 1205)
    assert isinstance(away, StoreUnavailable)
    assert (away.code, str(away).startswith("db:1433/iot: ")) == ("deadlock", True)
    assert isinstance(told("23000", "[SQL Server]it is there", 2627), RowsRefused)
    wrong = told("42000", "[SQL Server]syntax", 102)
    assert type(wrong) is StoreError
    assert "syntax (102) [42000]" in str(wrong)


@pytest.mark.parametrize(
    ("state", "text", "number", "advice"),
    [
        (
            "08001",
            "SSL Provider: [certificate verify failed:self-signed certificate]",
            -1,
            "DB_TRUST_SERVER_CERT",
        ),
        ("08001", "Encryption not supported on SQL Server.", 20, "DB_ENCRYPT=no"),
        ("01000", "Can't open lib 'libmsodbcsql-18.6.so.2.1' : file not found", 0, "streamproc doctor"),
        ("28000", "[SQL Server]Login failed for user 'sa'.", 18456, "DB_PASSWORD"),
        ("42S02", "[SQL Server]Invalid object name 'dbo.sensor_readings'.", 208, "streamproc db migrate"),
        ("42000", "[SQL Server]The INSERT permission was denied", 229, "docs/sqlserver.md"),
    ],
)
def test_what_people_can_mend_says_how(state: str, text: str, number: int, advice: str) -> None:
    """Trying again would not help: the error is not one that passes, and names what to do."""
    error = told(state, text, number)
    assert type(error) is StoreError
    assert advice in str(error)


@pytest.mark.parametrize("state", ["HYT00", "08001"])
def test_who_is_not_answered_is_told_what_to_look_at(state: str) -> None:
    """It may pass by itself all the same: the sink goes on trying."""
    error = told(state, "Login timeout expired", 0)
    assert isinstance(error, StoreUnavailable)
    assert "DB_HOST, DB_PORT" in str(error)


def test_a_hint_in_a_rows_own_words_decides_nothing() -> None:
    """A device named like an error of the driver's is a row like others."""
    assert classify("42000", 50_001, "sensor 'certificate verify failed' is unknown").kind is REFUSED


def test_a_lost_connection_is_told_apart_from_a_lost_transaction() -> None:
    """After a deadlock the connection goes on; after a reset it does not."""
    assert breaks(Exception("08S01", "[08S01] reset (10054) (SQLExecDirectW)"))
    assert not breaks(Exception("40001", "[40001] deadlock (1205) (SQLExecDirectW)"))
