"""The gateway's answers, as types: the documents that clients read, and how a batch becomes one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from streamproc.gateway.rounds import Ack


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a body, a packet or a reading is not taken; `kind` is one of `problems.KINDS`.

    `field` is a JSON path and `index` a reading's place, both within the packet. `limit` names the limit that was hit,
    `retry_after` the seconds after which it may be tried again.
    """

    kind: str
    reason: str
    field: str | None = None
    index: int | None = None
    limit: str | None = None
    retry_after: int | None = None


class Result(msgspec.Struct, omit_defaults=True):
    """What became of one item of a body: a packet, or a reading where these come by themselves.

    `accepted` counts readings; those of the packet that `rejected` does not name are at `partition` and `offset`. A fault
    without an `index` is one of the whole item. `untold` counts readings that are rejected as well, and not listed: beyond
    1,000 faults of a body none is.
    """

    index: int
    status: Literal["accepted", "partial", "rejected"]
    accepted: int
    partition: int | None = None
    offset: int | None = None
    rejected: list[Fault] = []
    untold: int = 0


class Span(msgspec.Struct):
    """The records of one answer in one partition."""

    partition: int
    records: int
    first_offset: int
    last_offset: int


class Taken(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The answer 202 (all) or 207 (some): what Kafka has acknowledged, and a result for each item of the body.

    `accepted` and `rejected` count readings; what could not be understood counts as one. One record has `partition` and
    `offset`, several have `partitions`. An offset of -1: Kafka had the record already.
    """

    accepted: int
    rejected: int
    topic: str
    partition: int | None = None
    offset: int | None = None
    partitions: list[Span] | None = None
    results: list[Result]


class Error(msgspec.Struct, omit_defaults=True):
    """One thing that is wrong, in the form of RFC 9457's example; `pointer` is a JSON pointer into the body."""

    kind: str
    detail: str
    pointer: str | None = None


class Checked(msgspec.Struct):
    """One check of `/ready`."""

    name: str
    ok: bool
    detail: str


class ProblemDetails(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Every refusal (RFC 9457): `type` is `urn:streamproc:problem:<kind>`.

    `field` is the JSON path at fault, `limit` the limit that was hit (a setting's name), `allowed` its value,
    `retry_after` the seconds after which to try again. Where items were looked at, none was taken: `results` tells of each.
    """

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    limit: str | None = None
    allowed: int | None = None
    retry_after: int | None = None
    accepted: int | None = None
    rejected: int | None = None
    errors: list[Error] | None = None
    results: list[Result] | None = None
    checks: list[Checked] | None = None


def place(results: Sequence[Result], acks: Sequence[Ack | None], fault: Fault | None) -> int:
    """Write into each result that has a record where it is; one without an acknowledgement gets the fault.

    Returns how many readings are accepted no more.
    """
    lost = 0
    taken = (result for result in results if result.accepted)
    for result, ack in zip(taken, acks, strict=True):
        if ack is not None:
            result.partition, result.offset = ack
            continue
        assert fault is not None
        lost += result.accepted
        result.status, result.accepted, result.rejected = "rejected", 0, [*result.rejected, fault]
    return lost


def taken(
    results: list[Result], acks: Sequence[Ack | None], topic: str, readings: tuple[int, int]
) -> tuple[int, bytes]:
    """Make status and body of the answer that tells what was taken; `readings` are the accepted and rejected ones."""
    accepted, rejected = readings
    places = [ack for ack in acks if ack is not None]
    answer = Taken(accepted=accepted, rejected=rejected, topic=topic, results=results)
    if len(acks) == 1:
        answer.partition, answer.offset = places[0]
    else:
        answer.partitions = list(_spans(places))
    return 207 if rejected else 202, _encode(answer)


def _spans(acks: Sequence[Ack]) -> Iterator[Span]:
    places: dict[int, list[int]] = {}
    for ack in acks:
        places.setdefault(ack.partition, []).append(ack.offset)
    for partition, offsets in sorted(places.items()):
        yield Span(partition, len(offsets), min(offsets), max(offsets))


_encode = msgspec.json.Encoder().encode
