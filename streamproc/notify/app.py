"""The process `streamproc notify`: a sender for each channel, over one store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic

import structlog

from streamproc.monitor import Address, Told, serving
from streamproc.notify import health
from streamproc.notify.channels import Channel
from streamproc.notify.console import ConsoleChannel
from streamproc.notify.mail import EmailChannel, Server
from streamproc.notify.sender import Sender, Times
from streamproc.notify.webhook import WebhookChannel
from streamproc.records import Severity
from streamproc.settings import Settings
from streamproc.settings.notify import CONSOLE, EMAIL, ESCALATION, WEBHOOK
from streamproc.store import connect
from streamproc.store.closing import CLOSE_S, closed_in_time
from streamproc.store.deliveries import Policy

#: What is on its way when the process is asked to end has this long; the whole stop has 5 s.
STOP_S = 4.0

_log = structlog.get_logger(__name__)


def channels(settings: Settings) -> list[Channel]:
    """The channels that the settings name; of several webhooks, the second and later ones are numbered."""
    kinds, found = settings.notify_kinds, list[Channel]()
    if CONSOLE in kinds:
        found.append(ConsoleChannel())
    if WEBHOOK in kinds:
        found += webhooks(settings, WEBHOOK, settings.notify_webhook_urls)
    if EMAIL in kinds:
        found.append(email(settings))
    if ESCALATION + WEBHOOK in kinds:
        found += webhooks(settings, ESCALATION + WEBHOOK, settings.notify_escalation_webhook_urls)
    if ESCALATION + EMAIL in kinds:
        found.append(email(settings, ESCALATION + EMAIL))
    return found


def webhooks(settings: Settings, name: str, urls: Sequence[str]) -> list[Channel]:
    """The channels that post to these URLs."""
    return [
        WebhookChannel(
            name if number == 1 else f"{name}-{number}",
            url,
            settings.notify_secret,
            settings.notify_timeout_seconds,
            settings.language,
        )
        for number, url in enumerate(urls, 1)
    ]


def email(settings: Settings, name: str = EMAIL) -> EmailChannel:
    """The e-mail channel with this name; the settings must have what it needs."""
    assert settings.smtp_host is not None
    assert settings.notify_email_from is not None
    server = Server(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_tls,
        settings.smtp_ca_file,
        settings.smtp_login,
        settings.notify_timeout_seconds,
    )
    ordinary = name == EMAIL
    addresses = settings.notify_email_addresses if ordinary else settings.notify_escalation_email_addresses
    return EmailChannel(server, settings.notify_email_from, addresses, settings.language, name)


def policy(settings: Settings, channel: str) -> Policy:
    """Which notifications a channel tells, by these settings."""
    return Policy(
        channel,
        Severity[settings.notify_min_severity],
        settings.notify_group_by,
        round(settings.notify_group_seconds * 1000),
        round(settings.notify_max_age_seconds * 1000),
        for_escalations=channel.startswith(ESCALATION),
    )


async def run(settings: Settings, stop: asyncio.Event) -> bool:
    """Tell people until `stop` is set; returns whether everything under way at that moment has ended."""
    store = connect(settings, process="notify")
    times = Times(settings.notify_timeout_seconds)
    ways = channels(settings)
    senders = [Sender(channel, store, policy(settings, channel.name), times) for channel in ways]
    address = Address(settings.notify_host, settings.notify_port, "STREAMPROC_NOTIFY_PORT")
    told = Told("notify", lambda: health.checks(senders), lambda: health.gauges(senders))
    async with serving(address, told):
        _log.info("notifying", channels=[channel.name for channel in ways], database=settings.database_place)
        left_s: float | None = None
        try:
            left_s = await _work(senders, stop)
        finally:
            for channel in ways:
                await channel.close()
            closed = await closed_in_time(store, (left_s or 0.0) + CLOSE_S)
    return left_s is not None and closed


async def _work(senders: Sequence[Sender], stop: asyncio.Event) -> float | None:
    """Have all senders work; the first error of one ends them all.

    Gives the seconds of STOP_S that were left when all had come to their end, None where one had not.
    """
    tasks = [asyncio.create_task(sender.run(stop), name=sender.channel.name) for sender in senders]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        asked = monotonic()
        _, late = await asyncio.wait(tasks, timeout=STOP_S)
        if late:
            _log.warning(
                "ended before all was written down", channels=sorted(task.get_name() for task in late)
            )
        for task in tasks:
            if task.done():
                task.result()
        return None if late else max(STOP_S - (monotonic() - asked), 0.0)
    finally:
        stopped.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, stopped, return_exceptions=True)
