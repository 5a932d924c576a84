"""What the admin API's routes of policies, silences, trials and alarms say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from streamproc.gateway.admin.alarms import FILTERS, Acknowledgement, Snooze
from streamproc.gateway.admin.documents import ROUTES
from streamproc.gateway.admin.operations import AFTER, ETAG, LIMIT, VERSION, operation, put_form
from streamproc.openapi import Answer, Content, Operation, Parameter
from streamproc.records.alerting import HandlingEntry, PolicyEntry, SilenceEntry, TrialEntry
from streamproc.registry.alarms import Alarm
from streamproc.registry.silences import State
from streamproc.store.documents import FORMS


class PolicyPage(msgspec.Struct, frozen=True):
    """Policies by kind of sensors; `after` is where the next page begins."""

    policies: list[PolicyEntry]
    after: str | None


class SilencePage(msgspec.Struct, frozen=True):
    """Silences by id; `after` is where the next page begins."""

    silences: list[SilenceEntry]
    after: str | None


class TrialPage(msgspec.Struct, frozen=True):
    """Trials by name; `after` is where the next page begins."""

    trials: list[TrialEntry]
    after: str | None


class AlarmList(msgspec.Struct, frozen=True):
    """Alarms, the gravest and oldest first; `count` is how many there are in all."""

    alarms: list[Alarm]
    count: int


_PAGES: dict[str, type[msgspec.Struct]] = {
    "policy": PolicyPage,
    "silence": SilencePage,
    "trial": TrialPage,
}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "policy": {"kind": "pump", "down_windows": 10, "cooldown_seconds": 600.0, "remind_seconds": 14_400.0},
    "silence": {
        "silence": "nights",
        "site": "north",
        "weekly": {"days": [0, 1, 2, 3, 4], "at": "22:00", "minutes": 480, "zone": "Europe/Madrid"},
        "up_to": 1,
        "reason": "nobody is there",
    },
    "trial": {"trial": "slower", "kind": "pump", "rules": [{"rule": "no_data", "seconds": 60.0}]},
}
_SAYS = {
    "policy": "How sensors of a kind (`*`: all without a policy of their own) are told of",
    "silence": "A time in which people are not told of some sensors",
    "trial": "Rules and learners' numbers that run beside the live ones, and tell nobody",
}
_STATE = Parameter("state", "query", "Those in this state now.", {"enum": list(get_args(State))})


def _of(kind: Any) -> Iterator[Operation]:
    """The routes of one kind of documents."""
    several, filters = ROUTES[kind]
    title, form, words = kind.capitalize(), FORMS[kind], _SAYS[kind]
    path, one = f"/admin/{several}", f"/admin/{several}/{{name}}"
    entry = [Content(form=form, examples={"entry": _EXAMPLES[kind]})]
    narrowed = [Parameter(name, "query", f"Those of this {name}.") for name in filters]
    yield operation(
        ("get", path, f"list{several.capitalize()}"),
        f"The registry's {several}",
        {200: Answer("By name.", [Content(form=_PAGES[kind])])},
        *narrowed,
        *([_STATE] if kind == "silence" else []),
        AFTER,
        LIMIT,
    )
    yield operation(("get", one, f"get{title}"), words, {200: Answer("Its entry.", entry, ETAG)})
    yield operation(
        ("put", one, f"put{title}"),
        f"Make the registry hold this {kind}; its name may be left out of the body",
        {200: Answer("Changed.", entry, ETAG), 201: Answer("Added.", entry, ETAG)},
        *VERSION,
        bodies=[Content(form=put_form(form), examples={"entry": _EXAMPLES[kind]})],
    )
    yield operation(
        ("delete", one, f"delete{title}"),
        f"Take a {kind} out of the registry",
        {204: Answer("Removed.")},
        *VERSION,
    )


def _of_alarms() -> Iterator[Operation]:
    """The routes of alarms."""
    whose = Parameter(
        "name", "path", "A sensor, by uuid or id; or the `event_id` of an event of its present alarm."
    )
    handled = {200: Answer("Who looks after it.", [Content(form=HandlingEntry)], ETAG)}
    yield operation(
        ("get", "/admin/alarms", "listAlarms"),
        "The sensors that are not NORMAL, who looks after them, and what silences them",
        {200: Answer("The gravest and oldest first.", [Content(form=AlarmList)])},
        *(Parameter(name, "query", f"Those of this {name}.") for name in FILTERS),
        LIMIT,
    )
    yield operation(
        ("post", "/admin/alarms/{name}/acknowledge", "acknowledgeAlarm"),
        "Look after an alarm: no reminders, and nobody else told, until it is graver or another",
        handled,
        whose,
        bodies=[Content(form=Acknowledgement, examples={"note": {"note": "On my way.", "by": "ann"}})],
        body_required=False,
    )
    yield operation(
        ("post", "/admin/alarms/{name}/snooze", "snoozeAlarm"),
        "Have people told nothing of a sensor for a while; if it is not NORMAL then, they are told again",
        handled,
        whose,
        bodies=[Content(form=Snooze, examples={"two hours": {"seconds": 7_200}})],
    )
    yield operation(
        ("delete", "/admin/alarms/{name}/handling", "unhandleAlarm"),
        "Take back that an alarm is acknowledged or snoozed",
        {204: Answer("It is nobody's again.")},
        whose,
    )


DOCUMENTS = (
    *(each for kind in ROUTES for each in _of(kind)),
    operation(
        ("post", "/admin/silences", "addSilence"),
        "Add a silence, with an id that is made for it; from now on, if it says nothing else",
        {
            201: Answer(
                "Added.",
                [Content(form=SilenceEntry, examples={"entry": _EXAMPLES["silence"]})],
                ETAG | {"Location": "its path"},
            )
        },
        bodies=[
            Content(
                form=put_form(SilenceEntry, named=False),
                examples={"power cut": {"site": "north", "end": 1_800_000_000_000, "reason": "power cut"}},
            )
        ],
    ),
    *_of_alarms(),
)
