"""`streamproc dlq list|show|redrive`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Annotated, Literal

import typer

from streamproc import settings
from streamproc.core.counted import counted
from streamproc.dlq import redrive as sending
from streamproc.dlq import view
from streamproc.dlq.found import Filter, Found, Place, is_left_out, parse_places, payload
from streamproc.dlq.index import Index
from streamproc.dlq.reader import reading
from streamproc.dlq.reasons import CODES
from streamproc.dlq.redrive import Result, Source, letter_at
from streamproc.dlq.resend import Resend
from streamproc.errors import DeadLetterError
from streamproc.process import epoch_ms
from streamproc.registry.spans import moment_or_ago
from streamproc.settings import Settings

commands = typer.Typer(
    no_args_is_help=True,
    help="Records that could not be read or stored: see why, and send them again after a fix.",
)

#: Records that `--dry-run` names.
DRY_LINES = 20

Reason = Annotated[
    str | None,
    typer.Option(help=f"Any part of the reason's text, or one of its classes: {', '.join(CODES)}."),
]
Stage = Annotated[Literal["engine", "sink"] | None, typer.Option(help="Who refused the record.")]
Topic = Annotated[str | None, typer.Option(help="The topic that the record is on.")]
Since = Annotated[
    str | None,
    typer.Option(help="Letters written from this time on: ISO 8601, epoch seconds, or 15m, 2h, 7d ago."),
]
Until = Annotated[str | None, typer.Option(help="Letters written before this time.")]
Sensor = Annotated[
    str | None, typer.Option(help="Letters whose record names this sensor, if it can be read that far.")
]
Limit = Annotated[int, typer.Option(min=0, max=100_000, help="How many of the newest letters to list.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]


@commands.command("list")
def list_(  # noqa: PLR0913  # a command's options are its arguments
    *,
    reason: Reason = None,
    stage: Stage = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    sensor: Sensor = None,
    limit: Limit = 10,
    as_json: Json = False,
) -> None:
    """Count the letters by stage, reason and topic, and list the newest."""
    chosen = settings.load()
    wanted = Filter(reason, stage, topic, _moment(since), _moment(until), sensor, prefix=chosen.topic_prefix)
    with closing(Index(wanted)) as index:
        asyncio.run(_scan(chosen, index))
        if as_json:
            typer.echo(view.as_json(index, limit).decode())
        else:
            _tell(view.listing(index, limit, chosen.topic_prefix))


@commands.command()
def show(
    letter: Annotated[str, typer.Argument(help="The letter's PARTITION:OFFSET, as `list` shows it.")],
    raw: Annotated[
        bool,
        typer.Option("--payload", help="Write the record's bytes, and nothing else, to standard output."),
    ] = False,
) -> None:
    """Show a whole letter: the record, the reason, where it came from, whether it was sent again, and what to do."""
    chosen = settings.load()
    asyncio.run(_show(chosen, letter, raw=raw))


@commands.command()
def redrive(  # noqa: PLR0913  # a command's options are its arguments
    *,
    letters: Annotated[list[str] | None, typer.Argument(help="PARTITION:OFFSET of single letters.")] = None,
    reason: Reason = None,
    stage: Stage = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    sensor: Sensor = None,
    all_: Annotated[bool, typer.Option("--all", help="All letters that were not sent again yet.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Send the records of letters again, each once, to the topic and partition that they were refused in.

    streamproc dlq redrive --reason unknown-sensor --dry-run

    A record sent again keeps the identity of its first arrival: what is stored already makes no second row.
    One that is refused again becomes a new letter. Exit code 1 if a letter's record could not be sent.
    """
    chosen = settings.load()
    wanted = Filter(
        reason,
        stage,
        topic,
        _moment(since),
        _moment(until),
        sensor,
        _places(letters or []),
        chosen.topic_prefix,
    )
    if wanted == Filter(prefix=chosen.topic_prefix) and not all_:
        raise DeadLetterError("name letters, give a filter such as --reason, or say --all")
    with closing(Index(wanted)) as index:
        result = _redrive(chosen, index, wanted, dry_run=dry_run, yes=yes)
    for place, why in result.examples:
        typer.echo(f"not sent: {place}: {why}", err=True)
    if result.left:
        typer.echo(f"{counted(result.left, 'letter')} cannot be sent again", err=True)
        raise typer.Exit(1)


def _redrive(chosen: Settings, index: Index, wanted: Filter, *, dry_run: bool, yes: bool) -> Result:
    """Look, ask and send."""
    ends = asyncio.run(_scan(chosen, index, wanted))
    total, waiting = index.total()
    if total > waiting:
        typer.echo(f"{counted(total - waiting, 'letter')} left out: sent again before")
    if not waiting:
        typer.echo("no letter waits to be sent again")
        return Result()
    for group in index.groups(waiting_only=True):
        topic = group.topic.removeprefix(chosen.topic_prefix)
        typer.echo(f"{group.letters} to {topic}: {group.code}, refused by the {group.stage}")
    if dry_run:
        result = asyncio.run(_rehearse(chosen, index))
        typer.echo(f"would send {result.sent} of {counted(waiting, 'letter')}; nothing was sent")
        return result
    if not yes:
        typer.confirm(f"send {counted(waiting, 'letter')} again?", abort=True)
    result = asyncio.run(_send(chosen, index, ends))
    typer.echo(f"{result.sent} sent again; what is refused again comes as a new letter")
    return result


async def _scan(chosen: Settings, index: Index, wanted: Filter | None = None) -> dict[int, int]:
    """Take the whole topic into the index; raises DeadLetterError for a letter asked for that is not there."""
    async with _source(chosen) as source:
        ends = await source.scan(index)
        for place in sorted(wanted.places) if wanted else ():
            await letter_at(source, place)
    return ends


async def _rehearse(chosen: Settings, index: Index) -> Result:
    shown = 0

    def show(record: Resend) -> None:
        nonlocal shown
        shown += 1
        if shown <= DRY_LINES:
            typer.echo("  " + view.would_send(record, chosen.topic_prefix))
        elif shown == DRY_LINES + 1:
            typer.echo("  …")

    async with _source(chosen) as source:
        return await sending.rehearse(source, index, show)


async def _send(chosen: Settings, index: Index, ends: dict[int, int]) -> Result:
    _, waiting = index.total()

    def progress(done: int) -> None:
        if waiting > sending.BATCH and sys.stderr.isatty():
            typer.echo(f"\r{done} of {waiting}", err=True, nl=done >= waiting)

    async with _source(chosen) as source, sending.producing(chosen.kafka) as producer:
        await source.catch_up(index, ends)
        return await sending.redrive(source, index, producer, progress=progress)


async def _show(chosen: Settings, text: str, *, raw: bool) -> None:
    (place,) = _places([text])
    async with _source(chosen) as source:
        found = await letter_at(source, place)
        value = await _original(source, found)
        if raw:
            held = payload(found.letter)
            held = value if held is None else held
            if held is None:
                raise DeadLetterError(f"letter {place} has no payload, and its record none or is gone")
            sys.stdout.buffer.write(held)
            return
        with closing(Index(Filter(places=frozenset({place})))) as index:
            await source.scan(index)
            _tell(view.whole(found, index.chain(found), value, chosen.topic_prefix))


async def _original(source: Source, found: Found) -> bytes | None:
    """The record's value where the letter does not repeat it and the topic still has it."""
    letter = found.letter
    if not is_left_out(letter) or letter.topic not in await source.originals.topics():
        return None
    record = await source.originals.one(letter.topic, letter.partition, letter.offset)
    value: bytes | None = record.value if record else None
    return value


@asynccontextmanager
async def _source(chosen: Settings) -> AsyncIterator[Source]:
    async with AsyncExitStack() as stack:
        letters = await stack.enter_async_context(reading(chosen.kafka))
        originals = await stack.enter_async_context(reading(chosen.kafka))
        yield Source(letters, originals, chosen.topic("dead-letter"), chosen.topic_prefix)


def _moment(text: str | None) -> int | None:
    """Milliseconds of a time that somebody has typed; raises RegistryError."""
    return None if text is None else moment_or_ago(text, epoch_ms())


def _places(texts: list[str]) -> frozenset[Place]:
    try:
        return parse_places(texts)
    except ValueError as error:
        raise DeadLetterError(str(error)) from error


def _tell(lines: list[str]) -> None:
    for line in lines:
        typer.echo(line)
