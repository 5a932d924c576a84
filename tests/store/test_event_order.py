"""Which event tells a sensor's state: the newest that stands, in whatever order they come, come again or are withdrawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, count, pairwise, permutations
from typing import Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamproc.records import Severity, SeverityEvent
from streamproc.store.protocol import Batch, Store
from tests.store.builders import GROUP, event, events, readings
from tests.store.databases import Database

#: What the sink (write) or a replay (overwrite, withdraw) does, and with which of the events.
Act = tuple[Literal["write", "overwrite", "withdraw"], Sequence[int]]

#: Of each sensor; more make no new orders.
EVENTS = 4
#: Sensors of their own for each example, so that all can share a database.
_numbers = count()


def story(severities: Sequence[Severity]) -> list[SeverityEvent]:
    """The changes of a sensor that nobody has seen, each later than the one before, as the core gives them."""
    sensor, before = f"sensor-{next(_numbers)}", [Severity.NORMAL, *severities]
    pairs = zip(before, severities, strict=False)
    return [event(sensor, now, previous, ms=7 * number) for number, (previous, now) in enumerate(pairs)]


class Expected:
    """Which of some sensors' events are there, and which of these stand."""

    def __init__(self, told: Sequence[SeverityEvent]) -> None:
        self._told = told
        self._standing: set[int] = set()
        self._superseded: set[int] = set()

    def act(self, what: str, numbers: Iterable[int]) -> None:
        """Note what is done: what a replay has withdrawn, the sink does not bring back; another replay does."""
        for number in numbers:
            if what == "withdraw" and number in self._standing:
                self._standing.remove(number)
                self._superseded.add(number)
            elif what == "overwrite" or (what == "write" and number not in self._superseded):
                self._superseded.discard(number)
                self._standing.add(number)

    def statuses(self) -> dict[int, str]:
        """Active is each sensor's newest that stands, unless it is a recovery."""
        newest = {self._told[number].sensor: number for number in sorted(self._standing)}
        active = {number for number in newest.values() if self._told[number].severity}
        return {
            **dict.fromkeys(self._superseded, "superseded"),
            **{number: "active" if number in active else "resolved" for number in self._standing},
        }


async def do(store: Store, database: Database, act: Act, told: Sequence[SeverityEvent]) -> None:
    """Have the store do it."""
    what, numbers = act
    rows = Batch(GROUP, events=events(*(told[number] for number in numbers)))
    if what == "write":
        await store.write(rows)
    elif what == "overwrite":
        await store.overwrite(rows)
    else:
        wanted = {told[number].event_id for number in numbers}
        found = database.rows("SELECT id, event_id FROM ml_events")
        await store.withdraw("events", [number for number, event_id in found if event_id in wanted])


async def assert_follows(
    store: Store, database: Database, told: Sequence[SeverityEvent], acts: Iterable[Act]
) -> None:
    """After each act every event has the status that it should have."""
    wanted = Expected(told)
    number_of = {each.event_id: number for number, each in enumerate(told)}
    for act in acts:
        await do(store, database, act, told)
        wanted.act(*act)
        found = database.rows("SELECT event_id, status FROM ml_events")
        statuses = {number_of[name]: status for name, status in found if name in number_of}
        assert statuses == wanted.statuses(), act


def cuttings(order: Sequence[int]) -> Iterator[list[Sequence[int]]]:
    """All ways of cutting an order into batches."""
    inner = range(1, len(order))
    for size in range(len(order)):
        for cuts in combinations(inner, size):
            yield [order[begin:end] for begin, end in pairwise((0, *cuts, len(order)))]


@pytest.mark.live
async def test_in_whatever_order_events_come_the_newest_is_active(database: Database, store: Store) -> None:
    """All orders of four events, in all batches, each of which comes again at the end."""
    severities = [Severity.WARN, Severity.CRITICAL, Severity.NORMAL, Severity.WARN]
    for order in permutations(range(EVENTS)):
        for batches in cuttings(order):
            acts: list[Act] = [("write", batch) for batch in (*batches, *batches)]
            await assert_follows(store, database, story(severities), acts)


numbers = st.lists(st.integers(0, 2 * EVENTS - 1), min_size=1, max_size=EVENTS)
acts = st.tuples(st.sampled_from(("write", "write", "overwrite", "withdraw")), numbers)
ALARMS = [Severity.WARN, Severity.CRITICAL, Severity.WARN, Severity.CRITICAL]
severities = st.lists(st.sampled_from(Severity), min_size=EVENTS, max_size=EVENTS)


# They share the database, and each has sensors of its own.
@pytest.mark.live
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(severities, severities, st.lists(acts, min_size=3, max_size=8))
@example(ALARMS, ALARMS, [("write", [0, 1]), ("withdraw", [1]), ("write", [1])])
@example(ALARMS, ALARMS, [("write", [0, 2]), ("withdraw", [2]), ("write", [1])])
async def test_whatever_sink_and_replays_do_the_newest_that_stands_is_active(
    database: Database, store: Store, one: list[Severity], other: list[Severity], done: list[Act]
) -> None:
    """Two sensors' events in any order and batches, again and again: what a replay withdraws stays so until one gives it."""
    await assert_follows(store, database, [*story(one), *story(other)], done)


async def test_events_of_other_writers_are_theirs(database: Database, store: Store) -> None:
    """An alarm of another program on the same sensor ends no severity, and no change of severity ends it."""
    await store.write(Batch(GROUP, events=events(event("a", Severity.WARN, Severity.NORMAL, 1))))
    database.execute(
        "INSERT INTO ml_events (event_id, sensor_id, event_type, event_code, title, message, severity, created_at)"
        " SELECT 'theirs', id, 'maintenance', 'due', 't', 'm', 'WARN', '2023-11-14T22:13:20.500Z' FROM sensors"
    )
    await store.write(Batch(GROUP, events=events(event("a", Severity.CRITICAL, Severity.WARN, 400))))
    await store.write(Batch(GROUP, events=events(event("a", Severity.WARN, Severity.CRITICAL, 900))))
    found = database.rows("SELECT event_type, severity, status FROM ml_events ORDER BY created_at")
    assert found == [
        ("severity_change", "WARN", "resolved"),
        ("severity_change", "CRITICAL", "resolved"),
        ("maintenance", "WARN", "active"),
        ("severity_change", "WARN", "active"),
    ]


async def test_an_event_that_somebody_has_acknowledged_is_still_the_last(
    database: Database, store: Store
) -> None:
    """By another program: what a replay writes over or withdraws before it does not stand again."""
    told = [
        event("a", severity, previous, 7 * ms)
        for ms, (previous, severity) in enumerate(pairwise([Severity.NORMAL, *ALARMS[:3]]))
    ]
    await do(store, database, ("write", [0, 1, 2]), told)
    database.execute("UPDATE ml_events SET status = 'acknowledged' WHERE status = 'active'")
    await do(store, database, ("overwrite", [0]), told)
    await do(store, database, ("withdraw", [1]), told)
    query = "SELECT status FROM ml_events ORDER BY created_at"
    assert database.rows(query) == [("resolved",), ("superseded",), ("acknowledged",)]


async def test_an_event_leaves_those_before_it_as_they_are(database: Database, store: Store) -> None:
    """Of a sensor without a device there may be very many, and a batch writes its own events alone."""
    query = "SELECT d.uuid FROM ml_events e LEFT JOIN devices d ON d.id = e.device_id ORDER BY e.created_at"
    await store.write(Batch(GROUP, events=events(event("a", Severity.WARN, Severity.NORMAL, 1))))
    home = readings(("a", 1.0, 1), device="d")
    await store.write(
        Batch(GROUP, readings=home, events=events(event("a", Severity.CRITICAL, Severity.WARN, 2)))
    )
    assert database.rows(query) == [(None,), ("d",)]
