"""Messages as e-mails, by the standard library's SMTP client in a thread.

It copes with faulty servers, but it cannot be stopped: each of its waits is bounded, their sum is not. So when a call is
given up, its socket is shut down, and nothing goes out after that.
"""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from threading import Lock, Thread
from typing import Literal

from streamproc.notify.channels import Accepted, Answer, Later, Refused
from streamproc.notify.wording import subject, text
from streamproc.records import Language
from streamproc.store.deliveries import Message

#: Replies from here on are for good (RFC 5321, 4.2.1), but for those about the login, which an operator mends.
_FOR_GOOD = 500
#: What an error tells of a server's reply.
_REPLY_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Server:
    """The mail server and the login (name, password), which is never shown."""

    host: str
    port: int = 587
    tls: Literal["starttls", "tls", "off"] = "starttls"
    ca_file: Path | None = None
    login: tuple[str, str] | None = field(default=None, repr=False)
    timeout_s: float = 10.0


class EmailChannel:
    """Sends one mail for each message, to all addresses; threads use the header References."""

    def __init__(
        self,
        server: Server,
        sender: str,
        receivers: tuple[str, ...],
        language: Language = "en",
        name: str = "email",
    ) -> None:
        self.name = name
        self._server, self._sender, self._receivers = server, sender, receivers
        self._language = language

    async def send(self, message: Message) -> Answer:
        """Hand a mail over to the server."""
        mail = composed(message, self._sender, self._receivers, self._language)
        delivery = _Delivery(self._server, self._sender, self._receivers, mail.as_bytes())
        try:
            return await _in_thread(delivery.run)
        except asyncio.CancelledError:
            delivery.give_up()
            raise

    async def close(self) -> None:
        """Each mail has a connection of its own: nothing is open."""


def composed(message: Message, sender: str, receivers: tuple[str, ...], language: Language) -> EmailMessage:
    """The mail: the same at each attempt except for its Date; its Message-ID is the message's identity."""
    domain = sender.rpartition("@")[2]
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = ", ".join(receivers)
    mail["Subject"] = subject(message, language)
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = f"<{message.message_id}@{domain}>"
    before = [f"<{thread}@{domain}>" for thread in message.threads if thread != message.message_id]
    if before:
        mail["In-Reply-To"] = before[0]
        mail["References"] = " ".join(before)
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's answering machine answers
    mail.set_content(text(message, language), cte="quoted-printable")
    return mail


class _Delivery:
    """One mail on its way, in a thread, until it is given up."""

    def __init__(self, server: Server, sender: str, receivers: tuple[str, ...], mail: bytes) -> None:
        self._server, self._sender, self._receivers, self._mail = server, sender, receivers, mail
        self._client: smtplib.SMTP | None = None
        self._lock = Lock()
        self._given_up = False

    def give_up(self) -> None:
        """Let nothing more go out."""
        with self._lock:
            self._given_up = True
            connection = None if self._client is None else self._client.sock
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def run(self) -> Answer:
        """Hand the mail over, and say how that went."""
        place = f"{self._server.host}:{self._server.port}"
        try:
            return self._answer()
        except (smtplib.SMTPException, OSError) as error:
            return failed(error, place, self._server.timeout_s)

    def _answer(self) -> Answer:
        server = self._server
        context = None if server.tls == "off" else ssl.create_default_context(cafile=server.ca_file)
        client = self._connected(context)
        try:
            if server.tls == "starttls":
                client.starttls(context=context)
            if server.login is not None:
                client.login(*server.login)
            self._watch(client)
            refused = client.sendmail(self._sender, list(self._receivers), self._mail)
            with suppress(OSError, smtplib.SMTPException):
                client.putcmd("quit")  # the mail is accepted: how the server takes leave changes nothing
        finally:
            client.close()
        if refused:
            told = ", ".join(f"{address} ({_reply(*reply)})" for address, reply in refused.items())
            return Accepted(f"{server.host}:{server.port}: not taken for {told}")
        return Accepted()

    def _connected(self, context: ssl.SSLContext | None) -> smtplib.SMTP:
        server, name = self._server, socket.gethostname()
        where = (server.host, server.port, name)
        client = (
            smtplib.SMTP_SSL(*where, timeout=server.timeout_s, context=context)
            if server.tls == "tls"
            else smtplib.SMTP(*where, timeout=server.timeout_s)
        )
        self._watch(client)
        return client

    def _watch(self, client: smtplib.SMTP) -> None:
        """Know the socket that `give_up` shuts down; raises where that has come before."""
        with self._lock:
            self._client = client
            if self._given_up:
                client.close()
                raise TimeoutError


def failed(error: OSError, place: str, timeout_s: float) -> Answer:
    """What an SMTP error means for the mail; errors of the server or login may pass, since an operator can fix them."""
    answer: Answer = Later(f"{place}: {getattr(error, 'strerror', None) or error}")
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        replies = list(error.recipients.values())
        told = f"{place}: {'; '.join(dict.fromkeys(_reply(*reply) for reply in replies))}"
        answer = Later(told) if any(code < _FOR_GOOD for code, _ in replies) else Refused(told)
    elif isinstance(error, smtplib.SMTPAuthenticationError):
        answer = Later(f"{place}: login refused: {_reply(error.smtp_code, error.smtp_error)}")
    elif isinstance(error, smtplib.SMTPResponseException):
        told = f"{place}: {_reply(error.smtp_code, error.smtp_error)}"
        of_mail = isinstance(error, smtplib.SMTPSenderRefused | smtplib.SMTPDataError)
        answer = Refused(told) if of_mail and error.smtp_code >= _FOR_GOOD else Later(told)
    elif isinstance(error, ssl.SSLError):
        answer = Later(f"{place}: TLS failed: {error.reason or error}")
    elif isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        answer = Later(f"{place}: no answer within {timeout_s:g} s")
    return answer


def _reply(code: int, said: bytes | str) -> str:
    """A server's reply, as far as it tells."""
    words = said.decode(errors="replace") if isinstance(said, bytes) else said
    return " ".join(f"{code} {words}".split())[:_REPLY_CHARACTERS]


async def _in_thread(call: Callable[[], Answer]) -> Answer:
    """The call's result, out of a thread that nobody waits for: neither who gives it up nor the end of the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Answer] = loop.create_future()

    def settle(answer: Answer | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        elif answer is not None:
            done.set_result(answer)

    def run() -> None:
        answer, failed = None, None
        try:
            answer = call()
        except BaseException as error:  # noqa: BLE001  # it is raised where it is waited for
            failed = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, answer, failed)

    Thread(target=run, name="smtp", daemon=True).start()
    return await done
