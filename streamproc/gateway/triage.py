"""A body with faults, item by item and reading by reading: what is right is taken, the rest is refused with reasons. Pure.

The work is bounded: each byte is decoded a few times at most, and after `FAULTS_TOLD` faults the rest are only counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw

from streamproc.core.codec import (
    FAULTS,
    Item,
    Name,
    Packet,
    Rejected,
    Single,
    Stamp,
    explain,
    nameless,
)
from streamproc.gateway.answers import Fault
from streamproc.gateway.batch import (
    FAULTS_TOLD,
    Batch,
    Faults,
    Limits,
    Terms,
    of_reading,
    too_many_faults,
    too_many_readings,
)

T = TypeVar("T")
#: Items of a body, undecoded.
Rows = Sequence[bytes | Raw]

EMPTY = Fault("malformed", "the body is empty")
#: Longer than any text that the codec makes of names that are known; a client's own can be of any length.
_TEXT = 200


class LoosePacket(msgspec.Struct, forbid_unknown_fields=True):
    """A packet whose readings are not looked at yet."""

    device_uuid: Name
    readings: Annotated[list[Raw], Meta(min_length=1)]
    ts: Stamp | None = None
    packet_id: Name | None = None


class LooseBulk(msgspec.Struct, forbid_unknown_fields=True):
    """A bulk whose readings are not looked at yet."""

    readings: Annotated[list[Raw], Meta(min_length=1)]


_array = msgspec.json.Decoder(list[Raw]).decode
_loose_bulk = msgspec.json.Decoder(LooseBulk).decode
_loose = msgspec.json.Decoder(LoosePacket).decode
_packet = msgspec.json.Decoder(Packet).decode
_item = msgspec.json.Decoder(Item).decode
_single = msgspec.json.Decoder(Single).decode
_any = msgspec.json.Decoder(Raw).decode
#: All up to, and then, what some languages write where JSON has no number. Strings are passed over whole. It matches
#: wherever it is tried, so a hostile body costs no more than its length: 25 ms a megabyte.
_token = re.compile(
    rb'((?:[^"ni]++|"(?:[^"\\]++|\\.)*+"?)*+)((?:nan|inf(?:inity)?)\b|[ni]|\Z)', re.IGNORECASE | re.DOTALL
)
#: Such a word where a field's value stands, or a body: as it was sent, or in its mark.
_word = rb'\s*(?:\[")?([+-]?(?:nan|inf(?:inity)?))\b'
#: Such words outside strings, and others (`null`, say) that are passed over: ten for each reading of a packet. A text with
#: more is left as it is.
_WORDS = 100_000


def told(fault: Rejected) -> Fault:
    """Make a fault to tell of what the codec found."""
    return Fault(fault.kind, fault.reason[:_TEXT], fault.field and fault.field[:_TEXT])


def explained(error: Exception, text: bytes | Raw, decode: Callable[[bytes], Any]) -> Fault:
    """Tell what a decoder found wrong with a body, or a part of one; a mark stands for what was sent."""
    body = bytes(text)
    if not body.strip():
        return EMPTY
    fault = told(explain(error, body, decode))
    if "trailing characters" in fault.reason:
        reason = (
            f"{fault.reason}; several packets go into an array, or one on each line (curl: --data-binary)"
        )
        return Fault("malformed", reason)
    if "got `array`" in fault.reason and (word := _word_at(body, fault.field)):
        return Fault(fault.kind, f"{word} is not a number", fault.field)
    return fault


def _word_at(body: bytes, field: str | None) -> str | None:
    """The word that stands in a field, or is the body, where a number would."""
    if field is None:
        found = re.match(_word, body, re.IGNORECASE)
    else:
        name = re.escape(field.rpartition(".")[2].encode())
        found = re.search(rb'"%s"\s*:%s' % (name, _word), body, re.IGNORECASE)
    return found and found.group(1).decode()


def count_fault(count: int, limits: Limits) -> Fault | None:
    """Refuse a body of no packets, or of more than may come at once."""
    if count == 0:
        return EMPTY
    if count > limits.packets:
        reason = f"{count} packets; {limits.packets} may come at once"
        return Fault("too-many-packets", reason, limit="packets_limit")
    return None


def is_lines(body: bytes) -> bool:
    """Whether a body that says it is JSON is lines of it: its first line is a whole object, and more follows."""
    first, _, more = body.lstrip().partition(b"\n")
    return first.startswith(b"{") and bool(more.strip()) and _is_json(_mend(first))


def packets(body: bytes, terms: Terms, fault: Fault | None) -> Batch | Fault:
    """Take what is right of packets one of which has a fault; `fault` is the body's, None of one that is lines."""
    if fault is not None and body.lstrip().startswith(b"{"):
        batch = Batch(terms)
        _add_packet(batch, body)
        return batch
    items = _lines(body) if fault is None else _rows(body, fault)
    if isinstance(items, Fault):
        return items
    if too_many := count_fault(len(items), terms.limits):
        return too_many
    batch = Batch(terms, "[{}]")
    for item in items:
        _add_packet(batch, item)
    return batch


def bulk(body: bytes, terms: Terms, fault: Fault | None) -> Batch | Fault:
    """Take what is right of readings by themselves one of which has a fault; `fault` as in `packets`."""
    path = "[{}]"
    if fault is not None and body.lstrip().startswith(b"{"):
        path = "readings[{}]"
        try:
            items: Rows | Fault = _mended(_loose_bulk, body).readings
        except FAULTS:
            return fault
    else:
        items = _lines(body) if fault is None else _rows(body, fault)
    if isinstance(items, Fault):
        return items
    if len(items) > terms.limits.readings:
        return too_many_readings(len(items), terms.limits)
    batch = Batch(terms, path)
    for item in items:
        try:
            row = _single(item)
        except FAULTS as error:
            told_yet = batch.faults < FAULTS_TOLD
            batch.refuse(explained(error, item, _single) if told_yet else too_many_faults())
            continue
        if nothing := nameless(row):
            batch.refuse(told(nothing))
        else:
            batch.add_single(row)
    return batch if items else EMPTY


def _lines(body: bytes) -> Rows:
    return [line for line in body.split(b"\n") if line.strip()]


def _rows(body: bytes, fault: Fault) -> Rows | Fault:
    """The items of an array; where it is none, what the decoder found, or that it is not even JSON."""
    try:
        return _mended(_array, body) or fault
    except FAULTS as error:
        found = explained(error, body, _array)
        return found if found.kind == "malformed" else fault


def _is_json(text: bytes) -> bool:
    try:
        _any(text)
    except FAULTS:
        return False
    return True


def _mended(decode: Callable[[bytes], T], text: bytes) -> T:
    """Decode the text, with marks in it where it is no JSON otherwise; raises what the decoder does."""
    try:
        return decode(text)
    except msgspec.ValidationError:
        raise
    except FAULTS:
        mended = _mend(text)
        if mended is text:
            raise
        return decode(mended)


def _mend(text: bytes) -> bytes:
    """Put marks in the place of what is no JSON but often sent as a number: so all else can still be told apart."""
    small = text.lower()
    if b"nan" not in small and b"inf" not in small:
        return text
    parts: list[bytes] = []
    marked = False
    for words, found in enumerate(_token.finditer(text)):
        before, token = found.groups()
        if len(token) > 1:
            marked = True
            sign = before[-1:] if before[-1:] in {b"+", b"-"} else b""
            parts += [before.removesuffix(sign), b'["', sign, token, b'"]']
        else:
            parts += [before, token]
        if words > _WORDS:
            return text
    return b"".join(parts) if marked else text


def _add_packet(batch: Batch, text: bytes | Raw) -> None:
    try:
        packet = _packet(text)
    except FAULTS:
        _add_loose(batch, text)
    else:
        batch.add_packet(packet)


def _add_loose(batch: Batch, text: bytes | Raw) -> None:
    """Take those readings of a packet that are right."""
    try:
        loose = _mended(_loose, bytes(text))
    except FAULTS as error:
        batch.refuse(explained(error, text, _loose))
        return
    if len(loose.readings) > batch.terms.limits.readings:
        batch.refuse(too_many_readings(len(loose.readings), batch.terms.limits), len(loose.readings))
        return
    readings: dict[int, Item] = {}
    faults: Faults = {}
    for place, part in enumerate(loose.readings):
        try:
            readings[place] = _item(part)
        except FAULTS as error:
            if not batch.tells(len(faults)):
                faults[place] = None
                continue
            fault = explained(error, part, _item)
            faults[place] = of_reading(fault, place, fault.field)
    batch.add_packet(Packet(loose.device_uuid, [], loose.ts, loose.packet_id), readings, faults)
