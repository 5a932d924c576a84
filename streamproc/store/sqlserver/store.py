"""The SQL Server store: a few connections, each call a transaction on one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from streamproc.errors import RegistryError, RowsRefused, StaleOwner, StoreError
from streamproc.records import SensorEntry, SeverityEvent
from streamproc.settings import Settings
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
from streamproc.store.protocol import Batch, Place, Reached, Written
from streamproc.store.sensor_status import ClosedWindow, SensorStatus, StandingAlarm
from streamproc.store.sqlserver import (
    compare,
    deliveries,
    documents,
    driver,
    entries,
    faults,
    migrations,
    overwrite,
    rows,
    status,
    trials,
    views,
)
from streamproc.store.sqlserver.connections import Connections
from streamproc.store.sqlserver.sensors import Sensors
from streamproc.store.sqlserver.turns import take_turn
from streamproc.store.thresholds import Threshold
from streamproc.store.trial_history import SeverityChange, TrialHistory
from streamproc.store.views import EventPage, EventsAsked, SensorRow, SensorsAsked, WindowsAsked


def opened(settings: Settings, process: str) -> SqlServerStore:
    """The store that the settings name, not connected yet; raises StoreError where no ODBC driver can be found."""
    text = driver.connection_string(settings, driver.find(settings.odbc_driver), process)
    place = f"{settings.db_host}:{settings.db_port}/{settings.db_name}"
    return SqlServerStore(Connections(text, place), auto_register=settings.auto_register)


class SqlServerStore:
    """A store in one database of a SQL Server; others may read it, and write to it.

    With `auto_register` a sensor or device seen for the first time is registered in the transaction that writes its rows;
    without it such rows are refused. The schema is left as it is: changing it is for who may, by `streamproc db migrate`.
    """

    def __init__(self, connections: Connections, *, auto_register: bool = False) -> None:
        self._connections = connections
        self._sensors = Sensors(auto_register=auto_register)
        self._models: dict[str, int] = {}
        self._is_known = False

    async def open(self) -> None:
        """Connect; raises StoreError where the schema is behind, or another. So does each other call, the first time."""
        await self._connections.open()
        async with self._cursor(commits=False):
            pass

    async def close(self) -> None:
        """Close the database; calls under way are finished first."""
        await self._connections.close()

    async def offsets(self, group: str) -> dict[Place, int]:
        """The next offset of each partition that the group has written."""
        return {place: reached.next_offset for place, reached in (await self.reached(group)).items()}

    async def reached(self, group: str) -> dict[Place, Reached]:
        """The same, each with the registry's position that was written with it."""
        async with self._cursor(commits=False) as cursor:
            return await rows.reached(cursor, group)

    async def write(self, batch: Batch) -> Written:
        """Write the rows that are new and move the offsets on, or raise RowsRefused or StaleOwner."""
        try:
            return await self._write(batch)
        except RowsRefused as error:
            if not faults.is_duplicate(error.__cause__):
                raise
        return await self._write(batch)  # another has written the same in this moment, and it is there now

    async def _write(self, batch: Batch) -> Written:
        async with self._cursor() as cursor:
            await rows.advance(cursor, batch)
            return await rows.write(cursor, batch, self._sensors, self._models)

    async def probe(self, batch: Batch) -> None:
        """Raise RowsRefused where `write` would on account of the rows; write nothing."""
        try:
            async with self._cursor(commits=False) as cursor:
                await rows.write(cursor, batch, self._sensors, self._models)
        finally:
            self._forget()  # ids given out in it are void

    async def compare(self, batch: Batch) -> dict[str, Compared]:
        """Compare the batch's rows with the database, by table; nothing is written."""
        async with self._cursor(commits=False) as cursor:
            return await compare.compare(cursor, batch, self._sensors, self._models)

    async def extras(
        self, table: str, scopes: Sequence[Scope], only: Sequence[str] | None, given: Given, limit: int
    ) -> Extras:
        """Rows of a table that belong to the scopes but were not given: how many, and at most `limit` of them."""
        async with self._cursor(commits=False) as cursor:
            return await compare.extras(cursor, table, scopes, only, given, limit)

    async def overwrite(self, batch: Batch) -> None:
        """Make the database hold these rows as they are given, or raise RowsRefused; offsets stay."""
        async with self._cursor() as cursor:
            await overwrite.overwrite(cursor, batch, self._sensors, self._models)

    async def withdraw(self, table: str, numbers: Sequence[int]) -> int:
        """Withdraw rows that should not be there; returns how many there were."""
        async with self._cursor() as cursor:
            return await overwrite.withdraw(cursor, table, numbers)

    async def edit_registry(self, edits: Sequence[Edit], by: Author) -> list[Outcome]:
        """Carry out edits of the registry, all or none; returns what it then holds."""
        async with self._cursor() as cursor:
            return await entries.edit(cursor, edits, by)

    async def registry(self, only: Collection[str] | None = None) -> Registered:
        """All entries by their key on the topic, or those with these keys; None for removed ones."""
        async with self._cursor(commits=False) as cursor:
            return await entries.entries(cursor, only)

    async def documents(self) -> Registered:
        """All policies, silences, handling and trials by their key."""
        async with self._cursor(commits=False) as cursor:
            return await documents.registered_documents(cursor)

    async def audit(
        self, of: tuple[Kind, str] | None = None, before: int | None = None, limit: int = 100
    ) -> list[Audited]:
        """Who has changed what, newest first."""
        async with self._cursor(commits=False) as cursor:
            return await entries.audit(cursor, of, before, limit)

    async def entries(self) -> list[SensorEntry]:
        """All sensors of the registry, by name."""
        return sensors(await self.registry())

    async def thresholds(self, sensor: str | None = None) -> list[Threshold]:
        """The limits of registered sensors, or of one, that other programs keep there, the oldest first."""
        async with self._cursor(commits=False) as cursor:
            return await entries.thresholds(cursor, sensor)

    async def status(self, sensor: str) -> SensorStatus | None:
        """The status of the sensor with this uuid (in lower case), or else with this number; None if there is none."""
        async with self._cursor(commits=False) as cursor:
            return await status.status(cursor, sensor)

    async def alarms(self) -> list[StandingAlarm]:
        """The registered sensors that are not NORMAL, the oldest alarm first."""
        async with self._cursor(commits=False) as cursor:
            return await status.alarms(cursor)

    async def event(self, event_id: str) -> SeverityEvent | None:
        """The change of severity with this id, even if it was withdrawn; None if there is none."""
        async with self._cursor(commits=False) as cursor:
            return await status.stored(cursor, event_id)

    async def told_over(self, event_id: str) -> bool:
        """Whether people were told, under this event's id, that its alarm is over (of a silent device: that it is back)."""
        async with self._cursor(commits=False) as cursor:
            return await status.told_over(cursor, event_id)

    async def trial_recorded(self, trial: str) -> TrialHistory | None:
        """What the newest version of a trial has recorded; None if nothing."""
        async with self._cursor(commits=False) as cursor:
            return await trials.recorded(cursor, trial)

    async def trial_told(self, trial: str, since: int, until: int) -> list[SeverityChange]:
        """The live changes of severity of a trial's sensors from one time to another, both inclusive, in ms."""
        async with self._cursor(commits=False) as cursor:
            return await trials.told(cursor, trial, since, until)

    async def sensors_page(self, asked: SensorsAsked) -> list[SensorRow]:
        """Sensors by their key, `limit` at most."""
        async with self._cursor(commits=False) as cursor:
            return await views.sensors_page(cursor, asked)

    async def events_page(self, asked: EventsAsked) -> EventPage:
        """Events, without withdrawn ones; none for an unknown sensor."""
        async with self._cursor(commits=False) as cursor:
            return await views.events_page(cursor, asked)

    async def windows_page(self, asked: WindowsAsked) -> list[ClosedWindow]:
        """Closed windows, newest first; none for an unknown sensor."""
        async with self._cursor(commits=False) as cursor:
            return await views.windows_page(cursor, asked)

    async def plan_deliveries(self, policy: Policy, now: int) -> Plan:
        """Enroll new notifications and group those that go out together; returns what was written."""
        async with self._cursor(commits=False) as cursor:
            if not await deliveries.plan(cursor, policy, now):
                return Plan()
        async with self._cursor() as cursor:
            await take_turn(cursor, *deliveries.TURN)
            made = await deliveries.plan(cursor, policy, now)
            await deliveries.carry_out(cursor, made, policy.channel, now)
            return made

    async def claim_message(self, channel: str, claim: Claim) -> Message | None:
        """Claim the message that is due first, if there is one that nobody else holds."""
        async with self._cursor() as cursor:
            return await deliveries.claim(cursor, channel, claim)

    async def settle_message(self, message: Message, by: str, attempt: Attempt) -> bool:
        """Record how an attempt ended; False if another process holds the message by now."""
        async with self._cursor() as cursor:
            return await deliveries.settle(cursor, message, by, attempt)

    async def waiting(self, channel: str) -> Waiting:
        """What still waits to be sent."""
        async with self._cursor(commits=False) as cursor:
            return await deliveries.waiting(cursor, channel)

    async def undelivered(self, since: int) -> list[Undelivered]:
        """What was given up of changes from a time (ms) on, by channel, the newest reason first."""
        async with self._cursor(commits=False) as cursor:
            return await deliveries.undelivered(cursor, since)

    async def send_again(self, channel: str, since: int, now: int) -> int:
        """Have given-up messages sent again that hold a change from a time on; returns how many changes they hold."""
        async with self._cursor() as cursor:
            return await deliveries.send_again(cursor, channel, since, now)

    @asynccontextmanager
    async def cursor(self, *, commits: bool = True) -> AsyncIterator[Any]:
        """A cursor in a transaction, for a part of the stage that asks what no store is asked."""
        async with self._cursor(commits=commits) as cursor:
            yield cursor

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[Any]:
        """A connection on which each statement is a transaction; the schema is known by a call before."""
        async with self._connections.statements() as connection:
            yield connection

    @asynccontextmanager
    async def _cursor(self, *, commits: bool = True) -> AsyncIterator[Any]:
        """A cursor in a transaction; where that is undone, what was remembered of ids is void.

        The schema is looked at before the first, and again after a fault: a server that was away may come back with another.
        """
        try:
            async with self._connections.transaction(commits=commits) as connection:
                if not self._is_known:
                    await _know(connection)
                    self._is_known = True
                cursor = await connection.cursor()
                yield cursor
                await cursor.close()
        except BaseException as error:
            self._is_known &= isinstance(
                error, RowsRefused | StaleOwner | RegistryError
            )  # those are no faults of the server
            self._forget()
            raise

    def _forget(self) -> None:
        self._sensors.forget()
        self._models.clear()


async def _know(connection: Any) -> None:
    """Raise StoreError unless the schema is this program's."""
    schema = await migrations.status(connection)
    if schema.pending:
        names = ", ".join(script.name for script in schema.pending)
        raise StoreError(f"the database's schema is behind ({names}): run `streamproc db migrate`")
