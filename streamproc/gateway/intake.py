"""From a body to its batch, or why nothing of it is looked at. Pure.

A body without a fault is decoded at once; only where that fails is it looked at item by item (`triage`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from streamproc.core.codec import FAULTS, Packet, Single, nameless, parse_single
from streamproc.gateway import triage
from streamproc.gateway.answers import Fault
from streamproc.gateway.batch import Batch, Limits, Message, Terms, too_many_readings

__all__ = ["Batch", "Limits", "Message", "Terms", "bulk", "packets", "reading"]


class Bulk(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Single readings of any sensors, posted at once; never a record of its own."""

    readings: Annotated[list[Single], Meta(min_length=1)]


_packets = msgspec.json.Decoder(Packet | Annotated[list[Packet], Meta(min_length=1)])
_packet_lines = msgspec.json.Decoder(Packet).decode_lines
_bulk = msgspec.json.Decoder(Bulk | Annotated[list[Single], Meta(min_length=1)])
_single_lines = msgspec.json.Decoder(Single).decode_lines
_BOM = b"\xef\xbb\xbf"


def packets(body: bytes, terms: Terms, *, lines: bool = False) -> Batch | Fault:
    """Understand the body as one packet, an array of packets, or (where `lines`) one packet a line.

    >>> from streamproc.gateway.access import Writer
    >>> packets(b'{"device_uuid": "D", "readings": []}', Terms(Limits(10, 0), 0, Writer())).results[0].rejected[0].field
    'readings'
    """
    body = body.removeprefix(_BOM)
    try:
        parsed = _packet_lines(body) if lines else _packets.decode(body)
    except FAULTS as error:
        if not lines and triage.is_lines(body):
            return packets(body, terms, lines=True)
        return triage.packets(body, terms, None if lines else triage.explained(error, body, _packets.decode))
    if isinstance(parsed, Packet):
        batch = Batch(terms)
        batch.add_packet(parsed)
        return batch
    if fault := triage.count_fault(len(parsed), terms.limits):
        return fault
    batch = Batch(terms, "[{}]")
    for packet in parsed:
        batch.add_packet(packet)
    return batch


def reading(body: bytes, terms: Terms, *, lines: bool = False) -> Batch | Fault:
    """Understand the body as one reading by itself; `lines` makes no difference to one."""
    del lines
    body = body.removeprefix(_BOM)
    if not body.strip():
        return triage.EMPTY
    parsed, batch = parse_single(body), Batch(terms)
    if isinstance(parsed, Single):
        batch.add_single(parsed)
    else:
        batch.refuse(triage.told(parsed))
    return batch


def bulk(body: bytes, terms: Terms, *, lines: bool = False) -> Batch | Fault:
    """Understand the body as readings of any sensors, a record each: an object, an array, or one a line."""
    body = body.removeprefix(_BOM)
    try:
        parsed = _single_lines(body) if lines else _bulk.decode(body)
    except FAULTS as error:
        if not lines and triage.is_lines(body):
            return bulk(body, terms, lines=True)
        return triage.bulk(body, terms, None if lines else triage.explained(error, body, _bulk.decode))
    rows = parsed.readings if isinstance(parsed, Bulk) else parsed
    if not rows:
        return triage.EMPTY
    if len(rows) > terms.limits.readings:
        return too_many_readings(len(rows), terms.limits)
    batch = Batch(terms, "readings[{}]" if isinstance(parsed, Bulk) else "[{}]")
    for row in rows:
        if fault := nameless(row):
            batch.refuse(triage.told(fault))
        else:
            batch.add_single(row)
    return batch
