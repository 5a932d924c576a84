"""Tables that commands print: names and ids are never cut off, since people and programs copy them."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

#: Wider than any row: where no terminal shows the table, each row is a line.
WIDE = 100_000


def of(*heads: str) -> Table:
    """An empty table with these heads; what is too long for the terminal goes on in the next line.

    >>> of("sensor", "event").columns[1].overflow
    'fold'
    """
    made = Table(box=None, pad_edge=False)
    for head in heads:
        made.add_column(head, overflow="fold")
    return made


def show(made: Table) -> None:
    """Print the table, as wide as the terminal; elsewhere as wide as it is."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(made)
