"""`streamproc notify …`. Each imports what it needs when it is called, so that `--help` is quick."""

# ruff: noqa: PLC0415  # see above

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from streamproc.cli.loading import loaded
from streamproc.core.counted import counted

commands = typer.Typer()


@commands.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    test: Annotated[
        bool, typer.Option("--test", help="Send a test message on each channel, show the results, and end.")
    ] = False,
) -> None:
    """Notify people of changes of severity, by webhook, e-mail and log (failed, resend: what could not be delivered)."""
    if context.invoked_subcommand is not None:
        return
    from streamproc.cli.serving import serve_to_the_end
    from streamproc.notify.app import run

    settings = loaded()
    if test:
        from streamproc.notify.sample import told, tried

        all_well, lines = told(asyncio.run(tried(settings)))
        print("\n".join(lines))
        if not all_well:
            raise typer.Exit(1)
        return
    serve_to_the_end(lambda stop: run(settings, stop))


@commands.command()
def failed(
    since: Annotated[
        str,
        typer.Option(metavar="TIME", help="Only changes from this time on: 2026-11-22T14:00 (UTC), or 2d."),
    ] = "7d",
) -> None:
    """Show the messages that could not be delivered, by channel and reason."""
    from rich.markup import escape

    from streamproc.notify.again import undelivered
    from streamproc.registry import tables
    from streamproc.registry.spans import moment_text

    found = asyncio.run(undelivered(loaded(), since))
    if not found:
        typer.echo("nothing was given up")
        return
    table = tables.of("channel", "messages", "changes", "from", "to", "why")
    for one in found:
        counts = (str(one.messages), str(one.changes), moment_text(one.oldest), moment_text(one.newest))
        table.add_row(escape(one.channel), *counts, escape(one.reason))
    tables.show(table)


@commands.command()
def resend(
    channel: Annotated[
        str | None, typer.Option(help="Only this channel, by its name in `notify failed`.")
    ] = None,
    since: Annotated[
        str,
        typer.Option(metavar="TIME", help="Only changes from this time on: 2026-11-22T14:00 (UTC), or 2d."),
    ] = "1d",
) -> None:
    """Have `streamproc notify` send again what it gave up, however old it is by now. What has been sent is not sent again.

    streamproc notify resend --channel webhook --since 12h
    """
    from streamproc.notify.again import send_again
    from streamproc.notify.app import channels

    settings = loaded()
    counts = asyncio.run(send_again(settings, channel, since))
    if not counts:
        typer.echo(f"nothing{f' of channel {channel}' if channel else ''} was given up since then")
    named = {each.name for each in channels(settings)}
    for name, count in counts.items():
        typer.echo(f"{name}: {counted(count, 'change')} to be sent again")
        if name not in named:
            typer.echo(
                f"note: no channel is called {name} by these settings: it is sent once one is", err=True
            )
