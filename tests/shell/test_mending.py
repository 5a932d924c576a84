"""Having the topic follow the database, with a topic in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from pathlib import Path
from time import monotonic

import msgspec
import pytest

from streamproc.records import DEVICE_PREFIX, ActionEntry, DeviceEntry, Range, SensorEntry
from streamproc.records.alerting import DOCUMENTS, Document
from streamproc.registry.mending import Mended, Mender
from streamproc.registry.service import Service
from streamproc.store.edits import PutAction, PutSensor
from streamproc.store.sqlite.connection import connection
from streamproc.store.sqlite.store import SqliteStore
from streamproc.store.thresholds import Threshold
from tests.slowness import in_time
from tests.store.builders import save_entries


class MemoryTopic:
    """A topic that is read as soon as it is written."""

    def __init__(self) -> None:
        self.entries: dict[str, SensorEntry] = {}
        self.devices: dict[str, DeviceEntry] = {}
        self.documents: dict[str, Document] = {}

    async def send(self, records: Mapping[str, bytes | None]) -> None:
        """Take the records in."""
        for key, value in records.items():
            name = key.removeprefix(DEVICE_PREFIX)
            if key.startswith(tuple(DOCUMENTS)):
                self._document(key, value)
            elif value is None:
                (self.devices if key.startswith(DEVICE_PREFIX) else self.entries).pop(name, None)
            elif key.startswith(DEVICE_PREFIX):
                self.devices[name] = msgspec.json.decode(value, type=DeviceEntry)
            else:
                self.entries[name] = msgspec.json.decode(value, type=SensorEntry)

    def _document(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.documents.pop(key, None)
        else:
            form = next(form for prefix, form in DOCUMENTS.items() if key.startswith(prefix))
            self.documents[key] = msgspec.json.decode(value, type=form)

    async def caught_up(self) -> None:
        """All is read."""


class Limited(SqliteStore):
    """A database in which other programs keep limits."""

    limits: tuple[Threshold, ...] = ()

    async def thresholds(self, sensor: str | None = None) -> list[Threshold]:
        """Those of the test."""
        return [limit for limit in self.limits if sensor in (None, limit.sensor)]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Limited]:
    """An empty database."""
    opened = Limited(tmp_path / "s.db")
    yield opened
    await opened.close()


async def test_limits_of_other_programs_are_ranges_soon(store: Limited) -> None:
    """Where they are set, changed and switched off; each change has a version and a line in the database's name."""
    topic = MemoryTopic()
    await Service(store, topic.send).edit([PutSensor(SensorEntry("s", unit="V"))], "ann")
    mender = Mender(store, topic.send, topic)
    expected: list[Range | None] = []
    for high, active in ((90.0, True), (80.0, True), (80.0, False)):
        store.limits = (Threshold("s", "greater_than", high, None, "critical", active),)
        assert (await mender.mend()).sent == 1
        expected.append(Range(high=high) if active else None)
        assert topic.entries["s"].critical == expected[-1]
        assert await mender.mend() == Mended(0, 0, 0, 0)
    lines = await store.audit(("sensor", "s"))
    assert [(line.actor, line.version) for line in lines] == [
        *(("database", version) for version in (4, 3, 2)),
        ("ann", 1),
    ]


@pytest.mark.live
async def test_a_large_registry_is_compared_quickly(store: Limited) -> None:
    """10,000 sensors that nobody has sent, in parts; when all are there, a look costs the sink little."""
    entries = [
        SensorEntry(
            f"sensor-{number:05}", device=f"device-{number // 10}", critical=Range(high=float(number))
        )
        for number in range(10_000)
    ]
    await save_entries(store, entries)
    topic = MemoryTopic()
    mender = Mender(store, topic.send, topic)
    assert (await mender.mend()).sent == 11_000
    assert (len(topic.entries), len(topic.devices)) == (10_000, 1_000)
    began = monotonic()
    assert await mender.mend() == Mended(0, 0, 0, 0)
    assert in_time(monotonic() - began, 3)


async def test_recommended_actions_follow_the_database(store: Limited) -> None:
    """Those of SQL are sent, wrong ones are not, and one that is gone leaves the topic."""
    topic = MemoryTopic()
    service, mender = Service(store, topic.send), Mender(store, topic.send, topic)
    kept = ActionEntry("*", "stuck", en="Look.")
    await service.edit([PutAction(kept), PutAction(ActionEntry("pump", "level", es="Mire."))], "ann")
    assert set(topic.documents) == {"action/*/stuck", "action/pump/level"}
    insert = "INSERT INTO recommended_actions (kind, cause, language, text) VALUES (?, ?, 'en', 'Look.')"
    with closing(connection(store._path)) as opened:
        opened.execute("DELETE FROM recommended_actions WHERE kind = 'pump'")
        opened.executemany(insert, [("fan", "level"), ("Fan", "level"), ("fan", "weather")])
    mended = await mender.mend()
    assert (mended.sent, mended.removed, mended.refused) == (2, 1, 2)
    assert topic.documents == {
        "action/*/stuck": kept,
        "action/fan/level": ActionEntry("fan", "level", en="Look."),
    }
    assert (await mender.mend()).sent == 0
