"""Who looks after an alarm of a device that comes and goes, by what every store has of it."""

from __future__ import annotations

import msgspec
import pytest

from streamproc.errors import RegistryError
from streamproc.records import DEVICE_SILENT, Notification, SensorEntry, Severity, SeverityEvent
from streamproc.records.alerting import HandlingEntry
from streamproc.registry.handling import handled, handling_of
from streamproc.store.protocol import Batch, Store
from tests.store.builders import GROUP, PLACE, START, event, events, notifications, save_entries

NORMAL, WARN, CRITICAL = Severity


def hidden(severity: Severity, previous: Severity, ms: int) -> SeverityEvent:
    """A silence of the sensor that its device's stands for."""
    told = event("s", severity, previous, ms)
    return msgspec.structs.replace(
        told, lineage=msgspec.structs.replace(told.lineage, scores={DEVICE_SILENT: 1.0})
    )


FIRST, HEARD, AGAIN = hidden(WARN, NORMAL, 0), event("s", NORMAL, WARN, 1_000), hidden(WARN, NORMAL, 2_000)
SAID = HandlingEntry("s", FIRST.event_id, acknowledged=True, by="ann")


async def silent(store: Store, *rows: SeverityEvent, back: bool = False) -> None:
    """These events of a sensor, and what people were told of its device: that it is silent, and `back`."""
    severities = [WARN, NORMAL] if back else [WARN]
    notes = [
        Notification(f"n-{severity}", FIRST.event_id, "s", severity, START + severity, "t", "m")
        for severity in severities
    ]
    await save_entries(store, [SensorEntry("s")])
    rows_ = Batch(GROUP, {PLACE: (None, 1)}, events=events(*rows), notifications=notifications(*notes))
    await store.write(rows_)


async def said(store: Store) -> HandlingEntry | None:
    """What people have said of the sensor's alarm."""
    (alarm,) = await store.alarms()
    return await handling_of(store, SAID, alarm)


async def test_a_device_that_came_back_for_a_while_is_looked_after(store: Store) -> None:
    """As the engine has it: until people are told that it is back. Who names the first event means the alarm that is."""
    await silent(store, FIRST, HEARD, AGAIN)
    assert not await store.told_over(FIRST.event_id)
    assert await said(store) == SAID
    assert (await handled(store, FIRST.event_id, "bob", START)).entry == HandlingEntry(
        "s", FIRST.event_id, acknowledged=True, by="bob", at=START
    )


async def test_a_device_that_was_told_to_be_back_is_not(store: Store) -> None:
    """What comes then is another alarm."""
    await silent(store, FIRST, HEARD, AGAIN, back=True)
    assert await store.told_over(FIRST.event_id)
    assert await said(store) is None
    with pytest.raises(RegistryError, match="there is another one"):
        await handled(store, FIRST.event_id, "bob", START)


@pytest.mark.parametrize(
    "last", [event("s", WARN, NORMAL, 2_000), hidden(CRITICAL, NORMAL, 2_000)], ids=["its own", "graver"]
)
async def test_another_alarm_is_nobodys(store: Store, last: SeverityEvent) -> None:
    """One of the sensor itself, or a silence that is graver."""
    await silent(store, FIRST, HEARD, last)
    assert await said(store) is None
