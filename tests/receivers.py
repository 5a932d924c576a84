"""Receivers of notifications in the tests' own process: a web server and a mail server, real as far as a client can see."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

from aiohttp import web


@dataclass
class Hook:
    """A webhook's receiver: what it was sent, and what it answers to the n-th request (200 beyond)."""

    url: str = ""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[web.Response] = field(default_factory=list)
    #: Requests are answered while it is set.
    open: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        """Keep a request, and answer it."""
        self.requests.append((dict(request.headers), await request.read()))
        self.arrived.set()
        number = len(self.requests) - 1
        await self.open.wait()
        return self.answers[number] if number < len(self.answers) else web.Response()

    def identities(self) -> list[str]:
        """The identities of all that has come."""
        return [headers["Idempotency-Key"] for headers, _ in self.requests]


@asynccontextmanager
async def hooked(port: int = 0) -> AsyncIterator[Hook]:
    """A web server that takes everything posted to it."""
    hook = Hook()
    hook.open.set()
    app = web.Application()
    app.router.add_post("/{path:.*}", hook.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield hook
    finally:
        hook.open.set()
        await runner.cleanup()


@dataclass
class Mailbox:
    """A mail server: what it took, and what it says in place of taking something, by the begin of a command.

    A command in `silent` is not answered until the client goes.
    """

    port: int = 0
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)
    silent: str | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    commands: list[str] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    talks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk with one client."""
        task = asyncio.current_task()
        assert task is not None
        self.talks.add(task)
        with suppress(ConnectionError, ssl.SSLError):
            await self._talk(reader, writer)
        self.gone.set()
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receivers: list[str] = []
        writer.write(b"220 mail.example ESMTP\r\n")
        while line := await reader.readline():
            command = line.decode().strip()
            verb = command.split()[0].upper() if command else ""
            self.commands.append(command)
            if verb == self.silent:
                self.reached.set()
                await reader.read()
                return
            said = next((r for start, r in self.replies.items() if command.upper().startswith(start)), None)
            writer.write(f"{said or self._said(verb)}\r\n".encode())
            if said is None and verb == "STARTTLS":
                assert self.tls is not None
                await writer.start_tls(self.tls)
            elif said is None and verb == "RCPT":
                receivers.append(command.partition("<")[2].rstrip(">"))
            elif said is None and verb == "DATA":
                await self._take(reader, writer, receivers)
            elif verb == "QUIT":
                return

    def _said(self, verb: str) -> str:
        options = "-STARTTLS\r\n250 AUTH PLAIN" if self.tls else " AUTH PLAIN"
        known = {"EHLO": f"250-mail.example\r\n250{options}", "DATA": "354 go on", "STARTTLS": "220 go on"}
        return {**known, "AUTH": "235 welcome", "QUIT": "221 bye"}.get(verb, "250 ok")

    async def _take(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receivers: list[str]
    ) -> None:
        lines = []
        while (line := await reader.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        said = self.replies.get("END")
        if said is None and line:
            mail = message_from_bytes(b"".join(lines), policy=SMTP)
            assert isinstance(mail, EmailMessage)
            self.mails.append((list(receivers), mail))
        writer.write(f"{said or '250 taken'}\r\n".encode())


@asynccontextmanager
async def mailed(tls: ssl.SSLContext | None = None, *, at_once: bool = False) -> AsyncIterator[Mailbox]:
    """A mail server on this machine; with `tls` it offers STARTTLS, or speaks TLS from the first byte on."""
    mailbox = Mailbox(tls=None if at_once else tls)
    server = await asyncio.start_server(mailbox.serve, "127.0.0.1", 0, ssl=tls if at_once else None)
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()
        await asyncio.gather(*mailbox.talks)
