"""SQL Server's migrations as text: their batches, what each of them makes, and how a T-SQL grammar reads them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from sqlfluff.core import FluffConfig, Linter
from sqlfluff.core.parser import BaseSegment

from streamproc.store.sqlserver import migrations

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "sql" / "sqlserver").glob("*.sql"))

_COMMENT = re.compile(r"--[^\n]*")
_LITERAL = re.compile(r"N?'((?:[^']|'')*)'")
_WORD = re.compile(r"[@#]?[A-Za-z_]\w*")
#: What a text of a program has, capitals and all, that is a statement of T-SQL or a part of one.
_STATEMENT = re.compile(
    r"\b(?:SELECT|INSERT|UPDATE|DELETE|EXEC|FROM|JOIN|WHERE|AND|ORDER BY|OPENJSON|COLLATE|CASE)\b|dbo\."
)


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
    """The tree of a batch, and what the grammar finds no sense in."""
    result = _linter().parse_string(text)
    return result.tree, [str(violation) for violation in result.violations]


def _name(text: str) -> str:
    return text.replace("[", "").replace("]", "").removeprefix("dbo.").lower()


def tables(*, added: bool = True) -> dict[str, dict[str, str]]:
    """The columns of each table as it is created, and those `added` later, with the text of each definition."""
    found: dict[str, dict[str, str]] = {}
    for statement in _crawl("CREATE TABLE"):
        table = _name(next(statement.recursive_crawl("table_reference")).raw)
        found[table] = dict(_columns(statement))
    for table, column, text in additions() if added else ():
        found[table].setdefault(column, text)
    return found


def additions() -> list[tuple[str, str, str]]:
    """Each column that is added to a table that may be there: table, column, definition."""
    found = []
    for statement in _crawl("ALTER TABLE"):
        table = _name(next(statement.recursive_crawl("table_reference")).raw)
        found += [(table, column, text) for column, text in _columns(statement)]
    return found


def _columns(statement: BaseSegment) -> Iterator[tuple[str, str]]:
    kinds = ("column_definition", "computed_column_definition")
    for column in statement.recursive_crawl(*kinds, recurse_into=False):
        text = " ".join(_COMMENT.sub("", column.raw).split())
        name, _, definition = text.partition(" ")
        yield _name(name), definition


def _crawl(words: str) -> Iterator[BaseSegment]:
    """The statements that begin with these words; only batches that have them are parsed, which takes its time."""
    for script in SCRIPTS:
        for batch in batches(script.read_text("utf-8")):
            if words in batch:
                tree, _ = parsed(batch)
                assert tree is not None
                yield from tree.recursive_crawl(f"{words.lower().replace(' ', '_')}_statement")


def programs() -> Iterator[tuple[str, str]]:
    """The T-SQL in the programs: the place of each text, and the text; a part that is put in is a blank."""
    for path in sorted((ROOT / "streamproc").rglob("*.py")):
        source = path.read_text("utf-8")
        if path.parent.name == "sqlserver" or "dbo." in source:
            for line, text in _texts(ast.parse(source)):
                if _STATEMENT.search(text):
                    yield f"{path.name}:{line}", text


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The texts of a module but what is said of it."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, " ".join(str(p.value) for p in node.values if isinstance(p, ast.Constant))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said | parts:
            yield node.lineno, node.value


def words(text: str) -> tuple[set[str], set[str]]:
    """The words of T-SQL, and those within its literals; `[_]` is how a pattern has an underscore."""
    plain = _COMMENT.sub("", text)
    inside = " ".join(literal[1] for literal in _LITERAL.finditer(plain)).replace("[_]", "_")
    return set(_WORD.findall(_LITERAL.sub(" ", plain))), set(_WORD.findall(inside))
