"""`streamproc notify failed` and `resend`, and that a sender takes what they ask for, however old it is."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streamproc.cli.notifying import commands
from streamproc.errors import RegistryError, StoreError
from streamproc.notify.channels import Accepted, Answer, Later
from streamproc.notify.sender import Sender, Times
from streamproc.records import Notification, SensorEntry, Severity
from streamproc.store.deliveries import Message, Policy
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.connection import connection
from streamproc.store.sqlite.store import SqliteStore
from tests.store.builders import GROUP, notifications, save_entries

POLICY = Policy("webhook", group_ms=0)
#: Who is to come again only when it is too late need not come.
TOO_LATE = Later("away: HTTP 503 [busy]", after_s=POLICY.age_ms / 1000)


class Receiver:
    """A channel that is away or there, and ends its sender with the first message."""

    name = "webhook"

    def __init__(self, answer: Answer) -> None:
        self.answer, self.stop = answer, asyncio.Event()
        self.taken: list[Message] = []

    async def send(self, message: Message) -> Answer:
        """Take it, or not."""
        self.taken.append(message)
        self.stop.set()
        return self.answer

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings' database."""
    monkeypatch.setenv("STREAMPROC_DATA_DIR", str(tmp_path))
    return tmp_path / "streamproc.db"


async def tell(path: Path) -> None:
    """Have the sink write that a sensor is CRITICAL."""
    store = SqliteStore(path)
    at = time.time_ns() // 1_000_000
    row = Notification("n", "e", "a", Severity.CRITICAL, at - 1, "a is CRITICAL", "Look.")
    await save_entries(store, [SensorEntry("a")])
    await store.write(Batch(GROUP, notifications=notifications(row)))
    await store.close()


def age(path: Path) -> None:
    """Have the change be of two days ago."""
    opened = connection(path)
    opened.execute(
        "UPDATE alert_notifications SET created_at = strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now', '-2 days')"
    )
    opened.close()


async def send(path: Path, answer: Answer) -> list[Message]:
    """Have a sender work until its channel was given a message; those that it was given."""
    store = SqliteStore(path)
    receiver = Receiver(answer)
    await Sender(receiver, store, POLICY, Times(timeout_s=60, look_s=0.01)).run(receiver.stop)
    await store.close()
    return receiver.taken


def called(*words: str) -> Result:
    """What a command comes to; it succeeds."""
    result = CliRunner().invoke(commands, words)
    assert result.exception is None, result.exception
    return result


def test_what_was_given_up_is_shown_and_sent_again(database: Path) -> None:
    """Once, under its identity, though it is far older than what is told otherwise."""
    asyncio.run(tell(database))
    assert called("failed").stdout == "nothing was given up\n"
    (first,) = asyncio.run(send(database, TOO_LATE))
    head, line = called("failed").stdout.splitlines()
    assert head.split() == ["channel", "messages", "changes", "from", "to", "why"]
    assert line.startswith("webhook")
    assert "given up: away: HTTP 503 [busy]" in line
    age(database)
    assert called("resend").stdout == "nothing was given up since then\n"
    other = called("resend", "--channel", "email", "--since", "3d")
    assert other.stdout == "nothing of channel email was given up since then\n"
    result = called("resend", "--since", "3d")
    assert result.stdout == "webhook: 1 change to be sent again\n"
    assert "note: no channel is called webhook by these settings" in result.stderr
    assert called("resend", "--since", "3d").stdout == "nothing was given up since then\n"
    (second,) = asyncio.run(send(database, Accepted()))
    assert (second.message_id, second.attempts) == (first.message_id, 1)
    assert called("failed").stdout == "nothing was given up\n"


@pytest.mark.parametrize("word", ["failed", "resend"])
def test_where_there_is_no_database_none_is_made(database: Path, word: str) -> None:
    """An empty one would say that nothing was given up."""
    result = CliRunner().invoke(commands, [word])
    assert isinstance(result.exception, StoreError)
    assert f"there is no database at {database}" in str(result.exception)
    assert not database.exists()


def test_a_time_that_is_none_is_refused() -> None:
    """With how to write it."""
    for word in ("failed", "resend"):
        result = CliRunner().invoke(commands, [word, "--since", "soon"])
        assert isinstance(result.exception, RegistryError)
        assert "is no time" in str(result.exception)
        assert "--zone" not in str(result.exception), "neither has it"
