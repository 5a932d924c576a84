"""What edits of the registry make, whatever their order: by properties, without a database."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import RegistryError
from streamproc.records import DeviceEntry, DeviceKey, SensorEntry
from streamproc.records.alerting import PolicyEntry, SilenceEntry
from streamproc.store.documents import FORMS, PutDocument, RemoveDocument
from streamproc.store.edits import (
    KEYS,
    AddKey,
    Author,
    Edit,
    Kind,
    Plan,
    PutDevice,
    PutSensor,
    RemoveDevice,
    RemoveSensor,
    RevokeKey,
    Row,
    Standing,
    kind_of,
    told,
)
from streamproc.store.planner import planned

names = st.sampled_from(["a", "b"])
units = st.sampled_from([None, "V", "A"])
versions = st.one_of(st.none(), st.integers(0, 3))
numbers = st.integers(1, 4)


def key(number: int) -> DeviceKey:
    """One of few keys; every other one has ended long ago."""
    return DeviceKey(f"k{number}", f"{number:064x}", number, None if number % 2 else 10)


edits: st.SearchStrategy[Edit] = st.one_of(
    st.builds(
        PutSensor,
        st.builds(SensorEntry, sensor=names, device=st.one_of(st.none(), names), unit=units),
        versions,
    ),
    st.builds(PutDevice, st.builds(DeviceEntry, device=names, name=units, enabled=st.booleans()), versions),
    st.builds(RemoveSensor, names),
    st.builds(RemoveDevice, names, st.none(), st.booleans()),
    st.builds(AddKey, names, st.builds(key, numbers)),
    st.builds(RevokeKey, names, numbers.map(lambda number: f"k{number}")),
    st.builds(PutDocument, st.builds(PolicyEntry, names, numbers), versions),
    st.builds(PutDocument, st.builds(SilenceEntry, names, site=st.sampled_from(["x", "y"])), versions),
    st.builds(RemoveDocument, st.sampled_from(["policy", "silence"]), names, versions),
)


class Tables:
    """What a database would hold, and its audit."""

    def __init__(self) -> None:
        self.standing = Standing()
        self.keys: dict[str, str] = {}
        self.revoked: set[str] = set()
        self.lines: dict[tuple[Kind, str], tuple[int, str | None]] = {}

    def edit(self, edit: Edit, at: int) -> None:
        """Write what the plan says, as a store does."""
        # Versions of what has no row are the audit's to tell, as a store reads them.
        self.standing.audited = {key: version for key, (version, _) in self.lines.items()}
        plan = planned([edit], self.standing, Author("ann", at))
        self._documents(plan)
        for device in plan.new_devices:
            assert device.device not in self.standing.devices
            self.standing.devices[device.device] = Row(device)
        for row in plan.devices:
            self.standing.devices[row.entry.device] = row
        for sensor in plan.new_sensors:
            assert sensor.sensor not in self.standing.sensors
            self.standing.sensors[sensor.sensor] = Row(sensor)
        for changed in plan.sensors:
            self.standing.sensors[changed.entry.sensor] = changed
        for key_id in plan.revoked_keys:
            self.revoked.add(key_id)
            del self.keys[key_id]
        for owner, new in plan.new_keys:
            assert new.key_id not in self.keys
            self.keys[new.key_id] = owner
        for name, row in self.standing.devices.items():
            mine = frozenset(key_id for key_id in self.revoked if key_id not in self.keys)
            self.standing.devices[name] = Row(row.entry, row.registered, mine)
        for change in plan.changes:
            last, was = self.lines.get((change.kind, change.name), (0, None))
            assert change.version == last + 1
            assert told(change.before) == was
            self.lines[change.kind, change.name] = (change.version, told(change.after))

    def _documents(self, plan: Plan) -> None:
        for kind, name in plan.dropped:
            del self.standing.documents[kind][name]
        for document in plan.documents:
            kind, name = kind_of(document.entry)
            self.standing.documents.setdefault(kind, {})[name] = document


@given(st.lists(edits, max_size=30))
def test_the_audit_is_the_whole_story(made: list[Edit]) -> None:
    """Each change raises the version by one, begins where the last has ended, and ends with what stands."""
    tables = Tables()
    for edit in made:
        if isinstance(edit, AddKey) and edit.key.key_id in tables.keys.keys() | tables.revoked:
            continue  # no two keys have the same id
        with suppress(RegistryError):
            tables.edit(edit, at=100)
    standing = tables.standing
    documents = {(kind, name): row for kind, rows in standing.documents.items() for name, row in rows.items()}
    told_of = {key for key in tables.lines if key[0] not in FORMS}
    assert len(standing.sensors) + len(standing.devices) == len(told_of)
    assert {key: (row.entry.version, told(row.entry)) for key, row in documents.items()} == {
        key: line for key, line in tables.lines.items() if key[0] in FORMS and line[1] is not None
    }
    for name, row in standing.sensors.items():
        now = told(row.entry) if row.registered else None
        assert tables.lines["sensor", name] == (row.entry.version, now)
    for name, home in standing.devices.items():
        entry = home.entry
        assert tables.lines["device", name] == (entry.version, told(entry) if home.registered else None)
        assert {each.key_id for each in entry.keys} == {
            k for k, owner in tables.keys.items() if owner == name
        }
        assert sum(each.expires_at is None or each.expires_at > 100 for each in entry.keys) <= KEYS
        assert home.registered or not entry.keys
    for sensor in standing.sensors.values():
        device = sensor.entry.device
        assert device is None or device in standing.devices


@given(st.lists(edits, max_size=10), edits)
def test_what_is_refused_changes_nothing(made: list[Edit], last: Edit) -> None:
    """Not even what was handed in."""
    tables = Tables()
    for edit in made:
        with suppress(RegistryError, AssertionError):
            tables.edit(edit, at=100)
    before = msgspec.json.encode([row.entry for row in tables.standing.sensors.values()])
    with pytest.raises(RegistryError, match="no sensor nobody is registered"):
        planned([last, RemoveSensor("nobody")], tables.standing, Author("ann", 100))
    assert msgspec.json.encode([row.entry for row in tables.standing.sensors.values()]) == before
