"""The channels of `streamproc notify`, each against a real receiver: what arrives, and what becomes of what does not."""

from __future__ import annotations

import asyncio
import hmac
import json
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path

import pytest
import structlog
import trustme
from aiohttp import web

from streamproc.kafka.broker import free_port
from streamproc.notify.channels import Accepted, Answer, Later, Refused
from streamproc.notify.console import ConsoleChannel
from streamproc.notify.mail import EmailChannel, Server
from streamproc.notify.webhook import WebhookChannel, judged
from streamproc.notify.wording import subject, text
from streamproc.store.deliveries import Change, Message
from tests.certificates import written
from tests.receivers import Mailbox, hooked, mailed

FROM, TO = "alarms@plant.example", ("ann@plant.example", "bob@plant.example")
#: Far longer than a receiver on this machine takes, beside others' work.
LONG_S = 60.0


def change(
    severity: str = "CRITICAL", title: str = "CRITICAL: Caldera 3 está alta", number: int = 0
) -> Change:
    """One change of a boiler."""
    return Change(
        f"n{number}", f"e{number}", "boiler-3", "Boiler 3", "d1", "Hall A", "north",
        severity, 1_700_000_000_001 + number, title, "9 bar, above 8.\n.Open the valve.",
    )  # fmt: skip


def message(*changes: Change, threads: tuple[str, ...] = ("m1",), attempts: int = 0) -> Message:
    """A message of the device d1."""
    return Message("m1", "x", threads, "device:d1", changes or (change(),), attempts)


async def posted(url: str, given: Message, secret: str | None = None, timeout_s: float = LONG_S) -> Answer:
    """What a webhook says to a message."""
    channel = WebhookChannel("webhook", url, secret, timeout_s)
    try:
        return await channel.send(given)
    finally:
        await channel.close()


async def test_a_webhook_gets_what_the_documentation_says() -> None:
    """The body, an identity that is the same at each attempt, and a signature that the secret makes."""
    async with hooked() as hook:
        for attempts in (0, 1):
            given = message(change(), change("NORMAL", "over", 5), threads=("m0",), attempts=attempts)
            assert await posted(hook.url, given, "s3cret") == Accepted()
    (first, again) = hook.requests
    assert first[1] == again[1]
    headers, body = again
    assert (headers["Idempotency-Key"], headers["X-Streamproc-Attempt"]) == ("m1", "2")
    signed = f"{headers['X-Streamproc-Timestamp']}.".encode() + body
    assert headers["X-Streamproc-Signature"] == f"v1={hmac.new(b's3cret', signed, sha256).hexdigest()}"
    told = json.loads(body)
    assert (told["id"], told["group_id"], told["severity"]) == ("m1", "m0", "CRITICAL")
    assert told["subject"] == "CRITICAL: 2 changes at Hall A, back to normal"
    assert told["scope"] == {"kind": "device", "id": "d1", "name": "Hall A", "site": "north"}
    assert told["changes"][0] == {
        "notification_id": "n0",
        "event_id": "e0",
        "kind": "change",
        "sensor": "boiler-3",
        "name": "Boiler 3",
        "device": "d1",
        "severity": "CRITICAL",
        "at": "2023-11-14T22:13:20.001+00:00",
        "title": "CRITICAL: Caldera 3 está alta",
        "message": "9 bar, above 8.\n.Open the valve.",
    }


async def test_a_webhook_without_a_secret_signs_nothing() -> None:
    """An empty signature would look like one."""
    async with hooked() as hook:
        await posted(hook.url, message())
    assert not [name for name in hook.requests[0][0] if name.startswith("X-Streamproc-S")]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, Accepted), (204, Accepted), (302, Refused), (400, Refused), (401, Refused), (404, Refused),
     (408, Later), (410, Refused), (425, Later), (429, Later), (500, Later), (503, Later)],
)  # fmt: skip
async def test_a_status_says_what_becomes_of_the_message(status: int, kind: type[Answer]) -> None:
    """What the receiver may take later is kept; a redirect, and what is wrong with the message itself, is not."""
    async with hooked() as hook:
        hook.answers = [web.Response(status=status, headers={"Location": hook.url})]
        answer = await posted(hook.url, message())
        assert isinstance(answer, kind)
        assert len(hook.requests) == 1


def test_retry_after_is_seconds_or_a_date() -> None:
    """Anything else is as if it were not there."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    answers = [judged(429, None, said) for said in ("7", date, "soon", None, "-1")]
    waits = [answer.after_s for answer in answers if isinstance(answer, Later)]
    assert waits[0] == 7.0
    assert waits[1] is not None
    assert 30 < waits[1] <= 100
    assert waits[2:] == [None, None, None]


async def test_a_webhook_that_is_away_or_slow_gets_it_later() -> None:
    """The reason names the host; what else is in the URL is nobody's business."""
    port = free_port()
    answer = await posted(f"http://user:word@127.0.0.1:{port}/T0KEN?key=T0KEN", message())
    assert isinstance(answer, Later)
    assert answer.reason.startswith(f"127.0.0.1:{port}: cannot connect")
    async with hooked() as hook:
        hook.open.clear()
        slow = await posted(f"{hook.url}/T0KEN", message(), timeout_s=0.2)
    assert isinstance(slow, Later)
    assert "no answer within 0.2 s" in slow.reason
    assert "T0KEN" not in f"{answer}{slow}"
    assert "word" not in answer.reason


def contexts(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS, and the authority that its clients trust."""
    files = written(trustme.CA(), folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    return context, files.authority


def server(mailbox: Mailbox, **more: object) -> Server:
    """How the mail server is reached, without TLS unless `more` says so."""
    return Server(**{"host": "127.0.0.1", "port": mailbox.port, "tls": "off", "timeout_s": LONG_S, **more})  # type: ignore[arg-type]


async def test_a_mail_is_one_that_mail_programs_thread() -> None:
    """Its identity is the message's; it refers to the mails that began the threads; its text is whole in any alphabet."""
    async with mailed() as mailbox:
        channel = EmailChannel(server(mailbox), FROM, TO, "es")
        given = message(change(), change("NORMAL", "over", 5), threads=("m0", "m-1", "m1"))
        assert await channel.send(given) == Accepted()
        await channel.send(message(change(title="Hot\r\nBcc: eve@evil.example\x00 " + "x" * 300)))
    ((receivers, mail), (_, injected)) = mailbox.mails
    assert receivers == list(TO)
    assert (mail["From"], mail["To"]) == (FROM, ", ".join(TO))
    assert mail["Message-ID"] == "<m1@plant.example>"
    assert mail["In-Reply-To"] == "<m0@plant.example>"
    assert mail["References"] == "<m0@plant.example> <m-1@plant.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Subject"] == "CRÍTICO: 2 cambios en Hall A, de vuelta a la normalidad"
    body = mail.get_content()
    assert "2023-11-14 22:13:20 UTC  CRITICAL: Caldera 3 está alta" in body
    assert "\n.Open the valve." in body.replace("\r\n", "\n")
    assert injected["Bcc"] is None
    assert injected["References"] is None
    assert len(injected["Subject"]) <= 150


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_mail_goes_over_tls_after_a_login(tls: str, tmp_path: Path) -> None:
    """And not where the certificate is somebody else's; no error has the password."""
    context, authority = contexts(tmp_path / "right")
    _, stranger = contexts(tmp_path / "wrong")
    async with mailed(context, at_once=tls == "tls") as mailbox:
        known = server(mailbox, tls=tls, ca_file=authority, login=("ann", "s3cret"))
        assert await EmailChannel(known, FROM, TO).send(message()) == Accepted()
        assert len(mailbox.mails) == 1
        assert "s3cret" not in repr(known)
        unknown = server(mailbox, tls=tls, ca_file=stranger, login=("ann", "s3cret"))
        answer = await EmailChannel(unknown, FROM, TO).send(message())
        assert isinstance(answer, Later)
        assert "CERTIFICATE_VERIFY_FAILED" in answer.reason
        mailbox.replies["AUTH"] = "535 who are you"
        answer = await EmailChannel(known, FROM, TO).send(message())
        assert isinstance(answer, Later)
        assert answer.reason.endswith("login refused: 535 who are you")
    assert len(mailbox.mails) == 1


async def test_a_login_is_not_sent_where_there_is_no_tls() -> None:
    """A server that does not offer STARTTLS gets neither name nor mail."""
    async with mailed() as mailbox:
        answer = await EmailChannel(server(mailbox, tls="starttls", login=("ann", "s")), FROM, TO).send(
            message()
        )
    assert isinstance(answer, Later)
    assert "STARTTLS" in answer.reason
    assert not [command for command in mailbox.commands if command.startswith(("AUTH", "MAIL"))]


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        ({"RCPT": "550 nobody"}, Refused),
        ({"RCPT": "450 busy"}, Later),
        ({"RCPT TO:<ANN": "550 nobody", "RCPT TO:<BOB": "450 busy"}, Later),
        ({"RCPT TO:<ANN": "550 nobody"}, Accepted),
        ({"MAIL": "550 not you"}, Refused),
        ({"MAIL": "421 closing"}, Later),
        ({"DATA": "451 full"}, Later),
        ({"END": "552 too long"}, Refused),
        ({"END": "451 later"}, Later),
        ({"EHLO": "554 no", "HELO": "554 no"}, Later),
        ({"QUIT": "500 what"}, Accepted),
    ],
)
async def test_a_reply_says_what_becomes_of_the_mail(replies: dict[str, str], kind: type[Answer]) -> None:
    """What one of the receivers has is sent, and told of; how the server takes leave changes nothing."""
    async with mailed() as mailbox:
        mailbox.replies = replies
        answer = await EmailChannel(server(mailbox), FROM, TO).send(message())
        assert isinstance(answer, kind)
        assert len(mailbox.mails) == (kind is Accepted)
        if isinstance(answer, Accepted) and "QUIT" not in replies:
            assert answer.note is not None
            assert "ann@plant.example (550 nobody)" in answer.note


async def test_a_mail_that_was_given_up_does_not_go_out() -> None:
    """The connection is cut under it, wherever the server stands still."""
    for command in ("EHLO", "RCPT", "DATA"):
        async with mailed() as mailbox:
            mailbox.silent = command
            sending = asyncio.create_task(EmailChannel(server(mailbox), FROM, TO).send(message()))
            await mailbox.reached.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await asyncio.wait_for(mailbox.gone.wait(), LONG_S)
            assert mailbox.mails == []


async def test_a_mail_server_that_is_away_or_slow_gets_it_later() -> None:
    """Each with its reason."""
    away = Server("127.0.0.1", free_port(), "off", timeout_s=LONG_S)
    answer = await EmailChannel(away, FROM, TO).send(message())
    assert isinstance(answer, Later)
    assert "refused" in answer.reason.lower()
    async with mailed() as mailbox:
        mailbox.silent = "MAIL"
        answer = await EmailChannel(server(mailbox, timeout_s=0.2), FROM, TO).send(message())
    assert answer == Later(f"127.0.0.1:{mailbox.port}: no answer within 0.2 s")


async def test_the_console_has_a_line_for_each_change() -> None:
    """Alarms as warnings, and what they belong to."""
    with structlog.testing.capture_logs() as lines:
        assert await ConsoleChannel().send(message(change(), change("NORMAL", "over", 5))) == Accepted()
    assert [(line["log_level"], line["title"]) for line in lines] == [
        ("warning", "CRITICAL: Caldera 3 está alta"),
        ("info", "over"),
    ]
    assert {line["group_id"] for line in lines} == {"m1"}


def test_a_message_of_one_change_has_its_title() -> None:
    """Of several, how many there are and where; what follows an earlier one says so."""
    assert subject(message(), "en") == "CRITICAL: Caldera 3 está alta"
    assert (
        subject(message(change("WARN"), change("NORMAL")), "en")
        == "WARNING: 2 changes at Hall A, back to normal"
    )
    assert subject(message(change("NORMAL"), change("WARN")), "es") == "AVISO: 2 cambios en Hall A"
    others = message(change("WARN"), replace(change("NORMAL"), sensor="other"))
    assert subject(others, "en") == "WARNING: 2 changes at Hall A"
    assert "goes on with" not in text(message(), "en")
    assert "goes on with" in text(message(threads=("m0",)), "en")
