"""The table of delivery promises names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_named = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_each_promise_names_tests_that_there_are() -> None:
    """A promise without a test, or with one that was renamed, is none."""
    text = (ROOT / "docs" / "design.md").read_text()
    section = text.split("## Delivery promises\n", 1)[1].split("\n## ", 1)[0]
    promises = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(promises) > 10
    for promise in promises:
        tests = _named.findall(promise)
        assert tests, promise
        for path, name in tests:
            assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), name
