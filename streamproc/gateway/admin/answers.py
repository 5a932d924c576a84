"""What calls of the admin API say, and how they are answered: names, versions, pages, entries, refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import structlog
from aiohttp import web

from streamproc.errors import (
    EntryNotSent,
    RegistryError,
    StaleEntry,
    StoreError,
    StreamprocError,
    UnknownEntry,
)
from streamproc.gateway.problems import Problem, only, unavailable
from streamproc.store.edits import SOME, Entry, Outcome, kind_of

#: Entries in an answer, unless another number is asked for, and at most.
_PAGE, LONGEST_PAGE = 1_000, 10_000
#: After what time to ask again where the database or Kafka is away.
RETRY_SECONDS = 5
#: Digits of a number of the query: those of 64 bits.
_LONGEST_NUMBER = 20
#: Digits of a version: those of a database's INT.
_DIGITS = 10

_log = structlog.get_logger(__name__)


def problem_of(error: StreamprocError) -> Problem:
    """The refusal that an error of the registry or the database is."""
    if isinstance(error, UnknownEntry):
        return Problem("entry-unknown", str(error))
    if isinstance(error, StaleEntry):
        return Problem("entry-changed", str(error))
    if isinstance(error, EntryNotSent):
        return unavailable("registry-not-sent", str(error), RETRY_SECONDS)
    if isinstance(error, RegistryError):
        return Problem("entry-refused", str(error))
    _log.warning("registry not available to the admin API", reason=str(error))
    if isinstance(error, StoreError):
        return unavailable("admin-unavailable", f"the database: {error}", RETRY_SECONDS)
    return unavailable("admin-unavailable", str(error), RETRY_SECONDS)


def name_of(request: web.Request) -> str:
    """The name of the entry that the path is of; a recommended action's are its kind and its cause."""
    if "cause" in request.match_info:
        return f"{part_of(request, 'kind')}/{part_of(request, 'cause')}"
    return part_of(request, "name")


def part_of(request: web.Request, name: str) -> str:
    """A part of the path, in lower case as all names are."""
    return request.match_info[name].lower()


def expected(request: web.Request) -> int | None:
    """The version that an edit is for: If-Match names it, or with * any; If-None-Match: * wants that there is none."""
    if request.headers.get("If-None-Match") == "*":
        return 0
    tag = only(request.headers, "If-Match")
    if tag is None:
        return None
    if tag.strip() == "*":
        return SOME
    number = tag.strip().removeprefix("W/").strip('"')
    if not number.isdecimal() or len(number) > _DIGITS:
        raise StaleEntry(f"If-Match is {tag[:64]}, no ETag that was given out here")
    return int(number)


def number_of(request: web.Request, name: str, default: int | None, most: int) -> int | None:
    """A number of the query."""
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > _LONGEST_NUMBER or not 1 <= int(text) <= most:
        raise Problem("entry-invalid", f"{name} must be a number of 1 to {most}", field=name)
    return int(text)


def check(faults: Sequence[str]) -> None:
    """Refuse what has faults."""
    if faults:
        raise Problem("entry-invalid", "\n".join(faults))


def by_fields(request: web.Request, fields: Sequence[str]) -> Callable[[Entry], bool]:
    """Whether an entry has what the query asks for, whatever the case of names, as for silences and alarms."""
    wanted = {field: request.query[field].lower() for field in fields if field in request.query}
    return lambda entry: all(
        (has := getattr(entry, field)) is not None and has.lower() == name for field, name in wanted.items()
    )


def page(
    request: web.Request, name: str, entries: Sequence[Entry], wanted: Callable[[Entry], bool]
) -> web.Response:
    """A page of entries that are sorted by name, those that are wanted."""
    limit = number_of(request, "limit", _PAGE, LONGEST_PAGE) or _PAGE
    after = request.query.get("after", "").lower()
    left = [entry for entry in entries if kind_of(entry)[1] > after and wanted(entry)]
    following = kind_of(left[limit - 1])[1] if len(left) > limit else None
    return json_answer({name: left[:limit], "after": following})


def entry_answer(entry: Entry, status: int = 200) -> web.Response:
    """An entry with all its fields, so that it can be changed and put again."""
    response = json_answer(msgspec.structs.asdict(entry), status)
    response.headers["ETag"] = f'"{entry.version}"'
    return response


def made_answer(outcomes: Sequence[Outcome]) -> web.Response:
    """What an edit has made, the last of several."""
    made = outcomes[-1]
    assert made.entry is not None
    new = made.changed and made.entry.version == 1
    return entry_answer(made.entry, 201 if new else 200)


def json_answer(answer: object, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(status=status, body=msgspec.json.encode(answer), content_type="application/json")
