"""Plans what a database must write for edits of the registry. Pure: the store reads before, and writes afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from streamproc.core.counted import counted
from streamproc.errors import RegistryError, StaleEntry, UnknownEntry
from streamproc.records import DeviceEntry, DeviceKey, SensorEntry
from streamproc.store.documents import PutDocument, RemoveDocument
from streamproc.store.edits import (
    KEYS,
    SOME,
    AddKey,
    Author,
    Change,
    E,
    Edit,
    Entry,
    Found,
    Gone,
    Kind,
    Outcome,
    Plan,
    PutAction,
    PutDevice,
    PutSensor,
    RemoveAction,
    RemoveDevice,
    RemoveSensor,
    RevokeKey,
    Row,
    Standing,
    kind_of,
)

#: Names told in an error.
_TOLD = 5


def planned(edits: Sequence[Edit], standing: Standing, by: Author) -> Plan:
    """What has to be written; raises RegistryError with all faults, as StaleEntry or UnknownEntry if all are such."""
    planner = _Planner(standing, by)
    faults: list[RegistryError] = []
    for edit in edits:
        try:
            planner.take(edit)
        except RegistryError as fault:
            faults.append(fault)
    if faults:
        kinds = {type(fault) for fault in faults}
        kind = kinds.pop() if len(kinds) == 1 else RegistryError
        raise kind("\n".join(map(str, faults)))
    return planner.plan()


class _Planner:
    """The rows as the edits so far make them."""

    def __init__(self, standing: Standing, by: Author) -> None:
        self._before, self._by = standing, by
        self._sensors = dict(standing.sensors)
        self._devices = dict(standing.devices)
        self._actions = dict(standing.actions)
        self._dropped: set[tuple[Kind, str]] = set()
        self._documents = {kind: dict(rows) for kind, rows in standing.documents.items()}
        self._numbers = {row.entry.sensor_id: name for name, row in standing.sensors.items()}
        self._plan = Plan()

    def take(self, edit: Edit) -> None:
        """Take one more edit in; raises RegistryError."""
        match edit:
            case PutSensor():
                self._put_sensor(edit)
            case PutDevice():
                self._put_device(edit)
            case RemoveDevice():
                self._remove_device(edit)
            case PutAction() | PutDocument():
                self._put_whole(edit)
            case RemoveSensor() | RemoveAction() | RemoveDocument():
                self._remove_one(edit)
            case AddKey():
                self._add_key(edit)
            case RevokeKey():
                self._revoke_key(edit)
            case Found():
                self._found(edit)
            case Gone():
                self._gone(edit)

    def plan(self) -> Plan:
        """All that is to be written."""
        for name, row in self._devices.items():
            before = self._before.devices.get(name)
            if before is None:
                self._plan.new_devices.append(row.entry)
            elif row != before:
                self._plan.devices.append(row)
            self._plan_keys(name, before)
        for name, sensor in self._sensors.items():
            if name not in self._before.sensors:
                self._plan.new_sensors.append(sensor.entry)
            elif sensor != self._before.sensors[name]:
                self._plan.sensors.append(sensor)
        self._plan.actions = [
            row for name, row in self._actions.items() if row != self._before.actions.get(name)
        ]
        self._plan.documents = [
            row
            for kind, rows in self._documents.items()
            for name, row in rows.items()
            if row != self._before.documents.get(kind, {}).get(name) and (kind, name) not in self._dropped
        ]
        self._plan.dropped = sorted(self._dropped)
        return self._plan

    def _plan_keys(self, name: str, before: Row[DeviceEntry] | None) -> None:
        had = {key.key_id for key in before.entry.keys} if before else set()
        has = {key.key_id for key in self._devices[name].entry.keys}
        self._plan.new_keys += [
            (name, key) for key in self._devices[name].entry.keys if key.key_id not in had
        ]
        self._plan.revoked_keys += sorted(had - has)

    def _put_sensor(self, edit: PutSensor) -> None:
        entry, row = edit.entry, self._sensors.get(edit.entry.sensor)
        _expect("sensor", entry.sensor, row, edit.expected)
        self._check_number(entry, row)
        if entry.device is not None:
            self._home(entry)
        if row is None:
            self._set("create", "sensor", Row(replace(entry, version=1)))
            return
        kept = replace(
            entry,
            device=entry.device or row.entry.device,
            sensor_id=row.entry.sensor_id,
            version=row.entry.version,
        )
        self._make("sensor", row, kept)

    def _check_number(self, entry: SensorEntry, row: Row[SensorEntry] | None) -> None:
        """A number is one sensor's, and for ever: its readings refer to it."""
        if entry.sensor_id is None:
            return
        owner = self._numbers.setdefault(entry.sensor_id, entry.sensor)
        if owner != entry.sensor:
            raise RegistryError(f"{entry.sensor}: sensor_id {entry.sensor_id} is that of {owner}")
        if row is not None and row.entry.sensor_id not in (None, entry.sensor_id):
            raise RegistryError(
                f"{entry.sensor}: sensor_id is {row.entry.sensor_id}, and stays so: its readings refer to it"
            )

    def _home(self, entry: SensorEntry) -> None:
        """A sensor's device is registered with it, unless somebody has removed it."""
        row = self._devices.get(entry.device or "")
        if row is None and entry.device:
            self._set("create", "device", Row(DeviceEntry(entry.device)))
        elif row is not None and not row.registered:
            raise RegistryError(
                f"{entry.sensor}: its device {entry.device} was removed; register that again first:"
                f" `streamproc device add {entry.device}`"
            )

    def _put_device(self, edit: PutDevice) -> None:
        entry, row = edit.entry, self._devices.get(edit.entry.device)
        _expect("device", entry.device, row, edit.expected)
        revoked = row.revoked if row else frozenset[str]()
        keys = {key.key_id: key for key in (row.entry.keys if row else ())}
        for key in entry.keys:
            if key.key_id not in revoked:
                keys.setdefault(key.key_id, key)
        self._check_keys(entry.device, tuple(keys.values()))
        ordered = tuple(sorted(keys.values(), key=lambda key: (key.created_at, key.key_id)))
        if row is None:
            self._set("create", "device", Row(replace(entry, keys=ordered, version=1)))
            return
        self._make("device", row, replace(entry, keys=ordered, version=row.entry.version))

    def _put_whole(self, edit: PutAction | PutDocument) -> None:
        """Nothing of it stays where it is left out. One that was dropped goes on in its versions."""
        entry: Any = edit.entry
        kind, name = kind_of(entry)
        row: Row[Any] | None = self._rows(kind).get(name)
        _expect(kind, name, row, edit.expected)
        self._dropped.discard((kind, name))
        if row is None:
            audited = self._before.audited.get((kind, name), 0)
            self._set("restore" if audited else "create", kind, Row(replace(entry, version=audited + 1)))
            return
        self._make(kind, row, replace(entry, version=row.entry.version))

    def _check_keys(self, device: str, keys: Sequence[DeviceKey]) -> None:
        live = [key for key in keys if key.expires_at is None or key.expires_at > self._by.at]
        if len(live) > KEYS:
            ids = ", ".join(key.key_id for key in live[:KEYS])
            raise RegistryError(
                f"device {device} has {KEYS} live keys already ({ids}): revoke the one that is no longer in use"
                f" first, `streamproc device key revoke {device} {live[0].key_id}`"
            )

    def _make(self, kind: Kind, row: Row[Any], entry: Any) -> None:
        """Have a row hold this entry; a change raises its version, and so does its coming back."""
        if row.registered and entry == row.entry:
            self._tell(kind, row.entry, changed=False)
            return
        action = "change" if row.registered else "restore"
        self._set(action, kind, Row(replace(entry, version=row.entry.version + 1), revoked=row.revoked))

    def _remove_one(self, edit: RemoveSensor | RemoveAction | RemoveDocument) -> None:
        """Nothing else depends on it."""
        kind: Kind
        match edit:
            case RemoveSensor(name):
                kind = "sensor"
            case RemoveAction(name):
                kind = "action"
            case RemoveDocument(kind, name):
                pass
        row: Row[Any] = _there(kind, self._rows(kind), name, edit.expected)
        self._remove(row, kind)
        if isinstance(edit, RemoveDocument):
            self._dropped.add((kind, name))

    def _remove_device(self, edit: RemoveDevice) -> None:
        row = _there("device", self._devices, edit.device, edit.expected)
        theirs = [
            sensor
            for sensor in self._sensors.values()
            if sensor.registered and sensor.entry.device == edit.device
        ]
        if theirs and not edit.with_sensors:
            names = ", ".join(sorted(sensor.entry.sensor for sensor in theirs)[:_TOLD])
            raise RegistryError(
                f"device {edit.device} has {counted(len(theirs), 'sensor')} ({names}{', …' if len(theirs) > _TOLD else ''}):"
                " remove them with it (--with-sensors), or give them to another device first"
            )
        for sensor in theirs:
            self._remove(sensor, "sensor")
        self._remove(row, "device")

    def _remove(self, row: Row[Any], kind: Kind) -> None:
        gone = replace(row.entry, version=row.entry.version + 1)
        if kind == "device":
            gone = replace(gone, keys=())
        self._set("remove", kind, Row(gone, registered=False, revoked=row.revoked))

    def _add_key(self, edit: AddKey) -> None:
        row = _there("device", self._devices, edit.device)
        live = [key for key in row.entry.keys if key.expires_at is None or key.expires_at > self._by.at]
        self._check_keys(edit.device, [*live, edit.key])
        entry = replace(row.entry, keys=(*live, edit.key), version=row.entry.version + 1)
        self._set("key-new", "device", Row(entry, revoked=row.revoked))

    def _revoke_key(self, edit: RevokeKey) -> None:
        row = _there("device", self._devices, edit.device)
        left = tuple(key for key in row.entry.keys if key.key_id != edit.key_id)
        if left == row.entry.keys:
            if edit.key_id not in row.revoked:
                raise UnknownEntry(f"device {edit.device} has no key {edit.key_id}")
            self._tell("device", row.entry, changed=False)
            return
        entry = replace(row.entry, keys=left, version=row.entry.version + 1)
        self._set("key-revoke", "device", Row(entry, revoked=row.revoked | {edit.key_id}))

    def _found(self, edit: Found) -> None:
        """Raise the version of what somebody else has changed; where the row is another by now, it will be found again."""
        kind, name = kind_of(edit.entry)
        row: Row[Any] | None = self._rows(kind).get(name)
        if row is None or not row.registered or row.entry != edit.entry:
            return
        audited = self._before.audited.get((kind, name), 0)
        if audited >= row.entry.version and (edit.known is None or edit.known.version < row.entry.version):
            # Streamproc's own edit, which has not reached the topic.
            self._tell(kind, row.entry, changed=False)
            return
        least = 0 if edit.known is None else edit.known.version + 1
        entry = replace(row.entry, version=max(row.entry.version, least))
        action = "change" if edit.known or audited else "create"
        self._set(
            action,
            kind,
            replace_row(row, entry),
            Change(action, kind, name, entry.version, edit.known, entry),
        )

    def _gone(self, edit: Gone) -> None:
        """What was never in this database is not taken off the topic: it may be the wrong database."""
        kind, name = kind_of(edit.known)
        row: Row[Any] | None = self._rows(kind).get(name)
        audited = self._before.audited.get((kind, name), 0)
        if row is None:
            if audited > edit.known.version:  # it was dropped, and the topic has not been told
                self._plan.outcomes.append(Outcome(kind, name, None, changed=False))
            elif audited:
                self._note(Change("remove", kind, name, edit.known.version + 1, edit.known, None))
                self._plan.outcomes.append(Outcome(kind, name, None, changed=True))
            return
        if row.registered:
            return
        if audited >= row.entry.version > edit.known.version:
            self._plan.outcomes.append(Outcome(kind, name, None, changed=False))
            return
        entry = replace(row.entry, version=max(row.entry.version, edit.known.version + 1))
        gone = Change("remove", kind, name, entry.version, edit.known, None)
        self._set("remove", kind, replace_row(row, entry), gone)

    def _rows(self, kind: Kind) -> dict[str, Any]:
        rows: dict[Kind, dict[str, Any]] = {
            "sensor": self._sensors,
            "device": self._devices,
            "action": self._actions,
        }
        return rows[kind] if kind in rows else self._documents.setdefault(kind, {})

    def _set(self, action: str, kind: Kind, row: Row[Any], change: Change | None = None) -> None:
        """Have this row, and tell of it in the audit."""
        name = kind_of(row.entry)[1]
        before = self._rows(kind).get(name)
        self._rows(kind)[name] = row
        was = before.entry if before is not None and before.registered else None
        after = row.entry if row.registered else None
        self._note(change or Change(action, kind, name, row.entry.version, was, after))
        self._plan.outcomes.append(Outcome(kind, name, after, changed=True))

    def _note(self, change: Change) -> None:
        self._plan.changes.append(change)

    def _tell(self, kind: Kind, entry: Entry, *, changed: bool) -> None:
        self._plan.outcomes.append(Outcome(kind, kind_of(entry)[1], entry, changed))


def replace_row(row: Row[E], entry: E) -> Row[E]:
    """The row with another entry."""
    return Row(entry, row.registered, row.revoked)


def _there(kind: Kind, rows: dict[str, Row[E]], name: str, expected: int | None = None) -> Row[E]:
    row = rows.get(name)
    if row is None or not row.registered:
        raise UnknownEntry(f"no {kind} {name} is registered")
    _expect(kind, name, row, expected)
    return row


def _expect(kind: Kind, name: str, row: Row[Any] | None, expected: int | None) -> None:
    """Raise StaleEntry where the entry is not of the version that is to be changed."""
    has = row.entry.version if row is not None and row.registered else 0
    if expected is None or has == expected or (has and expected == SOME):
        return
    if expected == SOME:
        raise StaleEntry(f"{kind} {name} is not registered, so there is nothing to change")
    what = f"has version {has}" if has else "is not registered"
    raise StaleEntry(f"{kind} {name} {what} by now, not {expected}: read it again, then change it")
