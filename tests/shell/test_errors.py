"""What errors say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from streamproc.errors import StreamprocError
from streamproc.registry import files
from streamproc.replay import report
from streamproc.replay.journal import Journal
from streamproc.store.schema import SqliteSchema
from streamproc.store.sqlite.store import SqliteStore
from streamproc.topics import spec


@pytest.mark.parametrize(
    "use",
    [
        files.read,
        spec.load,
        lambda path: report.write(path, []),
        Journal,
        lambda path: asyncio.run(SqliteSchema(path).migrate()),
        lambda path: asyncio.run(SqliteStore(path).open()),
    ],
    ids=["registry", "topics", "report", "journal", "schema", "store"],
)
def test_a_file_is_named_once(tmp_path: Path, use: Callable[[Path], object]) -> None:
    """By who wanted it; the system's own words name it again, and their number."""
    (tmp_path / "file").touch()
    with pytest.raises(StreamprocError) as error:
        use(tmp_path / "file" / "folder" / "below.json")
    told = str(error.value)
    assert (told.count(str(tmp_path)), "Errno" in told) == (1, False)
    assert "Not a directory" in told
