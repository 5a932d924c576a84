"""A message which says that nothing has happened, to try a channel with. It needs no database."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from streamproc.notify.app import channels
from streamproc.notify.channels import Accepted, Answer, Channel, Later
from streamproc.process import epoch_ms
from streamproc.records import Language
from streamproc.settings import Settings
from streamproc.store.deliveries import Change, Message

_TITLE = {"en": "Test of notifications", "es": "Prueba de notificaciones"}
_TEXT = {
    "en": "Nothing has happened. Who reads this will hear of changes of severity here.",
    "es": "No ha pasado nada. Quien lea esto recibirá aquí los cambios de severidad.",
}


async def tried(settings: Settings) -> dict[str, Answer]:
    """Send a test message on each channel; returns the answers by the channels' names."""
    ways = channels(settings)
    try:
        answers = await asyncio.gather(*[_sent(channel, settings) for channel in ways])
    finally:
        for channel in ways:
            await channel.close()
    return {channel.name: answer for channel, answer in zip(ways, answers, strict=True)}


async def _sent(channel: Channel, settings: Settings) -> Answer:
    seconds = settings.notify_timeout_seconds
    try:
        async with asyncio.timeout(seconds):
            return await channel.send(sample_message(channel.name, settings.language))
    except TimeoutError:
        return Later(f"no answer within {seconds:g} s")


def sample_message(channel: str, language: Language) -> Message:
    """A message about no change at all, with a new identity each time."""
    name = uuid4().hex
    now = epoch_ms()
    change = Change(
        name, None, None, None, None, None, None, "NORMAL", now, _TITLE[language], _TEXT[language]
    )
    return Message(name, channel, (name,), "test:streamproc", (change,))


def told(answers: dict[str, Answer]) -> tuple[bool, list[str]]:
    """Whether all channels have taken it, and a line for each."""
    lines = []
    for name, answer in answers.items():
        if isinstance(answer, Accepted):
            lines.append(f"{name}: sent{f', but {answer.note}' if answer.note else ''}")
        else:
            lines.append(f"{name}: not sent: {answer.reason}")
    return all(isinstance(answer, Accepted) for answer in answers.values()), lines
