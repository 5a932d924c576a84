"""`/`: the page, in the language of the settings; plain HTML, a style and scripts, all from here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

from aiohttp import web

from streamproc.console.page.words import WORDS
from streamproc.openapi.pages import unless_known

_FOLDER = Path(__file__).parent
#: The first is the page's, and imports the others.
SCRIPTS = ("console", "asking", "changes", "detail", "elements", "following", "sensors", "standing", "stream")
#: The files that the page loads, and what they are.
FILES = {
    "console.css": "text/css",
    **{f"{name}.js": "text/javascript" for name in SCRIPTS},
    "icon.svg": "image/svg+xml",
}
#: Nothing is loaded, run or asked but what comes from here, no script makes markup of text, and nobody frames the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {"Content-Security-Policy": POLICY, "Cross-Origin-Opener-Policy": "same-origin"}
_word = re.compile(r"\{\{(\w+)\}\}")


class Page:
    """The page and its files, read once."""

    def __init__(self, language: str, *, needs_token: bool) -> None:
        words = WORDS[language]
        self._html = page(words, language, needs_token=needs_token).encode()
        self._files = {name: (_FOLDER / name).read_bytes() for name in FILES}

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [web.get("/", self.page), web.get("/page/{name}", self.file)]

    async def page(self, request: web.Request) -> web.Response:
        """GET /: the page."""
        return unless_known(request, self._html, "text/html", _HEADERS)

    async def file(self, request: web.Request) -> web.Response:
        """GET /page/{name}: one of its files."""
        name = request.match_info["name"]
        if name not in FILES:
            raise web.HTTPNotFound
        return unless_known(request, self._files[name], FILES[name], {})


def page(words: Mapping[str, str], language: str, *, needs_token: bool) -> str:
    """The page as HTML in these words; the scripts find theirs in it as JSON."""
    template = (_FOLDER / "page.html").read_text("utf-8")
    told = {"language": language, "needs_token": needs_token, "words": dict(words)}
    # Nothing in it ends the element that it stands in.
    data = json.dumps(told, ensure_ascii=False).replace("<", "\\u003c")
    filled = _word.sub(lambda found: escape(words[found[1]]), template.replace("{{LANGUAGE}}", language))
    return filled.replace("[[WORDS]]", data)
