"""What the pages name is there: the tests of delivery promises, the files and headings of links, each part of the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from pkgutil import iter_modules

import pytest

import streamproc

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docker").glob("*.md")])
_named = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_link = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


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


def headings(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    """To a file of the project, and a heading that it has."""
    lost = []
    for path, heading in _link.findall(page.read_text()):
        target = page.parent / path if path else page
        if not target.exists() or (heading and heading not in headings(target)):
            lost.append((path, heading))
    assert lost == []


def test_each_part_is_on_the_map_and_in_a_layer() -> None:
    """A package that the layers leave out may import what it likes; one that the map leaves out is found by chance."""
    parts = {part.name for part in iter_modules(streamproc.__path__)} - {"__main__"}
    assert streamproc.__doc__
    assert set(re.findall(r"^    (\w+) ", streamproc.__doc__, re.MULTILINE)) == parts
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [layer.replace("streamproc.", "") for layer in contracts[0]["layers"]]
    assert {part for layer in layers for part in layer.split(" | ")} == parts
    assert f"    {' > '.join(layers)}\n" in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_readme_leads_to_each_page() -> None:
    """From its last section, with what is on the page."""
    section = (ROOT / "README.md").read_text().split("\n## More\n", 1)[1]
    listed = {path for path, _ in _link.findall(section)}
    assert {str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")} <= listed
