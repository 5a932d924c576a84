"""What a replay found, for people and for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from streamproc.errors import ReplayError, why
from streamproc.store.comparison import TABLES

#: Differences told on the terminal; `--output` has all.
SHOWN = 10
_KINDS = ("compared", "missing", "different", "extra")
_DONE = {
    "written": "written",
    "withdrawn": "taken back",
    "unwritten": "refused by the database",
}

Counts = Mapping[str, Mapping[str, int]]


def differ(counts: Counts) -> int:
    """How many rows differ."""
    return sum(of.get(kind, 0) for of in counts.values() for kind in _KINDS[1:])


def refused(counts: Counts) -> int:
    """How many rows are missing since the database refused them: they are in `dead-letter`."""
    return sum(of.get("refused", 0) for of in counts.values())


def left(counts: Counts) -> int:
    """How many rows still differ after they were written over."""
    done = sum(of.get(kind, 0) for of in counts.values() for kind in ("written", "withdrawn"))
    return max(differ(counts) - done, 0)


def summary(counts: Counts) -> Iterator[str]:
    """The counts by table, as lines of text."""
    yield f"{'table':<14}" + "".join(f"{kind:>12}" for kind in _KINDS)
    for table in TABLES:
        of = counts.get(table, {})
        yield f"{table:<14}" + "".join(f"{of.get(kind, 0):>12,}" for kind in _KINDS)
    for table in TABLES:
        for kind, text in _DONE.items():
            if count := counts.get(table, {}).get(kind):
                yield f"{table}: {count:,} {text}"
        if count := counts.get(table, {}).get("refused"):
            yield f"{table}: {count:,} refused by the database, in dead-letter; see streamproc dlq list --stage sink"
        if count := counts.get(table, {}).get("unregistered"):
            yield f"{table}: {count:,} of sensors that are not registered; the sink sends such rows to dead-letter"


def line(difference: Mapping[str, Any]) -> str:
    """One difference as a line of text."""
    columns, row = difference["columns"], difference["row"]
    if columns:
        told = ", ".join(
            f"{name} is {json.dumps(a)}, replay {json.dumps(b)}" for name, (a, b) in columns.items()
        )
    else:
        told = ", ".join(
            f"{name}={value}" for name, value in row.items() if isinstance(value, (str, float, int))
        )
    return f"{difference['kind']:<10}{difference['table']:<14}{difference['sensor']}  {told}{_from(difference['lineage'])}"


def _from(lineage: Mapping[str, Any]) -> str:
    if "first_offset" not in lineage:
        return ""
    first, last = lineage["first_offset"], lineage["last_offset"]
    records = f"{lineage['partition']}/{first}" + (f"..{last}" if last != first else "")
    rule = f", rule {lineage['rule']}" if lineage.get("rule") else ""
    letter = f", letter {lineage['letter']}" if lineage.get("letter") else ""
    return f"  (records {records}{rule}{letter})"


def shown(differences: Iterable[bytes], count: int) -> Iterator[str]:
    """The first few differences, and how many more there are."""
    for number, value in enumerate(differences):
        if number == SHOWN:
            break
        yield line(msgspec.json.decode(value))
    if count > SHOWN:
        yield f"… and {count - SHOWN:,} more; --output FILE writes them all"


def write(path: Path, differences: Iterable[bytes]) -> None:
    """Write the differences as JSON lines; the file is there as a whole or not at all."""
    draft = path.with_name(path.name + ".part")
    try:
        with draft.open("wb") as file:
            for value in differences:
                file.write(value + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise ReplayError(f"{path}: {why(error)}") from error
