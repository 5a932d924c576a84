"""The SQLite store: one file, one connection that writes, in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from streamproc.errors import RowsRefused, StoreError, StoreUnavailable, why
from streamproc.records import SensorEntry, SeverityEvent
from streamproc.store.comparison import Compared, Extras, Given, Scope
from streamproc.store.deliveries import Attempt, Claim, Message, Plan, Policy, Undelivered, Waiting
from streamproc.store.edits import (
    Audited,
    Author,
    Edit,
    Kind,
    Outcome,
    Registered,
    sensors,
)
from streamproc.store.migrations import migrate, pending, scripts
from streamproc.store.protocol import Batch, Place, Reached, Written
from streamproc.store.sensor_status import ClosedWindow, SensorStatus, StandingAlarm
from streamproc.store.sqlite import (
    compare,
    deliveries,
    documents,
    entries,
    overwrite,
    rows,
    status,
    trials,
    views,
)
from streamproc.store.sqlite.connection import BUSY_MS, connection
from streamproc.store.sqlite.sensors import Sensors
from streamproc.store.thresholds import Threshold
from streamproc.store.trial_history import SeverityChange, TrialHistory
from streamproc.store.views import EventPage, EventsAsked, SensorRow, SensorsAsked, WindowsAsked

T = TypeVar("T")

#: How long a call waits for another process that makes the schema: a second on a slow disk, whose fsyncs it waits for.
MIGRATING_MS = 10_000

#: What may pass, with the code that metrics and logs tell it by.
_AWAY = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_CANTOPEN: "cannot_open",
    sqlite3.SQLITE_IOERR: "io_error",
    sqlite3.SQLITE_PROTOCOL: "locked",
    sqlite3.SQLITE_NOMEM: "no_memory",
    sqlite3.SQLITE_INTERRUPT: "interrupted",
}
#: After these a connection may be of no more use: the next call opens another.
_BROKEN = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}


class SqliteStore:
    """A store in one SQLite file; other processes may read it, and write to it between transactions.

    With `auto_register` a sensor or device seen for the first time is registered in the transaction that
    writes its rows; without it such rows are refused. Unless it `migrates`, a file whose schema is behind is an error, and
    is left as it is.
    """

    def __init__(
        self, path: Path, *, auto_register: bool = False, busy_ms: int = BUSY_MS, migrates: bool = True
    ) -> None:
        self._path, self._busy_ms, self._migrates = path, busy_ms, migrates
        self._sensors = Sensors(auto_register=auto_register)
        self._models: dict[str, int] = {}
        self._connection: sqlite3.Connection | None = None
        self._file: int | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")

    async def open(self) -> None:
        """Connect, and bring the schema up to date, or raise StoreError where it is not and that is not asked for."""
        await self._run(self._connected)

    async def close(self) -> None:
        """Let go of the file for good; what is under way is finished first."""
        if not self._closed:
            self._closed = True
            await self._in_thread(self._disconnect)
            self._thread.shutdown(wait=False)

    async def offsets(self, group: str) -> dict[Place, int]:
        """The next offset of each partition that the group has written."""
        return {place: reached.next_offset for place, reached in (await self.reached(group)).items()}

    async def reached(self, group: str) -> dict[Place, Reached]:
        """The same, each with the registry's position that was written with it."""
        return await self.look(lambda opened: rows.reached(opened, group))

    async def write(self, batch: Batch) -> Written:
        """Write the rows that are new and move the offsets on, or raise RowsRefused or StaleOwner."""
        return await self._run(lambda: self._write(batch))

    async def probe(self, batch: Batch) -> None:
        """Raise RowsRefused where `write` would on account of the rows; write nothing."""
        await self._run(lambda: self._probe(batch))

    async def compare(self, batch: Batch) -> dict[str, Compared]:
        """Compare the batch's rows with the database, by table; nothing is written."""
        return await self.look(lambda opened: compare.compare(opened, batch, self._sensors, self._models))

    async def extras(
        self, table: str, scopes: Sequence[Scope], only: Sequence[str] | None, given: Given, limit: int
    ) -> Extras:
        """Rows of a table that belong to the scopes but were not given: how many, and at most `limit` of them."""
        return await self.look(lambda opened: compare.extras(opened, table, scopes, only, given, limit))

    async def overwrite(self, batch: Batch) -> None:
        """Make the database hold these rows as they are given, or raise RowsRefused; offsets stay."""
        await self.change(
            lambda opened: overwrite.overwrite(opened, batch, self._sensors, self._models), lasts=False
        )

    async def withdraw(self, table: str, numbers: Sequence[int]) -> int:
        """Withdraw rows that should not be there; returns how many there were."""
        return await self.change(lambda opened: overwrite.withdraw(opened, table, numbers), lasts=False)

    async def edit_registry(self, edits: Sequence[Edit], by: Author) -> list[Outcome]:
        """Carry out edits of the registry, all or none; returns what it then holds."""
        return await self.change(lambda opened: entries.edit(opened, edits, by))

    async def registry(self, only: Collection[str] | None = None) -> Registered:
        """All entries by their key on the topic, or those with these keys; None for removed ones."""
        return await self.look(lambda opened: entries.entries(opened, only))

    async def documents(self) -> Registered:
        """All policies, silences, handling and trials by their key."""
        return await self.look(documents.registered_documents)

    async def audit(
        self, of: tuple[Kind, str] | None = None, before: int | None = None, limit: int = 100
    ) -> list[Audited]:
        """Who has changed what, newest first."""
        return await self.look(lambda opened: entries.audit(opened, of, before, limit))

    async def entries(self) -> list[SensorEntry]:
        """All sensors of the registry, by name."""
        return sensors(await self.registry())

    async def thresholds(self, sensor: str | None = None) -> list[Threshold]:  # noqa: ARG002  # there are none
        """None: no other program's tables are in the file."""
        return []

    async def status(self, sensor: str) -> SensorStatus | None:
        """The status of the sensor with this uuid (in lower case), or else with this number; None if there is none."""
        return await self._run(lambda: self._status(sensor))

    async def alarms(self) -> list[StandingAlarm]:
        """The registered sensors that are not NORMAL, the oldest alarm first."""
        return await self.look(status.alarms)

    async def event(self, event_id: str) -> SeverityEvent | None:
        """The change of severity with this id, even if it was withdrawn; None if there is none."""
        return await self.look(lambda opened: status.stored(opened, event_id))

    async def told_over(self, event_id: str) -> bool:
        """Whether people were told, under this event's id, that its alarm is over (of a silent device: that it is back)."""
        return await self.look(lambda opened: status.told_over(opened, event_id))

    async def trial_recorded(self, trial: str) -> TrialHistory | None:
        """What the newest version of a trial has recorded; None if nothing."""
        return await self.look(lambda opened: trials.recorded(opened, trial))

    async def trial_told(self, trial: str, since: int, until: int) -> list[SeverityChange]:
        """The live changes of severity of a trial's sensors from one time to another, both inclusive, in ms."""
        return await self.look(lambda opened: trials.told(opened, trial, since, until))

    async def sensors_page(self, asked: SensorsAsked) -> list[SensorRow]:
        """Sensors by their key, `limit` at most."""
        return await self.look(lambda opened: views.sensors_page(opened, asked))

    async def events_page(self, asked: EventsAsked) -> EventPage:
        """Events, without withdrawn ones; none for an unknown sensor."""
        return await self.look(lambda opened: views.events_page(opened, asked))

    async def windows_page(self, asked: WindowsAsked) -> list[ClosedWindow]:
        """Closed windows, newest first; none for an unknown sensor."""
        return await self.look(lambda opened: views.windows_page(opened, asked))

    async def plan_deliveries(self, policy: Policy, now: int) -> Plan:
        """Enroll new notifications and group those that go out together; returns what was written."""
        return await self._run(lambda: self._plan(policy, now))

    async def claim_message(self, channel: str, claim: Claim) -> Message | None:
        """Claim the message that is due first, if there is one that nobody else holds."""
        return await self._run(lambda: self._claim(channel, claim))

    async def settle_message(self, message: Message, by: str, attempt: Attempt) -> bool:
        """Record how an attempt ended; False if another process holds the message by now."""
        return await self.change(lambda opened: deliveries.settle(opened, message, by, attempt))

    async def waiting(self, channel: str) -> Waiting:
        """What still waits to be sent."""
        return await self.look(lambda opened: deliveries.waiting(opened, channel))

    async def look(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """The result of a call that only reads."""
        return await self._run(lambda: call(self._connected()))

    async def change(self, call: Callable[[sqlite3.Connection], T], *, lasts: bool = True) -> T:
        """The result of a call in its own transaction; if it `lasts`, the changes survive a power cut."""
        return await self._run(lambda: self._change(call, lasts=lasts))

    async def undelivered(self, since: int) -> list[Undelivered]:
        """What was given up of changes from a time (ms) on, by channel, the newest reason first."""
        return await self.look(lambda opened: deliveries.undelivered(opened, since))

    async def send_again(self, channel: str, since: int, now: int) -> int:
        """Have given-up messages sent again that hold a change from a time on; returns how many changes they hold."""
        return await self.change(lambda opened: deliveries.send_again(opened, channel, since, now))

    async def _run(self, call: Callable[[], T]) -> T:
        if self._closed:  # whoever tries again meanwhile is about to end as well
            raise StoreUnavailable(f"{self._path} was closed", "closed")
        return await self._in_thread(call)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._translated, call)

    def _translated(self, call: Callable[[], T]) -> T:
        """The call's result, its errors as the store's own."""
        try:
            return call()
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError) as error:
            raise RowsRefused(str(error)) from error
        except sqlite3.Error as error:
            code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF  # the rest says more of the same
            if code in _BROKEN:
                self._disconnect()
            if code in _AWAY:
                raise StoreUnavailable(f"{self._path}: {error}", _AWAY[code]) from error
            raise StoreError(f"{self._path}: {error}") from error
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {why(error)}", "cannot_open") from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._inode() != self._file:
            self._disconnect()  # the file was replaced; what is written to the old one, nobody sees
        if self._connection is None:
            if not self._migrates:
                self._check_schema()
            opened = connection(self._path, self._busy_ms)
            try:
                if self._migrates:
                    opened.execute(f"PRAGMA busy_timeout = {max(self._busy_ms, MIGRATING_MS)}")
                    migrate(opened, scripts("sqlite"))
                    opened.execute(f"PRAGMA busy_timeout = {self._busy_ms}")
                self._file = self._inode()
            except BaseException:
                opened.close()
                raise
            self._connection = opened
        return self._connection

    def _check_schema(self) -> None:
        """Raise StoreError if the schema is behind; even what it takes to write to a file is left alone."""
        wanted = scripts("sqlite")
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=self._busy_ms / 1000)) as looking:
            behind = len(pending(looking, wanted))
        if behind:
            raise StoreError(
                f"{self._path} has schema {len(wanted) - behind}, this program needs {len(wanted)}: run `streamproc"
                " db migrate`, or start `streamproc sink`, which brings it up to date; nothing was changed"
            )

    def _inode(self) -> int | None:
        try:
            return self._path.stat().st_ino
        except FileNotFoundError:
            return None

    def _disconnect(self) -> None:
        self._forget()
        if self._connection is not None:
            opened, self._connection = self._connection, None
            opened.close()

    def _forget(self) -> None:
        self._sensors.forget()
        self._models.clear()

    @contextmanager
    def _transaction(self, end: str = "COMMIT") -> Iterator[sqlite3.Connection]:
        opened = self._connected()
        # The write lock at once: a transaction that asks for it later may fail for having read before.
        opened.execute("BEGIN IMMEDIATE")
        try:
            yield opened
            opened.execute(end)
        except BaseException:
            self._forget()  # ids given out in it are void
            if opened.in_transaction:  # SQLite ends some by itself: disk full, I/O error
                opened.execute("ROLLBACK")
            raise

    def _write(self, batch: Batch) -> Written:
        with self._transaction() as opened:
            rows.advance(opened, batch)
            return rows.write(opened, batch, self._sensors, self._models)

    def _probe(self, batch: Batch) -> None:
        with self._transaction("ROLLBACK") as opened:
            rows.write(opened, batch, self._sensors, self._models)
        self._forget()

    def _status(self, sensor: str) -> SensorStatus | None:
        opened = self._connected()
        opened.execute("BEGIN")  # all of one moment; nobody who writes is kept waiting
        try:
            return status.status(opened, sensor)
        finally:
            opened.execute("ROLLBACK")

    def _plan(self, policy: Policy, now: int) -> Plan:
        """Nothing is locked where nothing is to be written, which is nearly always."""
        made = deliveries.plan(self._connected(), policy, now)
        if made:
            with self._lasting() as opened:
                made = deliveries.plan(opened, policy, now)
                deliveries.carry_out(opened, made, policy.channel, now)
        return made

    def _claim(self, channel: str, claim: Claim) -> Message | None:
        if not deliveries.is_due(self._connected(), channel, claim):
            return None
        with self._lasting() as opened:
            return deliveries.claim(opened, channel, claim)

    def _change(self, call: Callable[[sqlite3.Connection], T], *, lasts: bool) -> T:
        with self._lasting() if lasts else self._transaction() as opened:
            return call(opened)

    @contextmanager
    def _lasting(self) -> Iterator[sqlite3.Connection]:
        """A transaction that outlives a power cut: nobody makes an edit again, or takes back what was told to people."""
        opened = self._connected()
        opened.execute("PRAGMA synchronous = FULL")
        try:
            with self._transaction():
                yield opened
        finally:
            opened.execute("PRAGMA synchronous = NORMAL")
