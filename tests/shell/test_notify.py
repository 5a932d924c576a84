"""`streamproc notify` over a real database: each change told once, whatever its receivers do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from aiohttp import web

from streamproc.cli.doctor import State, reachable, receivers
from streamproc.errors import SettingsError
from streamproc.kafka.broker import free_port
from streamproc.notify import health
from streamproc.notify.app import channels, email, policy
from streamproc.notify.channels import Accepted, Answer
from streamproc.notify.sample import told, tried
from streamproc.notify.sender import FAILING_S, LAST_PAUSE_S, Sender, Times, pause
from streamproc.notify.webhook import WebhookChannel
from streamproc.records import Notification, SensorEntry, Severity
from streamproc.settings import Settings, load
from streamproc.store.deliveries import Message, Policy
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.store import SqliteStore
from tests.live.processes import eventually
from tests.receivers import hooked
from tests.store.builders import GROUP, notifications, save_entries
from tests.store.databases import Sqlite

#: They take seconds.
pytestmark = pytest.mark.live

#: Longest wait for what mostly takes a tenth of a second.
SOON_S = 60.0
TIMES = Times(timeout_s=SOON_S, look_s=0.02)
AT_ONCE = Policy("webhook", group_ms=0)
STATUS = "SELECT status FROM notification_deliveries ORDER BY id"


@pytest.fixture
def database(tmp_path: Path) -> Sqlite:
    """A file that is not there yet."""
    return Sqlite(tmp_path / "streamproc.db")


@asynccontextmanager
async def opened(database: Sqlite) -> AsyncIterator[SqliteStore]:
    """A store on it that waits for others' locks, as a process's does."""
    store = SqliteStore(database.path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def tell(store: SqliteStore, *sensors: str, seconds_ago: float = 0) -> None:
    """Have the sink write that these sensors are CRITICAL."""
    at = round((time.time() - seconds_ago) * 1000)
    rows = [
        Notification(f"{sensor}-{at}", f"e-{sensor}-{at}", sensor, Severity.CRITICAL, at, sensor, "Look.")
        for sensor in sensors
    ]
    await save_entries(store, [SensorEntry(sensor) for sensor in sensors])
    await store.write(Batch(GROUP, notifications=notifications(*rows)))


@asynccontextmanager
async def running(*senders: Sender) -> AsyncIterator[None]:
    """Have senders work until the block ends."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(sender.run(stop)) for sender in senders]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def until(condition: Callable[[], bool]) -> None:
    """Look until it holds."""

    async def look() -> bool:
        return condition()

    await eventually(look, SOON_S)


@asynccontextmanager
async def sender(store: SqliteStore, url: str, times: Times = TIMES) -> AsyncIterator[Sender]:
    """A sender for a webhook."""
    channel = WebhookChannel("webhook", url, None, times.timeout_s)
    try:
        yield Sender(channel, store, AT_ONCE, times)
    finally:
        await channel.close()


async def test_what_the_receiver_puts_off_arrives_once_it_takes_it(database: Sqlite) -> None:
    """After 429 and 503 under the same identity; then never again."""
    async with opened(database) as store, hooked() as hook, sender(store, hook.url) as one:
        hook.answers = [web.Response(status=429, headers={"Retry-After": "1"}), web.Response(status=503)]
        async with running(one):
            await tell(store, "a")
            began = time.monotonic()
            await until(lambda: database.rows(STATUS) == [("sent",)])
            assert time.monotonic() - began >= 1
            await tell(store, "b")
            await until(lambda: database.rows(STATUS) == [("sent",), ("sent",)])
    assert len(hook.requests) == 4
    assert len(set(hook.identities())) == 2
    assert database.rows("SELECT attempts, last_error FROM notification_deliveries ORDER BY id") == [
        (3, None),
        (1, None),
    ]


async def test_what_the_receiver_refuses_is_not_tried_again(database: Sqlite) -> None:
    """It is written down with the reason, and the next one goes."""
    async with opened(database) as store, hooked() as hook, sender(store, hook.url) as one:
        hook.answers = [web.Response(status=422)]
        async with running(one):
            await tell(store, "a")
            await until(lambda: database.rows(STATUS) == [("failed",)])
            await tell(store, "b")
            await until(lambda: database.rows(STATUS) == [("failed",), ("sent",)])
    assert len(hook.requests) == 2
    query = "SELECT last_error FROM notification_deliveries WHERE status = 'failed'"
    assert database.rows(query) == [("HTTP 422 Unprocessable Entity",)]


async def test_a_receiver_that_comes_back_gets_what_waited(database: Sqlite) -> None:
    """Nobody listens at first; what fails meanwhile is told by the check, and holds up nothing else."""
    async with opened(database) as store:
        port = free_port()
        async with sender(store, f"http://127.0.0.1:{port}/hook") as one, running(one):
            await tell(store, "a", "b")
            query = "SELECT COUNT(*) FROM notification_deliveries WHERE attempts > 0 AND status = 'pending'"
            await until(lambda: database.rows(query)[0][0] >= 1)
            assert one.check().ok
            assert one._failing_since is not None
            one._failing_since -= FAILING_S
            assert not one.check().ok
            assert "cannot connect" in one.check().detail
            async with hooked(port) as hook:
                await until(lambda: database.rows(STATUS) == [("sent",), ("sent",)])
                assert sorted(set(hook.identities())) == sorted(hook.identities())
            assert one.check().ok


async def test_a_slow_receiver_does_not_keep_others_waiting(database: Sqlite) -> None:
    """Each channel has its own pace; who takes too long is asked again."""
    async with opened(database) as store, hooked() as slow, hooked() as quick:
        slow.open.clear()
        times = Times(timeout_s=1.0, look_s=0.02)
        async with sender(store, slow.url, times) as first, sender(store, quick.url) as second:
            second.channel.name = "webhook-2"  # type: ignore[misc]
            second.policy = Policy("webhook-2", group_ms=0)
            async with running(first, second):
                await tell(store, "a")
                await until(lambda: len(quick.requests) >= 1)
                await until(lambda: len(slow.requests) >= 2)
                slow.open.set()
                await until(lambda: sorted(database.rows(STATUS)) == [("sent",), ("sent",)])
    assert len(set(slow.identities())) == 1


async def test_two_processes_tell_it_once(database: Sqlite) -> None:
    """Whoever holds a message sends it; all changes arrive, each once."""
    names = [f"s{number}" for number in range(40)]
    async with (
        opened(database) as store,
        opened(database) as other,
        hooked() as hook,
        sender(store, hook.url) as one,
        sender(other, hook.url) as two,
        running(one, two),
    ):
        for name in names:
            await tell(store, name)
        sent = "SELECT COUNT(*) FROM notification_deliveries WHERE status = 'sent'"
        await until(lambda: database.rows(sent) == [(40,)])
    assert len(hook.requests) == 40
    assert len(set(hook.identities())) == 40


class Broken:
    """A channel with a fault of its own."""

    name = "webhook"

    async def send(self, message: Message) -> Answer:
        """Fail at one message in an unforeseen way."""
        if message.changes[0].sensor == "a":
            raise ZeroDivisionError
        return Accepted()

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_message_that_cannot_be_told_does_not_silence_the_others(database: Sqlite) -> None:
    """It is tried again; the others are sent meanwhile."""
    async with opened(database) as store:
        one = Sender(Broken(), store, AT_ONCE, TIMES)
        with structlog.testing.capture_logs() as lines:
            async with running(one):
                await tell(store, "a", "b")
                await until(lambda: database.rows(STATUS) == [("pending",), ("sent",)])
    assert any(line["event"] == "channel failed" for line in lines)


@pytest.mark.parametrize("enrolled_ago", [100, 0])
async def test_what_waited_too_long_is_given_up(database: Sqlite, enrolled_ago: int) -> None:
    """A change that has become old while nobody could send it is not told, and that is written down.

    So it is where it was young enough by another setting when it was found.
    """
    async with opened(database) as store, hooked() as hook, sender(store, hook.url) as one:
        await store.plan_deliveries(one.policy, round(time.time() * 1000))
        await tell(store, "a", seconds_ago=100)
        await store.plan_deliveries(one.policy, round((time.time() - enrolled_ago) * 1000))
        one.policy = Policy("webhook", group_ms=0, age_ms=60_000)
        async with running(one):
            await until(lambda: database.rows(STATUS) == [("failed",)])
    assert hook.requests == []
    query = "SELECT last_error FROM notification_deliveries"
    assert database.rows(query) == [("too old when it could be sent",)]


async def test_the_end_waits_for_what_is_on_its_way(database: Sqlite) -> None:
    """A message that the receiver takes after the signal is written down as sent; no other is begun."""
    async with opened(database) as store, hooked() as hook, sender(store, hook.url) as one:
        hook.open.clear()
        stop = asyncio.Event()
        working = asyncio.create_task(one.run(stop))
        await store.plan_deliveries(one.policy, round(time.time() * 1000))
        await tell(store, "a", "b")
        await asyncio.wait_for(hook.arrived.wait(), SOON_S)
        stop.set()
        hook.open.set()
        await asyncio.wait_for(working, SOON_S)
        assert database.rows(STATUS) == [("sent",), ("pending",)]
    assert len(hook.requests) == 1


async def test_a_database_that_is_away_is_waited_for(database: Sqlite) -> None:
    """What was told while it could not be written down is written down afterwards, and not told again."""
    async with opened(database) as store, hooked() as hook, sender(store, hook.url) as one:
        hook.open.clear()
        async with running(one):
            await tell(store, "a")
            await asyncio.wait_for(hook.arrived.wait(), SOON_S)
            with database.locked():
                hook.open.set()
                await until(lambda: not one.standing.check().ok)
            await until(lambda: database.rows(STATUS) == [("sent",)])
            await until(lambda: one.standing.check().ok)
    assert len(hook.requests) == 1


async def test_how_it_stands_is_told(database: Sqlite) -> None:
    """The database, each channel, and how much waits for how long."""
    async with opened(database) as store, hooked() as hook, sender(store, hook.url) as one:
        hook.answers = [web.Response(status=503, headers={"Retry-After": "3600"})]
        async with running(one):
            await tell(store, "a", seconds_ago=10)
            await until(lambda: one.waiting.changes == 1)
            found = {check.name: check.ok for check in health.checks([one])}
            gauges = {family.name: family.samples[0].value for family in health.gauges([one])}
    assert found == {"database": True, "webhook": True}
    assert gauges["streamproc_notify_waiting"] == 1
    assert gauges["streamproc_notify_oldest_seconds"] >= 10


def test_waits_grow_and_have_an_end() -> None:
    """From a second to a minute, never quite the same."""
    assert 0.75 <= pause(1) <= 1
    assert pause(3) > pause(1)
    assert 0.75 * LAST_PAUSE_S <= pause(1_000) <= LAST_PAUSE_S


MAIL = {
    "smtp_host": "mail.example",
    "notify_email_from": "a@plant.example",
    "notify_email_to": "b@plant.example, c@plant.example",
}


def names(**given: object) -> list[str]:
    """The channels by these settings."""
    return [channel.name for channel in channels(Settings.model_validate(given))]


def test_channels_are_those_that_have_their_settings() -> None:
    """Unless some are named; several webhooks are told apart by their number."""
    urls = {"notify_webhook_url": "https://a.example/x, https://b.example/y"}
    assert names() == ["console"]
    assert names(**urls) == ["console", "webhook", "webhook-2"]
    assert names(**urls, **MAIL) == ["console", "webhook", "webhook-2", "email"]
    assert names(**urls, **MAIL, notify_channels="email,console") == ["console", "email"]
    others = {
        "notify_escalation_webhook_url": "https://c.example/z",
        "notify_escalation_email_to": "d@plant.example",
    }
    assert names(**MAIL, **others) == ["console", "email", "escalation-webhook", "escalation-email"]
    alone = {name: value for name, value in MAIL.items() if name != "notify_email_to"}
    assert names(**alone, **others)[1:] == ["escalation-webhook", "escalation-email"]
    boss = email(Settings.model_validate({**MAIL, **others}), "escalation-email")
    assert (boss.name, boss._receivers) == ("escalation-email", ("d@plant.example",))
    settings = Settings.model_validate(
        {
            **MAIL,
            "notify_min_severity": "critical",
            "notify_group_seconds": 1.5,
            "smtp_username": "u",
            "smtp_password": "p",
        }
    )
    assert policy(settings, "x") == Policy("x", Severity.CRITICAL, "device", 1_500, 21_600_000)
    assert email(settings)._server.login == ("u", "p")
    assert policy(settings, "escalation-webhook-2").for_escalations


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"notify_channels": "pager"}, "no such channel: pager; there are console, webhook, email"),
        ({"notify_channels": ","}, "names no channel"),
        ({"notify_channels": "webhook"}, "needs STREAMPROC_NOTIFY_WEBHOOK_URL"),
        ({"notify_channels": "email"}, "e-mail needs STREAMPROC_SMTP_HOST"),
        ({"notify_channels": "escalation-webhook"}, "needs STREAMPROC_NOTIFY_ESCALATION_WEBHOOK_URL"),
        (
            {"notify_escalation_email_to": "d@plant.example"},
            "e-mail of escalations needs STREAMPROC_SMTP_HOST",
        ),
        ({"notify_escalation_webhook_url": "ftp://S3CRET"}, "number 1 is no"),
        ({"notify_escalation_email_to": "Ann <a@b.example>"}, "is no address alone"),
        ({"smtp_host": "mail.example"}, "e-mail needs STREAMPROC_SMTP_HOST"),
        ({"notify_webhook_url": "https://a.example, S3CRET"}, "number 2 is no http:// or https:// URL"),
        ({"notify_webhook_url": "ftp://S3CRET"}, "number 1 is no"),
        ({**MAIL, "notify_email_to": "Ann <a@b.example>"}, "is no address alone"),
        ({**MAIL, "smtp_username": "u"}, "need one another"),
        ({**MAIL, "smtp_username": "u", "smtp_password": "S3CRET", "smtp_tls": "off"}, "over TLS alone"),
        ({"notify_min_severity": "BAD"}, "STREAMPROC_NOTIFY_MIN_SEVERITY"),
    ],
)
def test_wrong_settings_are_told_without_secrets(given: dict[str, object], told: str) -> None:
    """By what is to be set, or set otherwise."""
    with pytest.raises(SettingsError) as error:
        load(**given)
    assert told in str(error.value)
    assert "S3CRET" not in str(error.value)


def test_secrets_are_not_shown() -> None:
    """Neither by the settings as they are written, nor by what is made of them."""
    url = {
        "notify_webhook_url": "https://a.example/S3CRET",
        "notify_webhook_secret": "S3CRET",
        "notify_escalation_webhook_url": "https://c.example/S3CRET",
    }
    settings = Settings.model_validate({**MAIL, **url, "smtp_username": "u", "smtp_password": "S3CRET"})
    assert "S3CRET" not in repr(settings)
    assert "S3CRET" not in repr([vars(channel).get("_server") for channel in channels(settings)])


async def test_the_doctor_looks_for_who_is_told() -> None:
    """By host and port alone: nothing is sent, and nothing of a URL is shown."""
    async with hooked() as hook:
        port = int(hook.url.split(":")[2].split("/")[0])
        url = f"http://127.0.0.1:{port}/S3CRET, https://b.example/S3CRET"
        others = {"notify_escalation_webhook_url": "https://c.example/S3CRET"}
        settings = Settings.model_validate({**MAIL, **others, "notify_webhook_url": url})
        assert receivers(settings) == [
            ("STREAMPROC_NOTIFY_WEBHOOK_URL", "127.0.0.1", port),
            ("STREAMPROC_NOTIFY_WEBHOOK_URL", "b.example", 443),
            ("STREAMPROC_NOTIFY_ESCALATION_WEBHOOK_URL", "c.example", 443),
            ("STREAMPROC_SMTP_HOST", "mail.example", 587),
        ]
        assert (await reachable("X", "127.0.0.1", port)).state is State.OK
    assert (await reachable("X", "127.0.0.1", port)).state is State.WRONG
    assert receivers(Settings.model_validate({})) == []


async def test_a_test_message_tells_which_channels_work() -> None:
    """Each is asked, without a database; no reason has a secret."""
    async with hooked() as hook, hooked() as other:
        other.answers = [web.Response(status=403)]
        url = f"{hook.url}/S3CRET, {other.url}/S3CRET"
        well, lines = told(await tried(Settings.model_validate({"notify_webhook_url": url})))
    assert not well
    assert lines == ["console: sent", "webhook: sent", "webhook-2: not sent: HTTP 403 Forbidden"]
    assert "S3CRET" not in "".join(lines)
    assert told(await tried(Settings.model_validate({}))) == (True, ["console: sent"])
