"""Whether streamproc has a command that a file names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from streamproc.cli import PASS_ON, app


def stages() -> set[str]:
    """The commands of the first level."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return set(group.commands)


@cache
def fault(words: tuple[str, ...]) -> str:
    """Why streamproc would refuse these arguments; empty where it would not."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    command = group.commands.get(words[0])
    if command is None:
        return f"no command {words[0]}"
    if command.context_settings == PASS_ON:
        return _refused(words)
    try:
        command.make_context(words[0], list(words[1:]))
    except TyperException as error:
        return str(error) or type(error).__name__
    return ""


def _refused(words: Sequence[str]) -> str:
    """Commands that are defined elsewhere are asked for the help of just these arguments."""
    result = subprocess.run(
        [sys.executable, "-m", "streamproc", *words, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # The program's own name before it depends on how it was started.
    told = f"streamproc {' '.join(words)} " in result.stdout
    return "" if result.returncode == 0 and told else result.stderr or result.stdout
