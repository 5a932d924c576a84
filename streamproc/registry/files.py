"""The registry as a file: YAML, JSON or CSV, one entry a sensor."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec.structs import replace

from streamproc.errors import RegistryError
from streamproc.records import Range, SensorEntry

#: As long as the codec lets a sensor's or device's name be.
_NAME_LIMIT = 128
#: What SQL Server's INT holds: the type of `sensors.id` where old producers number sensors by it.
_ID_LIMIT = 2**31 - 1
_TEXTS = ("sensor", "device", "sensor_id", "name", "unit", "kind")
_BOUNDS = ("warning_low", "warning_high", "critical_low", "critical_high")


def import_file(path: Path) -> list[SensorEntry]:
    """The entries of a `.yaml`, `.json` or `.csv` file; raises RegistryError that names every fault.

    YAML and JSON hold a list of entries (or `sensors:` with one) as the topic has them; CSV has the columns
    `sensor`, `device`, `sensor_id`, `name`, `unit`, `kind`, `warning_low`, `warning_high`, `critical_low`,
    `critical_high`.
    """
    try:
        rows = list(_rows(path.suffix.lower(), path.read_text("utf-8")))
    except (OSError, ValueError, yaml.YAMLError, msgspec.MsgspecError, csv.Error) as error:
        raise RegistryError(f"{path}: {error}") from error
    faults: list[str] = []
    entries = []
    for number, row in enumerate(rows, 1):
        try:
            entries.append(_entry(row, strict=path.suffix.lower() != ".csv"))
        except ValueError as error:  # msgspec's ValidationError is one
            faults += [f"entry {number}: {fault}" for fault in str(error).split("\n")]
    faults += _doubles(entries)
    if faults:
        raise RegistryError("\n".join(f"{path}: {fault}" for fault in faults))
    return entries


def _rows(suffix: str, text: str) -> Iterator[Any]:
    if suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text), strict=True)
        unknown = set(reader.fieldnames or ()) - {*_TEXTS, *_BOUNDS}
        if unknown:
            raise ValueError(f"unknown columns: {', '.join(sorted(unknown))}")
        yield from map(_nested, reader)
        return
    if suffix not in {".yaml", ".yml", ".json"}:
        raise ValueError("the name must end in .yaml, .yml, .json or .csv")
    rows = msgspec.json.decode(text) if suffix == ".json" else yaml.safe_load(text)
    if isinstance(rows, dict) and rows.keys() == {"sensors"}:
        rows = rows["sensors"]
    if not isinstance(rows, list):
        raise ValueError("not a list of sensors")  # noqa: TRY004  # a fault of the file, told like others
    yield from rows


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """A CSV row as an entry: empty cells are absent, bounds are in their ranges."""
    if None in row or None in row.values():
        raise ValueError(f"a row has not as many cells as the first: {row}")
    entry: dict[str, Any] = {name: row[name] for name in _TEXTS if row.get(name)}
    for bound in _BOUNDS:
        if row.get(bound):
            level, side = bound.split("_")
            entry.setdefault(level, {})[side] = row[bound]
    return entry


def _entry(row: object, *, strict: bool) -> SensorEntry:
    """One entry, checked; raises ValueError with one fault a line. Numbers may be text where not `strict`."""
    if isinstance(row, dict):  # YAML reads a bare number as one
        row = {key: str(v) if key in {"sensor", "device"} and type(v) is int else v for key, v in row.items()}
    entry = msgspec.convert(row, SensorEntry, strict=strict)
    entry = replace(entry, sensor=entry.sensor.lower(), device=entry.device and entry.device.lower())
    faults = list(_faults(entry))
    if faults:
        raise ValueError("\n".join(faults))
    return entry


def _faults(entry: SensorEntry) -> Iterator[str]:
    for name in ("sensor", "device"):
        text = getattr(entry, name)
        if text is not None and not 1 <= len(text) <= _NAME_LIMIT:
            yield f"{name} must have 1 to {_NAME_LIMIT} characters"
    if entry.sensor_id is not None and not 1 <= entry.sensor_id <= _ID_LIMIT:
        yield f"{entry.sensor}: sensor_id must be 1 to {_ID_LIMIT}"
    for name in ("warning", "critical"):
        bounds = getattr(entry, name) or Range()
        if not all(isfinite(bound) for bound in (bounds.low, bounds.high) if bound is not None):
            yield f"{entry.sensor}: {name} must be finite"
        if bounds.low is not None and bounds.high is not None and bounds.low > bounds.high:
            yield f"{entry.sensor}: {name} has low {bounds.low} above high {bounds.high}"
    warning, critical = entry.warning or Range(), entry.critical or Range()
    if _beyond(critical.low, warning.low) or _beyond(warning.high, critical.high):
        yield f"{entry.sensor}: warning reaches beyond critical, so it would never be told"


def _beyond(inner: float | None, outer: float | None) -> bool:
    return inner is not None and outer is not None and inner > outer


def _doubles(entries: Sequence[SensorEntry]) -> Iterator[str]:
    for name in ("sensor", "sensor_id"):
        counts = Counter(getattr(entry, name) for entry in entries)
        for value, count in counts.items():
            if value is not None and count > 1:
                yield f"{name} {value} is there {count} times"


def export(entries: Sequence[SensorEntry], suffix: str = ".yaml") -> str:
    """The text of a file that `import_file` reads; `version` is left out, for it is counted by the database.

    >>> print(export([SensorEntry("a", warning=Range(high=3.0))]).strip())
    - sensor: a
      warning:
        low: null
        high: 3.0
    """
    rows = [{k: v for k, v in msgspec.to_builtins(entry).items() if k != "version"} for entry in entries]
    if suffix == ".json":
        return msgspec.json.format(msgspec.json.encode(rows)).decode() + "\n"
    if suffix in {".yaml", ".yml"}:
        return yaml.safe_dump(rows, sort_keys=False, allow_unicode=True)
    if suffix != ".csv":
        raise RegistryError("the name must end in .yaml, .yml, .json or .csv")
    text = io.StringIO()
    writer = csv.DictWriter(text, (*_TEXTS, *_BOUNDS), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        flat = {name: row[name] for name in _TEXTS if name in row}
        for bound in _BOUNDS:
            level, side = bound.split("_")
            flat[bound] = row.get(level, {}).get(side)
        writer.writerow(flat)
    return text.getvalue()
