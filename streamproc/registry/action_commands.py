"""`streamproc registry action set|remove|list`."""

from __future__ import annotations

import asyncio
from typing import Annotated, get_args

import typer
from msgspec.structs import replace
from rich.markup import escape

from streamproc import settings
from streamproc.core.phrases import PHRASES
from streamproc.errors import RegistryError
from streamproc.records import ANY_KIND, ActionEntry, Cause, Language
from streamproc.registry import checks, tables
from streamproc.registry.session import edit, looking
from streamproc.store.edits import Outcome, PutAction, RemoveAction, actions, topic_key

commands = typer.Typer(
    no_args_is_help=True,
    help="Recommended actions, by kind of sensor and cause: yours replace streamproc's own.",
)

Kind = Annotated[str, typer.Argument(help="The kind of sensor, as in the registry; * for all kinds.")]
CauseName = Annotated[str, typer.Argument(metavar="CAUSE", help=f"One of {', '.join(get_args(Cause))}.")]
Written = Annotated[Language | None, typer.Option(help="The sentence's language. [STREAMPROC_LANGUAGE]")]


@commands.command("set")
def set_(
    kind: Kind,
    cause: CauseName,
    text: Annotated[str, typer.Argument(help="The sentence that people read.")],
    language: Written = None,
) -> None:
    """Set the action that events of a cause recommend; sentences in the other language stay. In force within a second.

    streamproc registry action set pressure spread "Bleed the line, then look again." --language en
    """
    chosen = language or settings.load().language
    blank = ActionEntry(kind.lower(), cause)
    if faults := list(checks.action_faults(_with(blank, chosen, text))):
        raise RegistryError("\n".join(faults))

    async def run() -> list[Outcome]:
        known = await _known(blank.name)
        entry = _with(known or blank, chosen, text)
        return await edit([PutAction(entry, known.version if known else 0)])

    (outcome,) = asyncio.run(run())
    already = "" if outcome.changed else " already"
    typer.echo(f"action {outcome.name} is set{already} ({chosen})")


@commands.command()
def remove(kind: Kind, cause: CauseName, language: Written = None) -> None:
    """Remove an action, in one language or both: streamproc's own, or that for all kinds, is used again."""
    name = ActionEntry(kind.lower(), cause).name

    async def run() -> list[Outcome]:
        known = await _known(name)
        left = known and language and _with(known, language, None)
        if known and left and (left.en or left.es):
            return await edit([PutAction(left, known.version)])
        return await edit([RemoveAction(name, known.version if known else None)])

    asyncio.run(run())
    typer.echo(f"action {name} is removed{f' ({language})' if language else ''}")


@commands.command("list")
def list_(
    every: Annotated[bool, typer.Option("--all", help="Show streamproc's own sentences as well.")] = False,
) -> None:
    """Show the recommended actions."""

    async def run() -> list[ActionEntry]:
        async with looking() as store:
            return actions(await store.registry())

    table = tables.of("kind", "cause", "language", "text")
    found = asyncio.run(run())
    for entry in found:
        for language in PHRASES:
            if text := getattr(entry, language):
                table.add_row(*map(escape, (entry.kind, entry.cause, language, text)))
    taken = {
        (entry.cause, language)
        for entry in found
        if entry.kind == ANY_KIND
        for language in PHRASES
        if getattr(entry, language)
    }
    for language, words in PHRASES.items() if every else ():
        for cause, text in words.action.items():
            if (cause, language) not in taken:
                table.add_row("", cause, language, escape(text))
    tables.show(table)


def _with(entry: ActionEntry, language: str, text: str | None) -> ActionEntry:
    return replace(entry, en=text) if language == "en" else replace(entry, es=text)


async def _known(name: str) -> ActionEntry | None:
    async with looking() as store:
        found = (await store.registry([topic_key("action", name)])).get(topic_key("action", name))
    return found if isinstance(found, ActionEntry) else None
