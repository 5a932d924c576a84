"""SQL Server's migrations as text: their batches, what each of them makes, and how a T-SQL grammar reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from sqlfluff.core import FluffConfig, Linter
from sqlfluff.core.parser import BaseSegment

from streamproc.store.sqlserver import migrations

SCRIPTS = sorted((Path(__file__).parents[2] / "sql" / "sqlserver").glob("*.sql"))

_COMMENT = re.compile(r"--[^\n]*")


def batches(text: str) -> list[str]:
    """What a script sends at once, in order."""
    return [batch.text for batch in migrations.batches(text)]


def statements(text: str) -> list[str]:
    """The batches without comments, each on one line; no script has two dashes or two blanks in a literal."""
    return [" ".join(_COMMENT.sub("", batch).split()) for batch in batches(text)]


@cache
def _linter() -> Linter:
    return Linter(config=FluffConfig(overrides={"dialect": "tsql"}))


@cache
def parsed(text: str) -> tuple[BaseSegment | None, list[str]]:
    """The tree of a text, and what the grammar finds no sense in."""
    result = _linter().parse_string(text)
    return result.tree, [str(violation) for violation in result.violations]


def _name(text: str) -> str:
    return text.replace("[", "").replace("]", "").removeprefix("dbo.").lower()


def tables(*, added: bool = True) -> dict[str, dict[str, str]]:
    """The columns of each table as it is created, and those `added` later, with the text of each definition."""
    found: dict[str, dict[str, str]] = {}
    for statement in _crawl("create_table_statement"):
        table = _name(next(statement.recursive_crawl("table_reference")).raw)
        found[table] = dict(_columns(statement))
    for table, column, text in additions() if added else ():
        found[table].setdefault(column, text)
    return found


def additions() -> list[tuple[str, str, str]]:
    """Each column that is added to a table that may be there: table, column, definition."""
    found = []
    for statement in _crawl("alter_table_statement"):
        table = _name(next(statement.recursive_crawl("table_reference")).raw)
        found += [(table, column, text) for column, text in _columns(statement)]
    return found


def _columns(statement: BaseSegment) -> Iterator[tuple[str, str]]:
    kinds = ("column_definition", "computed_column_definition")
    for column in statement.recursive_crawl(*kinds, recurse_into=False):
        text = " ".join(_COMMENT.sub("", column.raw).split())
        name, _, definition = text.partition(" ")
        yield _name(name), definition


def _crawl(kind: str) -> Iterator[BaseSegment]:
    for script in SCRIPTS:
        tree, _ = parsed(script.read_text("utf-8"))
        assert tree is not None
        yield from tree.recursive_crawl(kind)
