"""`streamproc policy set|list|remove`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from msgspec.structs import fields, replace
from rich.markup import escape

from streamproc.errors import RegistryError
from streamproc.records import ANY_KIND
from streamproc.records.alerting import PolicyEntry
from streamproc.registry import tables
from streamproc.registry.document_checks import normal, policy_faults
from streamproc.registry.session import edit, known, looking
from streamproc.registry.spans import length_ms, length_text
from streamproc.store.documents import PutDocument, RemoveDocument
from streamproc.store.edits import Outcome

commands = typer.Typer(
    no_args_is_help=True, help="When and how often people are notified, by kind of sensor."
)

Kind = Annotated[
    str, typer.Argument(help="The kind of sensor, as in the registry; * for all kinds without a policy.")
]
Length = str | None
#: What is never is none.
_NEVER = "0"


@commands.command("set")
def set_(  # noqa: PLR0913  # each is an option of the command
    kind: Kind,
    *,
    up_windows: Annotated[
        int | None,
        typer.Option(
            help="Windows in a row that must ask for a higher severity before it goes up; by default 1."
        ),
    ] = None,
    down_windows: Annotated[
        int | None, typer.Option(help="Calm windows in a row before the severity goes down; by default 5.")
    ] = None,
    flapping: Annotated[
        bool | None,
        typer.Option(
            "--flapping/--no-flapping", help="Hold the severity while a sensor flaps; by default yes."
        ),
    ] = None,
    cooldown: Annotated[
        Length, typer.Option(help="After a notification, send only graver ones for so long; 0: off.")
    ] = None,
    remind: Annotated[
        Length,
        typer.Option(help="Repeat the notification of an alarm that lasts, at this interval; 0: never."),
    ] = None,
    escalate: Annotated[
        Length, typer.Option(help="Notify others as well if nobody acknowledges it for so long; 0: never.")
    ] = None,
) -> None:
    """Set the options given, and leave the rest as it is. Lengths of time are 90s, 15m, 2h, 1d. In force within a second.

    streamproc policy set pump --up-windows 3 --down-windows 10

    streamproc policy set "*" --remind 4h --escalate 30m
    """
    given: dict[str, Any] = {
        "up_windows": up_windows,
        "down_windows": down_windows,
        "flapping": flapping,
        "cooldown_seconds": _seconds(cooldown),
        "remind_seconds": _seconds(remind),
        "escalate_seconds": _seconds(escalate),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("say what to set: see --help")
    blank = normal(PolicyEntry(kind))

    async def run() -> list[Outcome]:
        was = await known(blank.key)
        entry = replace(was if isinstance(was, PolicyEntry) else blank, **changes)
        if faults := list(policy_faults(entry)):
            raise RegistryError("\n".join(faults))
        return await edit([PutDocument(entry, was.version if was else 0)])

    (outcome,) = asyncio.run(run())
    assert isinstance(outcome.entry, PolicyEntry)
    typer.echo(f"policy {outcome.name} is set{'' if outcome.changed else ' already'}: {_text(outcome.entry)}")


@commands.command("list")
def list_() -> None:
    """Show the policies; other kinds of sensors have the policy of *, or the defaults."""

    async def run() -> list[PolicyEntry]:
        async with looking() as store:
            found = await store.documents()
        return [entry for entry in found.values() if isinstance(entry, PolicyEntry)]

    found = sorted(asyncio.run(run()), key=lambda entry: entry.kind)
    if all(entry.kind != ANY_KIND for entry in found):
        found.append(PolicyEntry(ANY_KIND))
    names = [field.name for field in fields(PolicyEntry) if field.name != "version"]
    table = tables.of(*(name.removesuffix("_seconds") for name in names))
    for entry in found:
        table.add_row(*(escape(_value(name, getattr(entry, name))) for name in names))
    tables.show(table)


@commands.command()
def remove(kind: Kind) -> None:
    """Remove a kind's policy: its sensors have the policy of *, or the defaults, again."""
    name = normal(PolicyEntry(kind)).kind
    asyncio.run(edit([RemoveDocument("policy", name)]))
    typer.echo(f"policy {name} is removed")


def _seconds(text: Length) -> float | None:
    if text is None or text == _NEVER:
        return None if text is None else 0.0
    return length_ms(text) / 1000


def _text(entry: PolicyEntry) -> str:
    return ", ".join(
        f"{field.name.removesuffix('_seconds')} {_value(field.name, getattr(entry, field.name))}"
        for field in fields(PolicyEntry)
        if field.name not in {"kind", "version"}
    )


def _value(name: str, value: Any) -> str:
    """A field as people read it.

    >>> _value("remind_seconds", 5400.0), _value("flapping", False), _value("kind", "*")
    ('1h30m', 'no', '*')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_seconds"):
        return length_text(round(value * 1000)) if value else "off"
    return str(value)
