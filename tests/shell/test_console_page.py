"""The console's page: whole, in each language, nothing from elsewhere, and no text ever taken for markup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from streamproc.console import page as module
from streamproc.console.page import FILES, POLICY, page
from streamproc.console.page.words import WORDS
from streamproc.settings import Settings
from tests.shell.test_console import served

FOLDER = Path(module.__file__).parent
SCRIPTS = "".join(path.read_text("utf-8") for path in sorted(FOLDER.glob("*.js")))
#: What has no end tag.
VOID = {"meta", "link", "input"}
NODE = shutil.which("node")


class Reader(HTMLParser):
    """Reads the page: its elements, in order and closed, and what they say."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """It is the last that was opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Take what people read."""
        if self.open and self.open[-1] not in {"script", "html", "head", "body"} and data.strip():
            self.texts.append(data.strip())

    def all(self, name: str) -> Iterator[str]:
        """The values of an attribute."""
        return (value for _, attributes in self.elements if (value := attributes.get(name)) is not None)


def read(language: str = "en") -> Reader:
    """The page in a language."""
    reader = Reader()
    reader.feed(page(WORDS[language], language, needs_token=False))
    assert reader.open == []
    return reader


def test_each_language_has_all_words() -> None:
    """Every language of the settings has the same, each with the same places for values."""
    languages = Settings.model_fields["language"].annotation
    assert set(WORDS) == set(getattr(languages, "__args__"))  # noqa: B009  # the type knows of no arguments
    for words in WORDS.values():
        assert {key: text.count("{}") for key, text in words.items()} == {
            key: text.count("{}") for key, text in WORDS["en"].items()
        }


def test_counts_are_of_one_as_well() -> None:
    """No plural stands behind a number that may be 1."""
    assert not [
        text for words in WORDS.values() for text in words.values() if re.search(r"\{\} \w+s\b", text)
    ]


def test_every_word_is_used_and_there_are_no_others() -> None:
    """In the page, in the scripts by name, or as the name of a severity or a state."""
    template = (FOLDER / "page.html").read_text("utf-8")
    used = {*re.findall(r"\{\{(\w+)\}\}", template), *re.findall(r"words\.(\w+)", SCRIPTS)} - {"LANGUAGE"}
    by_value = {"NORMAL", "WARN", "CRITICAL", *re.findall(r'stand\(\s*"(\w+)"', SCRIPTS), "live", "paused"}
    assert used | by_value == set(WORDS["en"])


@pytest.mark.parametrize("language", WORDS)
def test_the_page_says_all_in_its_language(language: str) -> None:
    """It names the language, and each of its texts is one of its words."""
    reader = read(language)
    assert next(attributes for tag, attributes in reader.elements if tag == "html")["lang"] == language
    assert set(reader.texts) <= set(WORDS[language].values())


def test_nothing_is_from_elsewhere() -> None:
    """What the page loads is served beside it; no script or style is in it, which its policy would not let run."""
    reader = read()
    loaded = [*reader.all("src"), *(value for value in reader.all("href") if not value.startswith("#"))]
    imported = set(re.findall(r'from "\./(.+)"', SCRIPTS))
    assert sorted(loaded) == sorted(f"page/{name}" for name in set(FILES) - imported)
    assert set(FILES) == {path.name for path in FOLDER.iterdir() if path.suffix in {".css", ".js", ".svg"}}
    for tag, attributes in reader.elements:
        assert tag not in {"style", "iframe", "object", "embed"}
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
        assert tag != "script" or "src" in attributes or attributes["type"] == "application/json"
    css = (FOLDER / "console.css").read_text("utf-8")
    assert not re.search(r"url\(|@import|https?:", css)
    assert {f"./{name}" for name in imported} == set(re.findall(r'from "(.+)"', SCRIPTS))
    assert not re.search(r"\bimport\(|https?://(?!www\.w3\.org/2000/svg)", SCRIPTS)
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY


def test_no_text_is_taken_for_markup() -> None:
    """Names come from users: the scripts use nothing that makes markup or code of a text."""
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|createContextualFragment"
    assert not re.search(forbidden, SCRIPTS)
    hostile = {**WORDS["en"], "title": "</script><script>alert(1)</script>"}
    reader = Reader()
    reader.feed(page(hostile, "en", needs_token=True))
    assert [tag for tag, _ in reader.elements].count("script") == 2


def test_what_the_scripts_look_for_is_there() -> None:
    """Each element by its id, and no id is there twice."""
    ids = list(read().all("id"))
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'\bat\("([\w-]+)"\)', SCRIPTS)) <= set(ids)
    assert set(read().all("aria-labelledby")) <= set(ids)


def test_it_is_for_everybody() -> None:
    """Fields have labels, the table heads, changes are read out, and severity is never told by colour alone."""
    reader = read()
    tags = [tag for tag, _ in reader.elements]
    assert tags.count("label") == sum(tag in {"input", "select"} for tag in tags)
    assert all(attributes.get("scope") == "col" for tag, attributes in reader.elements if tag == "th")
    assert {"header", "main", "h1", "table", "dialog"} <= set(tags)
    assert next(each for _, each in reader.elements if each.get("id") == "changes")["role"] == "log"
    assert next(each for tag, each in reader.elements if tag == "meta" and each.get("name") == "viewport")
    css = (FOLDER / "console.css").read_text("utf-8")
    signs = re.findall(r'\.severity(?:\[data-severity="\w+"\])?::before \{ content: "(.)', css)
    assert len(set(signs)) == 3


async def test_it_is_served() -> None:
    """Each file as what it is, once to who has it already, with the policy on the page."""
    async with served(language="es") as client:
        answer = await client.get("/")
        assert answer.content_type == "text/html"
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert "Sensores" in await answer.text()
        for path, kind in [("/", "text/html"), *((f"/page/{name}", kind) for name, kind in FILES.items())]:
            response = await client.get(path)
            assert (response.status, response.content_type) == (200, kind)
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            again = await client.get(path, headers={"If-None-Match": response.headers["ETag"]})
            assert (again.status, await again.read()) == (304, b"")
            assert (await client.head(path)).status == 200


def run(code: str) -> Any:
    """What a script that uses stream.js gives as its last value."""
    assert NODE
    program = f"import * as stream from {json.dumps((FOLDER / 'stream.js').as_uri())}; {code}"
    ended = subprocess.run(
        [NODE, "--input-type=module", "--eval", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.live
@pytest.mark.skipif(NODE is None, reason="node is not installed: what stream.js computes is not checked here")
@pytest.mark.parametrize("zone", ["Europe/Madrid", "UTC"])
def test_the_zone_is_that_of_who_looks(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """As the system of the browser has it; the page showed times without one, beside explanations in UTC."""
    monkeypatch.setenv("TZ", zone)
    assert run("console.log(JSON.stringify(stream.zone()));") == zone
    assert "zone" in read().all("id")
    assert all("{}" in words["zone"] and "UTC" in words["zone"] for words in WORDS.values())


@pytest.mark.live
@pytest.mark.skipif(NODE is None, reason="node is not installed: what stream.js computes is not checked here")
def test_what_the_script_computes() -> None:
    """Messages out of a stream that comes in any pieces; the list's order; what of it is followed; a chart within bounds."""
    code = """
    const text = ['retry: 1', 'id: 0:5\\nevent: change\\ndata: {"a":": b"}', ': here', 'event: end\\ndata: {}', '']
      .join('\\n\\n');
    const whole = stream.messages()(text);
    const parse = stream.messages();
    const pieces = [...text].flatMap((letter) => parse(letter));
    const sensors = [["a", "NORMAL"], ["c", "WARN"], ["b", "WARN"], ["d", "CRITICAL"]]
      .map(([sensor, severity]) => ({sensor, severity}));
    const windows = [0, 1, 2]
      .map((n) => ({start: new Date(n * 1000).toISOString(), mean: n, min: n - 1, max: n + 1}));
    const flat = stream.chart([{start: new Date(0).toISOString(), mean: 0, min: 0, max: 0}], 60, 20);
    console.log(JSON.stringify({whole, pieces, order: sensors.sort(stream.byUrgency).map((each) => each.sensor),
      chart: stream.chart(windows, 60, 20, [2.5, 99, null]), flat, none: stream.chart([], 60, 20),
      filled: stream.filled("{} to {}", "$&", 2), bytes: stream.inBytes("a€"),
      few: stream.followedQuery(["b", "a b", "b"]),
      many: stream.followedQuery([...Array(300).keys()]),
      long: stream.followedQuery([...Array(100).keys()].map((each) => "ñ".repeat(120) + each))}));
    """
    found = run(code)
    assert (
        found["whole"]
        == found["pieces"]
        == [
            {"id": "0:5", "event": "change", "data": {"a": ": b"}},
            {"id": None, "event": "end", "data": {}},
        ]
    )
    assert found["order"] == ["d", "b", "c", "a"]
    assert found["bytes"].encode("latin-1").decode() == "a€"
    assert found["few"] == "sensor=a+b&sensor=b"
    assert set(found["many"].split("&")) == {f"sensor={number}" for number in range(100)}
    assert 4_000 < len(found["long"]) <= 6_000
    drawn = found["chart"]
    assert (drawn["least"], drawn["greatest"], len(drawn["limits"])) == (-1, 3, 1)
    points = [tuple(map(float, pair.split(","))) for pair in drawn["line"].split()]
    assert [x for x, _ in points] == [0, 30, 60]
    assert points[0][1] > points[1][1] > points[2][1]
    assert all(0 <= y <= 20 for _, y in points)
    assert (found["flat"]["line"], found["none"], found["filled"]) == ("30,10", None, "$& to 2")
