"""Classes the database's errors: which may pass, which concern a row, and which end a connection.

Pure: errors come in as pyodbc's arguments. The numbers are SQL Server's own, as sys.messages and Microsoft's pages "Database
Engine events and errors" and "Troubleshoot transient connection errors" list them; a few are the operating system's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from streamproc.errors import RowsRefused, StoreError, StoreUnavailable


class Kind(Enum):
    """What can be done about a fault."""

    AWAY = "the same call may succeed later"
    REFUSED = "a row breaks a rule of the database"
    WRONG = "somebody has to mend something"


@dataclass(frozen=True, slots=True)
class Fault:
    """What an error means; `code` is that of StoreUnavailable, `breaks`: the connection is of no more use."""

    kind: Kind
    code: str = "other"
    breaks: bool = False


_LOST = Fault(Kind.AWAY, "connection_lost", breaks=True)
_NO_DATABASE = Fault(Kind.AWAY, "cannot_open", breaks=True)
_BUSY = Fault(Kind.AWAY, "busy", breaks=True)
_DEADLOCK = Fault(Kind.AWAY, "deadlock")
_LOCKED = Fault(Kind.AWAY, "locked")
#: The statement was given up from here; what it still does at the server, nobody knows, so the connection goes.
_TIMEOUT = Fault(Kind.AWAY, "timeout", breaks=True)
_FULL = Fault(Kind.AWAY, "full")
_READ_ONLY = Fault(Kind.AWAY, "read_only")
_IO_ERROR = Fault(Kind.AWAY, "io_error", breaks=True)
_NO_MEMORY = Fault(Kind.AWAY, "no_memory")
_REFUSED = Fault(Kind.REFUSED)
_WRONG = Fault(Kind.WRONG)

_NUMBERS: dict[int, Fault] = {
    # The connection is gone. 64: the network name is no longer available. 121: the semaphore's time is up. 233: no process at
    # the other end. 596: the session was killed. 6005: the server shuts down. 10053, 10054: aborted here, reset there.
    # 10060, 10061: no answer, refused.
    **dict.fromkeys((64, 121, 233, 596, 6005, 10053, 10054, 10060, 10061), _LOST),
    # The server does not take logins now. 17142: paused. 18401: its own scripts run. 18451: it shuts down. 18461: it is
    # in single-user mode.
    **dict.fromkeys((17142, 18401, 18451, 18461), _NO_DATABASE),
    # The database is not there now. 615: its object has gone (failover). 921, 922: not recovered yet. 924: in single-user
    # mode. 926: suspect. 927: being restored. 942: offline. 945: its files or memory are lacking. 976, 978, 982, 983: a
    # replica that is not the primary one (now). 4060: the login may not open it, as in a failover. 40143, 40197, 40540,
    # 40613: it moves (Azure). 42108, 42109: its pool is paused, warms up.
    **dict.fromkeys((615, 921, 922, 924, 926, 927, 942, 945, 976, 978, 982, 983, 4060), _NO_DATABASE),
    **dict.fromkeys((40143, 40197, 40540, 40613, 42108, 42109), _NO_DATABASE),
    # Too much is asked of it. 10928, 10929, 10936: its sessions or workers are all in use. 17809: all user connections are.
    # 40501: it is busy. 49918, 49919, 49920: not enough resources.
    **dict.fromkeys((10928, 10929, 10936, 17809, 40501, 49918, 49919, 49920), _BUSY),
    # 1205: this transaction was chosen as the victim of a deadlock. 3960, 3961: under snapshot isolation a row, or the
    # schema, was changed by another. 41301, 41302, 41305, 41325, 41839: the same of memory-optimized tables.
    **dict.fromkeys((1205, 3960, 3961, 41301, 41302, 41305, 41325, 41839), _DEADLOCK),
    # 1222: a lock was not had within LOCK_TIMEOUT.
    1222: _LOCKED,
    # 701: no memory for the query. 802: none in the buffer pool. 1204: none for a lock. 8628, 8645, 8651: none within the
    # time that a query may wait for it.
    **dict.fromkeys((701, 802, 1204, 8628, 8645, 8651), _NO_MEMORY),
    # 1101, 1105: no room in a filegroup. 3958, 3959, 3966: none in tempdb for row versions. 5149: a file cannot grow.
    # 9002: the log is full.
    **dict.fromkeys((1101, 1105, 3958, 3959, 3966, 5149, 9002), _FULL),
    # 3906: the database is read-only.
    3906: _READ_ONLY,
    # 823, 824: reading or writing a page failed, or the page is damaged.
    **dict.fromkeys((823, 824), _IO_ERROR),
    # A row breaks a rule. 515: NULL where there must be a value. 547: a foreign key or CHECK. 2601, 2627: it is there
    # already. 511, 1946: longer than a row, or an index's key, may be. 2628, 8152: longer than its column.
    **dict.fromkeys((511, 515, 547, 1946, 2601, 2627, 2628, 8152), _REFUSED),
    # A value does not fit its type. 220, 232, 8115: too large. 241, 242, 295: no date, or one out of range. 245, 248, 8114:
    # no number. 8023: not a number, infinite. 8134: a division by zero. 13609: no JSON.
    **dict.fromkeys((220, 232, 241, 242, 245, 248, 295, 8023, 8114, 8115, 8134, 13609), _REFUSED),
    # 3609, 3616: a trigger has ended the transaction.
    **dict.fromkeys((3609, 3616), _REFUSED),
    # What trying again does not mend. 18456: the login fails. 20: the server cannot encrypt.
    **dict.fromkeys((20, 18456), _WRONG),
}
#: THROW and RAISERROR, in triggers and procedures of the database's own people, use these numbers and no others.
_OWN = range(50_000, 2**31)
#: Servers that speak T-SQL but are not Microsoft's give this where they have no number: it says nothing.
_NO_NUMBER = 33_557_097

#: By SQLSTATE, or its first two characters, where the number does not tell.
_STATES: dict[str, Fault] = {
    "08": _LOST,
    "22": _REFUSED,
    "23": _REFUSED,
    "28000": _WRONG,
    "40001": _DEADLOCK,
    "HYT00": _TIMEOUT,
    "HYT01": _TIMEOUT,
    # The driver says this of a connection on which a statement was given up.
    "HY008": _TIMEOUT,
    "HY010": _LOST,
}

#: What to do, by what the error says; the driver's texts have no number of their own.
_HINTS: tuple[tuple[str, str], ...] = (
    (
        "certificate verify failed",
        "this machine does not trust who signed it: install that one's, or DB_TRUST_SERVER_CERTIFICATE=yes takes any",
    ),
    (
        "Encryption not supported",
        "DB_ENCRYPT=no connects without; passwords and readings then travel unencrypted",
    ),
    (
        "Can't open lib",
        "the ODBC driver, or a library that it needs, is missing: `streamproc doctor` tells which",
    ),
)
#: As above, of what may pass by itself: who has set it up a moment ago has to look all the same.
_PASSING_HINTS: tuple[tuple[str, str], ...] = (
    (
        "Login timeout expired",
        "is the server there (DB_HOST, DB_PORT), does it listen for TCP, does no firewall stand between?",
    ),
)
_HINTED_NUMBERS = {
    208: "run `streamproc db migrate`",  # no such table
    229: "grant the login what docs/sqlserver.md lists",  # no permission on an object
    262: "grant the login what docs/sqlserver.md lists",  # no permission to create something
    911: "make the database, or set DB_NAME to another",  # no such database
    4060: "is there such a database (DB_NAME), and may the login open it?",
    18456: "see DB_USER and DB_PASSWORD",
}
_STATE = re.compile(r"[0-9A-Z]{5}")
#: pyodbc writes `[STATE] text (number) (function)`. The end is what counts: the text may quote a device's own words.
_NUMBER = re.compile(r"\((-?\d+)\) \(\w+\)\s*\Z")


def classify(sqlstate: str, number: int, text: str = "") -> Fault:
    """What an error means, by its number, else by its SQLSTATE.

    >>> classify("40001", 1205).code, classify("23000", 2627).kind.name, classify("08S01", 0).breaks
    ('deadlock', 'REFUSED', True)
    """
    if any(words in text for words, _ in _HINTS) and sqlstate[:2] in ("08", "01", "IM"):
        return _WRONG
    if number in _NUMBERS:
        return _NUMBERS[number]
    if number in _OWN and number != _NO_NUMBER:
        return _REFUSED
    return _STATES.get(sqlstate, _STATES.get(sqlstate[:2], _WRONG))


def parsed(arguments: Sequence[object]) -> tuple[str, int, str]:
    """The SQLSTATE, native number and text of a pyodbc error's arguments.

    >>> parsed(("40001", "[40001] [Microsoft][SQL Server]deadlocked (1205) (SQLExecDirectW)"))
    ('40001', 1205, '[Microsoft][SQL Server]deadlocked (1205)')
    """
    texts = [str(argument) for argument in arguments]
    # Errors that pyodbc raises by itself have the two the other way round.
    state = next((text for text in texts[:2] if _STATE.fullmatch(text)), "HY000")
    text = next((text for text in texts if text != state), "")
    number = _NUMBER.search(text)
    told = re.sub(r"\A\[\w{5}\] ", "", re.sub(r" \(SQL\w+\)\s*\Z", "", text))
    return state, int(number[1]) if number else 0, told


def translated(error: BaseException, place: str) -> StoreError:
    """The store's own error for one of pyodbc's, about the database at `place`."""
    state, number, text = parsed(error.args)
    fault = classify(state, number, text)
    hints = (*_HINTS, *_PASSING_HINTS)
    hint = _HINTED_NUMBERS.get(number) or next((what for words, what in hints if words in text), None)
    told = f"{place}: {text} [{state}]" + (f": {hint}" if hint else "")
    if fault.kind is Kind.AWAY:
        return StoreUnavailable(told, fault.code)
    return RowsRefused(told) if fault.kind is Kind.REFUSED else StoreError(told)


def is_duplicate(error: BaseException | None) -> bool:
    """Whether a row is there already, by a unique index (2601) or constraint (2627)."""
    return error is not None and parsed(error.args)[1] in (2601, 2627)


def breaks(error: BaseException) -> bool:
    """Whether the connection that gave this error is of no more use."""
    return classify(*parsed(error.args)).breaks
