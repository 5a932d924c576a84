"""Edits of the registry: what they ask for, the rows that they concern, and what must be written for them.

A store reads those rows (`wanted`) into a `Standing`, has `planner.planned` make a `Plan` of them, and writes that in the
same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, cast, get_args

import msgspec
from msgspec.structs import replace

from streamproc.process import epoch_ms
from streamproc.records import (
    ACTION_PREFIX,
    DEVICE_PREFIX,
    ActionEntry,
    DeviceEntry,
    DeviceKey,
    SensorEntry,
)
from streamproc.store.documents import FORMS, DocumentEntry, DocumentKind, PutDocument, RemoveDocument

Kind = Literal["device", "sensor", "action", DocumentKind]
KINDS: tuple[Kind, ...] = get_args(Kind)
Entry = SensorEntry | DeviceEntry | ActionEntry | DocumentEntry
E = TypeVar("E", SensorEntry, DeviceEntry, ActionEntry, DocumentEntry)

#: Live keys of one device, at most: the one in use, and the one that takes its place.
KEYS = 2
#: Who changes what streamproc has not changed: programs and people with SQL.
DATABASE = "database"
#: In place of the version that an edit expects: whichever there is.
SOME = -1


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes an edit, and when, in ms."""

    actor: str
    at: int


@dataclass(frozen=True, slots=True)
class PutSensor:
    """Have the registry hold this entry; a `device` or `sensor_id` of None leaves what is there, and so does its version.

    `expected` is the version that is to be changed, 0: there is to be none yet, SOME: there is to be one.
    """

    entry: SensorEntry
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class PutDevice:
    """Have the registry hold this entry. Keys that it names are there afterwards, others stay, revoked ones stay revoked."""

    entry: DeviceEntry
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class RemoveSensor:
    """Take a sensor out of the registry; its row and its readings stay."""

    sensor: str
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class RemoveDevice:
    """Take a device out of the registry and revoke its keys; with its sensors, or only if it has none."""

    device: str
    expected: int | None = None
    with_sensors: bool = False


@dataclass(frozen=True, slots=True)
class PutAction:
    """Have the registry hold this recommended action, in the languages that it has."""

    entry: ActionEntry
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class RemoveAction:
    """Take a recommended action, by its `name`, out of the registry: what is told is streamproc's own again."""

    name: str
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class AddKey:
    """Give a device one more key; those that have expired go."""

    device: str
    key: DeviceKey


@dataclass(frozen=True, slots=True)
class RevokeKey:
    """Take a key from a device."""

    device: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that the database has otherwise than the topic (`known`): somebody else may have changed it."""

    entry: Entry
    known: Entry | None


@dataclass(frozen=True, slots=True)
class Gone:
    """An entry of the topic that the database does not have any more, or never had."""

    known: Entry


Edit = (
    PutSensor
    | PutDevice
    | PutAction
    | PutDocument
    | RemoveSensor
    | RemoveDevice
    | RemoveAction
    | RemoveDocument
    | AddKey
    | RevokeKey
    | Found
    | Gone
)


@dataclass(frozen=True, slots=True)
class Row(Generic[E]):
    """A row as it stands; one that is not `registered` has been removed. `revoked` are ids of keys."""

    entry: E
    registered: bool = True
    revoked: frozenset[str] = frozenset()


@dataclass(slots=True)
class Standing:
    """The rows that edits concern. `audited` has the newest version of an entry that the audit tells of."""

    sensors: dict[str, Row[SensorEntry]] = field(default_factory=dict)
    devices: dict[str, Row[DeviceEntry]] = field(default_factory=dict)
    actions: dict[str, Row[ActionEntry]] = field(default_factory=dict)
    documents: dict[Kind, dict[str, Row[DocumentEntry]]] = field(default_factory=dict)
    audited: dict[tuple[Kind, str], int] = field(default_factory=dict)


@dataclass(slots=True)
class Wanted:
    """What edits need to know: sensors by name or number, those of some devices, devices, actions, versions told."""

    sensors: set[str] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)
    homes: set[str] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)
    actions: set[str] = field(default_factory=set)
    documents: set[tuple[Kind, str]] = field(default_factory=set)
    audited: set[tuple[Kind, str]] = field(default_factory=set)

    def add(self, kind: Kind, name: str) -> None:
        """Want one more entry."""
        if kind in FORMS:
            self.documents.add((kind, name))
        else:
            {"sensor": self.sensors, "device": self.devices, "action": self.actions}[kind].add(name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an edit has made of an entry; None: it is not in the registry (any more)."""

    kind: Kind
    name: str
    entry: Entry | None
    changed: bool

    @property
    def key(self) -> str:
        """The entry's key on the topic."""
        return topic_key(self.kind, self.name)


@dataclass(frozen=True, slots=True)
class Change:
    """A line of the audit."""

    action: str
    kind: Kind
    name: str
    version: int
    before: Entry | None
    after: Entry | None


class Audited(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the audit as it is read again; `before` and `after` are entries without keys' hashes."""

    id: int
    at: int
    actor: str
    action: str
    kind: Kind
    name: str
    version: int
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


#: Entries by their key on the topic; None: removed.
Registered = dict[str, Entry | None]


@dataclass(slots=True)
class Plan:
    """What is to be written. New sensors may have no `sensor_id` yet: `number` gives it to them.

    `dropped` are documents that are no more: with thousands of silences in a year their rows would only be in the way.
    """

    new_sensors: list[SensorEntry] = field(default_factory=list)
    sensors: list[Row[SensorEntry]] = field(default_factory=list)
    new_devices: list[DeviceEntry] = field(default_factory=list)
    devices: list[Row[DeviceEntry]] = field(default_factory=list)
    actions: list[Row[ActionEntry]] = field(default_factory=list)
    documents: list[Row[DocumentEntry]] = field(default_factory=list)
    dropped: list[tuple[Kind, str]] = field(default_factory=list)
    new_keys: list[tuple[str, DeviceKey]] = field(default_factory=list)
    revoked_keys: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def number(self, given: dict[str, int]) -> None:
        """Tell the numbers that the database has given to new sensors."""
        if not given:
            return

        def numbered(entry: Any) -> Any:
            if isinstance(entry, SensorEntry) and entry.sensor_id is None and entry.sensor in given:
                return replace(entry, sensor_id=given[entry.sensor])
            return entry

        self.outcomes = [Outcome(o.kind, o.name, numbered(o.entry), o.changed) for o in self.outcomes]
        self.changes = [
            Change(c.action, c.kind, c.name, c.version, c.before, numbered(c.after)) for c in self.changes
        ]


#: What the keys of each kind but the sensors begin with on the topic.
PREFIXES: dict[Kind, str] = {"device": DEVICE_PREFIX, "action": ACTION_PREFIX}
PREFIXES |= {cast("Kind", kind): f"{kind}/" for kind in FORMS}


def topic_key(kind: Kind, name: str) -> str:
    """An entry's key on the topic `registry`.

    >>> topic_key("device", "pump"), topic_key("sensor", "7"), topic_key("action", "*/stuck")
    ('device/pump', '7', 'action/*/stuck')
    """
    return PREFIXES.get(kind, "") + name


def kind_of(entry: Entry) -> tuple[Kind, str]:
    """Which kind of entry it is, and its name."""
    if isinstance(entry, SensorEntry):
        return "sensor", entry.sensor
    return ("device", entry.device) if isinstance(entry, DeviceEntry) else named(entry.key)


def named(key: str) -> tuple[Kind, str]:
    """Which kind of entry has this key on the topic, and its name.

    >>> named("device/pump"), named("7"), named("action/*/stuck")
    (('device', 'pump'), ('sensor', '7'), ('action', '*/stuck'))
    """
    for kind, prefix in PREFIXES.items():
        if key.startswith(prefix):
            return kind, key.removeprefix(prefix)
    return "sensor", key


def wanted(edits: Sequence[Edit]) -> Wanted:
    """What these edits need to know."""
    asked = Wanted()
    for edit in edits:
        match edit:
            case PutSensor(entry):
                asked.sensors.add(entry.sensor)
                asked.numbers |= set() if entry.sensor_id is None else {entry.sensor_id}
                asked.devices |= set() if entry.device is None else {entry.device}
            case RemoveSensor(name):
                asked.sensors.add(name)
            case RemoveDevice(name):
                asked.devices.add(name)
                asked.homes.add(name)
            case PutDevice(entry) | PutAction(entry):
                asked.add(*kind_of(entry))
            case RemoveAction(name):
                asked.actions.add(name)
            case RemoveDocument():
                asked.documents.add((edit.kind, edit.name))
            case AddKey(name) | RevokeKey(name):
                asked.devices.add(name)
            case PutDocument(entry) | Found(entry) | Gone(entry):
                asked.add(*kind_of(entry))
                asked.audited.add(kind_of(entry))
    return asked


def told(entry: Entry | None) -> str | None:
    """An entry as the audit has it: JSON, without keys' hashes.

    >>> told(DeviceEntry("d", keys=(DeviceKey("k", "0f", 1),)))
    '{"device":"d","keys":[{"key_id":"k","created_at":1}]}'
    """
    if entry is None:
        return None
    plain = msgspec.to_builtins(entry)
    for key in plain.get("keys", ()):
        del key["sha256"]
    return msgspec.json.encode(plain).decode()


def registered(standing: Standing) -> Registered:
    """Rows as the topic has them."""
    kinds: tuple[tuple[Kind, Mapping[str, Row[Any]]], ...] = (
        ("device", standing.devices),
        ("action", standing.actions),
        *standing.documents.items(),
        ("sensor", standing.sensors),
    )
    return {
        topic_key(kind, name): row.entry if row.registered else None
        for kind, rows in kinds
        for name, row in rows.items()
    }


def keyed(only: Collection[str]) -> Wanted:
    """The rows that have these keys on the topic."""
    asked = Wanted()
    for kind, name in map(named, only):
        asked.add(kind, name)
    return asked


def sensors_of(outcomes: Sequence[Outcome]) -> list[SensorEntry]:
    """The sensors among what edits have made."""
    return [outcome.entry for outcome in outcomes if isinstance(outcome.entry, SensorEntry)]


def sensors(found: Registered) -> list[SensorEntry]:
    """The sensors that are registered, by name."""
    return sorted(
        (entry for entry in found.values() if isinstance(entry, SensorEntry)), key=lambda entry: entry.sensor
    )


def devices(found: Registered) -> list[DeviceEntry]:
    """The devices that are registered, by name."""
    return sorted(
        (entry for entry in found.values() if isinstance(entry, DeviceEntry)), key=lambda entry: entry.device
    )


def actions(found: Registered) -> list[ActionEntry]:
    """The recommended actions that are registered, by name."""
    return sorted(
        (entry for entry in found.values() if isinstance(entry, ActionEntry)), key=lambda entry: entry.name
    )


def documents(found: Registered) -> list[DocumentEntry]:
    """The documents that are registered, by kind and name."""
    return [entry for _, entry in sorted(found.items()) if isinstance(entry, DocumentEntry)]


def by_streamproc() -> Author:
    """Streamproc's own programs, now."""
    return Author("streamproc", epoch_ms())
