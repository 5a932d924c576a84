"""What people see of dead letters. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from streamproc.core.counted import counted
from streamproc.dlq.found import Found, is_left_out, payload
from streamproc.dlq.index import Group, Index, Line
from streamproc.dlq.reasons import reason_of
from streamproc.dlq.resend import Resend

#: Characters of a payload that are shown; `--payload` gives all bytes.
SHOWN = 4_000
#: Characters of a reason in a line of a list.
REASON = 80


def moment(ms: int) -> str:
    """A time as people write it, to the second.

    >>> moment(1_700_000_000_123)
    '2023-11-14T22:13:20Z'
    """
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%S}Z"


def plain(text: str) -> str:
    r"""The text with everything escaped that a terminal might take for a command, except line breaks.

    >>> plain("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text
    )


def listing(index: Index, limit: int, prefix: str) -> list[str]:
    """The counts by stage, class of reasons and topic, then the newest letters."""
    wanted, waiting = index.total()
    lines = [f"{counted(wanted, 'letter')}: {waiting} waiting, {wanted - waiting} redriven"]
    if index.unreadable:
        lines.append(
            f"neither letter nor mark of streamproc: {counted(index.unreadable, 'record')} of the topic"
        )
    if wanted:
        lines += ["", *_groups(index.groups(), prefix)]
    if newest := index.newest(limit):
        lines += ["", f"The newest {len(newest)}:", "", *_letters(newest, prefix), ""]
        lines.append(f"All of one: streamproc dlq show {newest[-1].place}")
    if waiting:
        lines.append(
            "Send again after a fix: streamproc dlq redrive --reason REASON (--dry-run tells what would be sent)"
        )
    return lines


def _groups(groups: Iterable[Group], prefix: str) -> list[str]:
    head = ("STAGE", "REASON", "TOPIC", "LETTERS", "WAITING", "ATTEMPTS", "FIRST", "LAST")
    rows = [
        (
            group.stage,
            group.code,
            group.topic.removeprefix(prefix),
            f"{group.letters}",
            f"{group.waiting}",
            f"{group.attempts}",
            moment(group.first_at),
            moment(group.last_at),
        )
        for group in groups
    ]
    return columns([head, *rows], right={3, 4, 5})


def _letters(lines: Iterable[Line], prefix: str) -> list[str]:
    head = ("ID", "WHEN", "STAGE", "RECORD", "REDRIVEN", "REASON")
    rows = [
        (
            str(line.place),
            moment(line.at),
            line.stage,
            f"{line.topic.removeprefix(prefix)}/{line.partition}/{line.offset}",
            "no" if line.redriven_at is None else moment(line.redriven_at),
            plain(line.reason[:REASON].replace("\n", " ")),
        )
        for line in lines
    ]
    return columns([head, *rows])


def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Rows in columns as wide as their widest cell; those named in `right` are right-aligned, the last is not padded.

    >>> columns([("a", "1"), ("bc", "20")], right={1})
    ['a    1', 'bc  20']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def as_json(index: Index, limit: int) -> bytes:
    """What `listing` shows, for programs."""
    wanted, waiting = index.total()
    letters: list[dict[str, Any]] = [
        {"id": str(line.place)}
        | {key: value for key, value in msgspec.to_builtins(line).items() if key != "place"}
        for line in index.newest(limit)
    ]
    told = {
        "letters": wanted,
        "waiting": waiting,
        "redriven": wanted - waiting,
        "unreadable": index.unreadable,
        "groups": index.groups(),
        "newest": letters,
    }
    return msgspec.json.encode(told)


def whole(found: Found, chain: Sequence[Line], value: bytes | None, prefix: str) -> list[str]:
    """All of one letter; `chain` are all letters of its record, `value` the record's if the letter lacks it."""
    letter, reason = found.letter, reason_of(found.letter)
    mine = next(
        (line for line in chain if (line.attempt, line.stage) == (letter.attempt, letter.stage)), None
    )
    rows = [
        ("letter", f"{found.place}, written by the {letter.stage} at {moment(found.at)}"),
        ("reason", plain(letter.reason)),
        ("class", f"{reason.code}: {reason.meaning}"),
        ("record", f"{letter.topic.removeprefix(prefix)}/{letter.partition} at offset {letter.offset}"),
        ("arrived", _arrived(found)),
        ("redriven", _redriven(mine)),
        *_history(found, chain),
        ("what to do", _advice(mine, chain, found)),
    ]
    return [*columns(rows), "", *_payload(found, value)]


def _arrived(found: Found) -> str:
    partition, offset, timestamp = found.first.split(":")
    when = "" if timestamp in {"?", "-1"} else f", {moment(int(timestamp))}"
    return f"first in partition {partition} at offset {offset}{when}"


def _redriven(mine: Line | None) -> str:
    if mine is None or mine.redriven_at is None:
        return "no"
    return f"at {moment(mine.redriven_at)}, as {mine.sent}"


def _history(found: Found, chain: Sequence[Line]) -> list[tuple[str, str]]:
    letter = found.letter
    rows = []
    if letter.attempt:
        times = "once" if letter.attempt == 1 else f"{letter.attempt} times"
        rows.append(
            ("attempts", f"its record was sent again {times} before; the first letter is {letter.letter}")
        )
    later = [str(line.place) for line in chain if line.attempt > letter.attempt]
    if later:
        rows.append(("refused again", ", ".join(later)))
    return rows


def _advice(mine: Line | None, chain: Sequence[Line], found: Found) -> str:
    if mine is not None and mine.redriven_at is not None:
        later = [line for line in chain if line.attempt > found.letter.attempt]
        if later:
            return f"It was refused again: streamproc dlq show {later[-1].place}"
        return "Nothing: it was sent again, and no new letter has come of it."
    return reason_of(found.letter).advice


def _payload(found: Found, value: bytes | None) -> list[str]:
    letter = found.letter
    held = payload(letter)
    if held is None and value is None:
        if not is_left_out(letter):
            return ["The record had no value."]
        return ["The record was too large for the letter, and is gone from its topic."]
    text = _pretty(held if held is not None else value or b"")
    size = len(held if held is not None else value or b"")
    origin = "" if held is not None else ", read from its topic: it was too large for the letter"
    head = f"payload, {counted(size, 'byte')}{origin}{', not UTF-8' if letter.encoding == 'base64' else ''}:"
    more = (
        [f"… {counted(len(text) - SHOWN, 'character')} more; --payload gives all bytes"]
        if len(text) > SHOWN
        else []
    )
    return [head, *("  " + line for line in text[:SHOWN].split("\n")), *more]


def _pretty(value: bytes) -> str:
    """JSON by lines, other text as it is, other bytes escaped."""
    try:
        return plain(msgspec.json.format(value, indent=2).decode())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return plain(value.decode(errors="backslashreplace"))


def would_send(record: Resend, prefix: str) -> str:
    """One record that a redrive would send."""
    letter = record.found.letter
    return (
        f"{record.found.place} -> {letter.topic.removeprefix(prefix)}/{letter.partition}"
        f"  {counted(len(record.value), 'byte')}, first at {record.first}  {plain(letter.reason[:REASON])}"
    )
