"""A message in words: its subject and its text, in the language of the explanations."""

from __future__ import annotations

from datetime import UTC, datetime

from streamproc.core.phrases import PHRASES
from streamproc.records import Language, Severity
from streamproc.store.deliveries import Change, Message, severity_of

#: Longest subject: what a list of mails shows, and far from the 998 characters of a line of mail.
_SUBJECT_CHARACTERS = 150
_MANY = {"en": "{severity}: {count} changes at {place}", "es": "{severity}: {count} cambios en {place}"}
_OVER = {"en": ", back to normal", "es": ", de vuelta a la normalidad"}
_EVENT = {"en": "Event", "es": "Evento"}
_MORE = {
    "en": "This goes on with what was told before.",
    "es": "Continúa lo que ya se avisó.",
}


def gravest(message: Message) -> Severity:
    """The gravest severity of the message's changes."""
    return max(severity_of(change.severity) for change in message.changes)


def subject(message: Message, language: Language) -> str:
    """One line: the change's own title, or how many there are and where."""
    if len(message.changes) == 1:
        return _line(message.changes[0].title)
    severity = PHRASES[language].severities[gravest(message)]
    line = _MANY[language].format(severity=severity, count=len(message.changes), place=place(message))
    return _line(line + _OVER[language] if _is_over(message) else line)


def _is_over(message: Message) -> bool:
    """Whether every sensor that it tells of was NORMAL in the end."""
    last = {change.sensor: change.severity for change in message.changes}
    return gravest(message) > Severity.NORMAL and all(
        severity_of(each) == Severity.NORMAL for each in last.values()
    )


def text(message: Message, language: Language) -> str:
    """Every change with its time, its title and what is to be done, the oldest first."""
    parts = [
        f"{moment(change.at)}  {_line(change.title)}\n{change.text}{_named(change, language)}"
        for change in message.changes
    ]
    if message.thread_id != message.message_id:
        parts.append(_MORE[language])
    return "\n\n".join(parts) + "\n"


def _named(change: Change, language: Language) -> str:
    """The event that `streamproc alarm ack` and `streamproc explain` take."""
    return f"\n{_EVENT[language]} {change.event_id}" if change.event_id else ""


def place(message: Message) -> str:
    """What the changes have in common (device, site or sensor), by its name in the registry."""
    kind, _, name = message.scope.partition(":")
    first = message.changes[0]
    named = {"device": first.device_name, "sensor": first.name}.get(kind)
    return named or name


def moment(ms: int) -> str:
    """A time as people read it, to the second.

    >>> moment(1_700_000_000_001)
    '2023-11-14 22:13:20 UTC'
    """
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _line(words: str) -> str:
    """One line of at most so many characters, without what no header of a mail may hold."""
    whole = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return whole if len(whole) <= _SUBJECT_CHARACTERS else f"{whole[: _SUBJECT_CHARACTERS - 1]}…"
