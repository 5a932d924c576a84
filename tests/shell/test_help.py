"""Help texts, as a terminal shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from inspect import getsource
from pkgutil import walk_packages
from typing import Any

import pytest
import typer
from rich.text import Text

import streamproc
from streamproc import cli

#: The modules that have groups of commands.
GROUPS = sorted(
    name for _, name, _ in walk_packages(streamproc.__path__, "streamproc.") if name.endswith("commands")
)


def texts(command: Any) -> Iterator[str]:
    """All help of a command, its options and its own commands."""
    yield from (text for text in (command.help, *(getattr(p, "help", None) for p in command.params)) if text)
    for one in getattr(command, "commands", {}).values():
        yield from texts(one)


def group_of(module: str) -> Any:
    """The commands of a module."""
    loaded = import_module(module)
    group = getattr(loaded, "commands", None)
    if group is None:  # a command by itself, of its package's name
        group = typer.Typer()
        group.command()(getattr(loaded, module.split(".")[1]))
    return typer.main.get_command(group)


@pytest.mark.parametrize("module", GROUPS)
def test_lines_end_where_sentences_do(module: str) -> None:
    """After a help text's first paragraph its lines are shown as they are: one that breaks a sentence is a gap in it."""
    found = [text.split("\n\n")[1:] for text in texts(group_of(module))]
    lines = [line for paragraphs in found for one in paragraphs for line in one.strip().splitlines()[:-1]]
    assert [line for line in lines if not line.startswith("streamproc ") and line[-1] not in ".:"] == []


@pytest.mark.parametrize("module", GROUPS)
def test_nothing_of_a_help_text_is_taken_for_markup(module: str) -> None:
    """What stands in brackets would vanish from it: `[now]` reads as the name of a style."""
    found = list(texts(group_of(module)))
    assert len(found) > 1
    assert [text for text in found if Text.from_markup(text).plain != text] == []


def passed_on() -> list[tuple[str, str]]:
    """The commands that hand their arguments on, each with the module that has them."""
    return re.findall(
        r'def (\w+)\(context: typer\.Context\).*?_pass_on\("([\w.]+)"', getsource(cli), re.DOTALL
    )


@pytest.mark.parametrize(("name", "module"), passed_on())
def test_the_list_of_commands_names_what_each_group_has(name: str, module: str) -> None:
    """`registry` had `action`, and `trial` had `numbers` and `reset`, of which `--help` said nothing."""
    told = typer.main.get_group(cli.app).commands[name].help or ""
    found = re.search(r"\((?:and )?([^()]+)\)\.$", told)
    named = {one.split()[0] for one in found[1].split(", ")} if found else set()
    assert named == set(getattr(group_of(module), "commands", {})) - {name}
