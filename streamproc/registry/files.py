"""The registry as a file: YAML or JSON with all kinds of entries, or CSV with sensors alone."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml
from msgspec.structs import replace

from streamproc.errors import RegistryError, why
from streamproc.records import ActionEntry, DeviceEntry, SensorEntry
from streamproc.registry import checks, plain_json, plain_yaml
from streamproc.registry.document_checks import document_faults, normal
from streamproc.store.documents import FORMS, AlertingEntry, DocumentEntry, name_field
from streamproc.store.edits import Entry, kind_of

_TEXTS = ("sensor", "device", "sensor_id", "name", "unit", "kind", "site", "tenant")
_BOUNDS = tuple(
    f"{level}_{bound}"
    for level in ("warning", "critical")
    for bound in ("low", "high", "clear_low", "clear_high")
)
#: Rules are a list in one cell: JSON.
_COLUMNS = (*_TEXTS, *_BOUNDS, "rules")
#: What the lists of documents are called, and the kind of each.
_DOCUMENTS = {
    "policies": "policy",
    "silences": "silence",
    "handlings": "handling",
    "trials": "trial",
    "learners": "learners",
}
_LISTS = ("devices", "sensors", "actions", *_DOCUMENTS)
_SUFFIXES = "the name must end in .yaml, .yml, .json or .csv"


class Contents(NamedTuple):
    """What a file holds."""

    devices: list[DeviceEntry]
    sensors: list[SensorEntry]
    actions: list[ActionEntry]
    documents: list[AlertingEntry]


def read(path: Path) -> Contents:
    """What a `.yaml`, `.json` or `.csv` file holds; raises RegistryError that names every fault.

    YAML and JSON hold lists of entries as the topic has them, such as `devices:` and `sensors:`, or a list of sensors
    alone. CSV has a sensor a row; its columns are those of `export`.
    """
    suffix = path.suffix.lower()
    try:
        # Spreadsheets and PowerShell begin a file with a mark; ends of lines within a cell are the cell's.
        parts = _parts(suffix, path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, msgspec.MsgspecError, csv.Error, RecursionError) as error:
        raise RegistryError(f"{path}: {why(error)}") from error
    found, faults = Contents([], [], [], []), list[str]()
    for kind, rows in parts.items():
        for number, row in enumerate(rows, 1):
            try:
                if kind == "devices":
                    found.devices.append(_device(row))
                elif kind == "actions":
                    found.actions.append(_action(row))
                elif kind in _DOCUMENTS:
                    found.documents.append(_document(_DOCUMENTS[kind], row))
                else:
                    found.sensors.append(_sensor(row, strict=suffix != ".csv"))
            except ValueError as error:  # msgspec's ValidationError is one
                told = f"{'entry' if kind == 'sensors' else _DOCUMENTS.get(kind) or kind.removesuffix('s')} {number}"
                faults += [f"{told}: {fault}" for fault in str(error).split("\n")]
    faults += _doubles(found)
    if faults:
        raise RegistryError("\n".join(f"{path}: {fault}" for fault in faults))
    return found


def import_file(path: Path) -> list[SensorEntry]:
    """The sensors of a file; raises RegistryError as `read` does."""
    return read(path).sensors


def _parts(suffix: str, text: str) -> dict[str, list[Any]]:
    if suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        _check_columns(reader.fieldnames or ())
        return {"sensors": list(map(_nested, reader))}
    if suffix not in {".yaml", ".yml", ".json"}:
        raise ValueError(_SUFFIXES)
    parts = plain_json.load(text) if suffix == ".json" else plain_yaml.load(text, _TEXTS_OF_ENTRIES)
    if isinstance(parts, list):
        parts = {"sensors": parts}
    if not isinstance(parts, dict) or not parts or parts.keys() - set(_LISTS):
        raise ValueError(f"not a list of sensors, nor lists of {', '.join(f'`{name}:`' for name in _LISTS)}")
    for name, rows in parts.items():
        if not isinstance(rows, list):
            raise ValueError(f"`{name}:` is not a list")  # noqa: TRY004  # a fault of the file, told like others
    return parts


def _check_columns(names: Sequence[str]) -> None:
    if unknown := sorted(set(names) - set(_COLUMNS)):
        hint = "; separate cells by commas" if any(";" in name or "\t" in name for name in unknown) else ""
        raise ValueError(f"unknown columns: {', '.join(unknown)}{hint}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"columns that are there twice: {', '.join(twice)}")


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """A CSV row as an entry: empty cells are absent, bounds are in their ranges."""
    if None in row or None in row.values():
        raise ValueError(f"a row has not as many cells as the first: {row}")
    entry: dict[str, Any] = {name: row[name] for name in _TEXTS if row.get(name)}
    for bound in _BOUNDS:
        if row.get(bound):
            level, _, side = bound.partition("_")
            entry.setdefault(level, {})[side] = row[bound]
    if row.get("rules"):
        entry["rules"] = plain_json.load(row["rules"])
    return entry


def _sensor(row: object, *, strict: bool) -> SensorEntry:
    """One entry, checked; raises ValueError with one fault a line. Numbers may be text where not `strict`."""
    entry = checks.normal(msgspec.convert(_named(row), SensorEntry, strict=strict))
    _check(checks.sensor_faults(entry))
    return entry


def _device(row: object) -> DeviceEntry:
    entry = msgspec.convert(_named(row), DeviceEntry)
    entry = replace(entry, device=entry.device.lower())
    _check(checks.device_faults(entry))
    return entry


def _action(row: object) -> ActionEntry:
    entry = msgspec.convert(row, ActionEntry)
    entry = replace(entry, kind=entry.kind.lower())
    _check(checks.action_faults(entry))
    return entry


def _document(kind: str, row: object) -> AlertingEntry:
    entry: AlertingEntry = normal(msgspec.convert(_named(row), FORMS[kind]))
    _check(document_faults(entry))
    return entry


#: Names, which JSON may have as numbers where they look like some.
_NAMES = {"sensor", "device", *map(name_field, FORMS)}
#: What is text in every kind of entry: in YAML it is what is written, though it looks like a number.
_TEXTS_OF_ENTRIES = _NAMES | {"name", "unit", "kind", "site", "tenant"}


def _named(row: object) -> object:
    """A bare number as a name is taken as one."""
    if not isinstance(row, dict):
        return row
    return {key: str(v) if key in _NAMES and type(v) is int else v for key, v in row.items()}


def _check(faults: Iterator[str]) -> None:
    if told := "\n".join(faults):
        raise ValueError(told)


def _doubles(found: Contents) -> Iterator[str]:
    named: list[tuple[str, Sequence[object]]] = [
        ("device", [entry.device for entry in found.devices]),
        ("key", [key.key_id for entry in found.devices for key in entry.keys]),
        ("sensor", [entry.sensor for entry in found.sensors]),
        ("action", [entry.name for entry in found.actions]),
        ("sensor_id", [entry.sensor_id for entry in found.sensors]),
        *((kind, _names_of(found.documents, kind)) for kind in FORMS),
    ]
    for name, values in named:
        for value, count in Counter(values).items():
            if value is not None and count > 1:
                yield f"{name} {value} is there {count} times"


def _names_of(entries: Sequence[AlertingEntry], kind: str) -> list[str]:
    return [name for of, name in map(kind_of, entries) if of == kind]


def export(
    sensors: Sequence[SensorEntry],
    suffix: str = ".yaml",
    devices: Sequence[DeviceEntry] = (),
    actions: Sequence[ActionEntry] = (),
    documents: Sequence[DocumentEntry] = (),
) -> str:
    """The text of a file that `read` reads; versions are left out, for the database counts them. CSV has no devices.

    >>> print(export([SensorEntry("a", unit="V")], devices=[DeviceEntry("d")]).strip())
    devices:
    - device: d
    sensors:
    - sensor: a
      unit: V
    """
    kinds: list[tuple[str, Sequence[Entry]]] = [("devices", devices), ("sensors", sensors)]
    kinds += [("actions", actions)] if actions else []
    kinds += [
        (name, theirs)
        for name, kind in _DOCUMENTS.items()
        if (theirs := [entry for entry in documents if isinstance(entry, FORMS[kind])])
    ]
    parts = {name: [_plain(entry) for entry in rows] for name, rows in kinds}
    if suffix == ".json":
        return msgspec.json.format(msgspec.json.encode(parts)).decode() + "\n"
    if suffix in {".yaml", ".yml"}:
        return plain_yaml.dump(parts)
    if suffix != ".csv":
        raise RegistryError(_SUFFIXES)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS)  # RFC 4180's ends of lines: so a cell's own are put in quotes
    writer.writeheader()
    for row in parts["sensors"]:
        flat = {name: row[name] for name in _TEXTS if name in row}
        for bound in _BOUNDS:
            level, _, side = bound.partition("_")
            flat[bound] = row.get(level, {}).get(side)
        if row.get("rules"):
            flat["rules"] = msgspec.json.encode(row["rules"]).decode()
        writer.writerow(flat)
    return text.getvalue()


def _plain(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in msgspec.to_builtins(entry).items() if name != "version"}
