"""Classes of reasons, each with what can be done about it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamproc.records import DeadLetter


@dataclass(frozen=True, slots=True)
class Reason:
    """A class of reasons: its code, the texts that belong to it, what it means and what to do."""

    code: str
    pattern: str
    meaning: str
    advice: str
    stages: tuple[str, ...] = ("engine", "sink")


#: The first that fits is a letter's class; the patterns are of texts that `core/codec.py`, msgspec, `sink/` and the
#: databases write.
REASONS = (
    Reason(
        "no-value",
        r"^the record has no value",
        "The record had no value at all.",
        "There is nothing to send again. Look for a producer that writes tombstones (null values) to this topic.",
    ),
    Reason(
        "unknown-sensor",
        r"unknown sensor",
        "No sensor of this name is registered, and STREAMPROC_AUTO_REGISTER is off.",
        "Register the sensor (streamproc registry import), then redrive.",
        ("sink",),
    ),
    Reason(
        "version",
        r"version \d+ is not known here",
        "The record is of a version that the sink does not read.",
        "Update the sink to the version that the worker has, then redrive.",
        ("sink",),
    ),
    Reason(
        "constraint",
        r"constraint|conflicted|duplicate key",
        "A rule of the database (a constraint or trigger) refuses the row.",
        "Change the rule or the row that it is about, then redrive.",
        ("sink",),
    ),
    Reason(
        "early",
        r"ts is \d+ ms ahead of its record",
        "The reading's time was further in the future than STREAMPROC_ALLOWED_SKEW_MS allows.",
        "If the time is right (the broker's clock was behind) or has come by now, redrive. If the device's clock was"
        " ahead, leave it: the reading would be stored under a wrong time. If devices may be so far ahead, raise"
        " STREAMPROC_ALLOWED_SKEW_MS of worker and sink, then redrive.",
        ("engine",),
    ),
    Reason(
        "foreign",
        r"sensor \S+ is registered to device \S+, not to ",
        "A packet named a sensor that the registry gives to another device.",
        "If the sensor has moved, register it with its new device (streamproc registry import), then redrive. Else leave it,"
        " and find out who writes in the other device's name.",
        ("engine",),
    ),
    Reason(
        "malformed",
        r"malformed|truncated|not valid UTF-8|is not a number|recursion|trailing characters",
        "The record's value is not JSON.",
        "No redrive can mend it. Mend the producer and have it send the reading again; `dlq show ID --payload` gives"
        " you the bytes.",
    ),
    Reason(
        "invalid",
        "",
        "The record's value is JSON, but not what belongs on this topic.",
        "If a newer version of streamproc takes it, update and redrive. Else mend the producer and have it send the"
        " reading again; `dlq show ID --payload` gives you the bytes.",
        ("engine",),
    ),
    Reason(
        "invalid",
        r"Expected |required field|unknown field|not of one length|is not between",
        "The record's value is JSON, but not what belongs on this topic.",
        "Find out who writes it: only the worker should. If worker and sink are of different versions, update, then redrive.",
        ("sink",),
    ),
    Reason(
        "refused",
        "",
        "The database refuses the row.",
        "The reason has the database's own words. Mend what they name, then redrive.",
    ),
)

#: All codes, as `--reason` takes them.
CODES = tuple(dict.fromkeys(reason.code for reason in REASONS))


def reason_of(letter: DeadLetter) -> Reason:
    """The class of a letter's reason.

    >>> reason_of(DeadLetter("sink", "2 rows: unknown sensor a", "readings", 0, 7, "{}")).code
    'unknown-sensor'
    """
    return next(
        known
        for known in REASONS
        if letter.stage in known.stages and re.search(known.pattern, letter.reason) is not None
    )
