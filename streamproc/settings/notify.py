"""Notifications: who is told, by which channels, and how changes are grouped."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

CONSOLE, WEBHOOK, EMAIL = "console", "webhook", "email"
#: Channels of those who are told of what nobody has acknowledged.
ESCALATION = "escalation-"
_KINDS = (CONSOLE, WEBHOOK, EMAIL, ESCALATION + WEBHOOK, ESCALATION + EMAIL)


class NotifySettings(BaseSettings):
    """Notifications: who is told, by which channels, and how changes are grouped."""

    notify_channels: str | None = Field(
        None,
        alias="STREAMPROC_NOTIFY_CHANNELS",
        description="Channels of `streamproc notify`: `console`, `webhook`, `email`, `escalation-webhook`,"
        " `escalation-email`; by default `console` and those that have their settings"
        " ([notifications](docs/notifications.md)).",
    )
    notify_min_severity: Literal["NORMAL", "WARN", "CRITICAL"] = Field(
        "WARN",
        alias="STREAMPROC_NOTIFY_MIN_SEVERITY",
        description="Lowest severity that people are told of; whoever heard of an alarm also hears of its end.",
    )
    notify_group_by: Literal["device", "site", "sensor"] = Field(
        "device",
        alias="STREAMPROC_NOTIFY_GROUP_BY",
        description="Changes of one `device`, `site` or `sensor` go as one message.",
    )
    notify_group_seconds: float = Field(
        10.0,
        ge=0,
        le=3_600,
        alias="STREAMPROC_NOTIFY_GROUP_SECONDS",
        description="How long a message waits, from its first change on, for others of its group; 0 sends at once.",
    )
    notify_max_age_seconds: float = Field(
        21_600.0,
        ge=60,
        le=604_800,
        alias="STREAMPROC_NOTIFY_MAX_AGE_SECONDS",
        description="Older changes are no longer told; messages that fail are tried for as long.",
    )
    notify_timeout_seconds: float = Field(
        10.0,
        gt=0,
        le=60,
        alias="STREAMPROC_NOTIFY_TIMEOUT_SECONDS",
        description="How long a receiver may take to accept a message, connecting included.",
    )
    notify_webhook_url: SecretStr | None = Field(
        None,
        alias="STREAMPROC_NOTIFY_WEBHOOK_URL",
        repr=False,
        description="Where messages are posted as JSON; several URLs (comma-separated) each get all. Never shown or logged.",
    )
    notify_webhook_secret: SecretStr | None = Field(
        None,
        alias="STREAMPROC_NOTIFY_WEBHOOK_SECRET",
        repr=False,
        description="Signs what is posted (HMAC-SHA256), so that a receiver knows who sent it; never shown or logged.",
    )
    notify_email_from: str | None = Field(
        None, alias="STREAMPROC_NOTIFY_EMAIL_FROM", description="Address that e-mails come from."
    )
    notify_email_to: str | None = Field(
        None,
        alias="STREAMPROC_NOTIFY_EMAIL_TO",
        description="Addresses that e-mails go to, separated by commas.",
    )
    notify_escalation_webhook_url: SecretStr | None = Field(
        None,
        alias="STREAMPROC_NOTIFY_ESCALATION_WEBHOOK_URL",
        repr=False,
        description="Where alarms that nobody has acknowledged in time are posted, and what follows"
        " ([escalation](docs/alerts.md#escalation)). Never shown or logged.",
    )
    notify_escalation_email_to: str | None = Field(
        None,
        alias="STREAMPROC_NOTIFY_ESCALATION_EMAIL_TO",
        description="E-mail addresses for the same, separated by commas.",
    )
    smtp_host: str | None = Field(
        None, alias="STREAMPROC_SMTP_HOST", description="Mail server that takes the e-mails."
    )
    smtp_port: int = Field(587, ge=1, le=65535, alias="STREAMPROC_SMTP_PORT", description="Its port.")
    smtp_tls: Literal["starttls", "tls", "off"] = Field(
        "starttls",
        alias="STREAMPROC_SMTP_TLS",
        description="`starttls` (port 587), `tls` from the first byte on (465), or `off`: everything is sent unencrypted.",
    )
    smtp_ca_file: Path | None = Field(
        None,
        alias="STREAMPROC_SMTP_CA_FILE",
        description="PEM file of the authorities that sign the mail server's certificate; by default the system's.",
    )
    smtp_username: str | None = Field(
        None, alias="STREAMPROC_SMTP_USERNAME", description="Login at the mail server, if it needs one."
    )
    smtp_password: SecretStr | None = Field(
        None,
        alias="STREAMPROC_SMTP_PASSWORD",
        repr=False,
        description="The login's password; never shown or logged.",
    )
    notify_host: str = Field(
        "127.0.0.1",
        alias="STREAMPROC_NOTIFY_HOST",
        description="Address of the metrics and health of `streamproc notify`.",
    )
    notify_port: int = Field(
        0,
        ge=0,
        le=65535,
        alias="STREAMPROC_NOTIFY_PORT",
        description="Port of the metrics and health of `streamproc notify`; 0 turns it off.",
    )

    @field_validator("notify_min_severity", mode="before")
    @classmethod
    def _severity_upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("notify_channels")
    @classmethod
    def _channels_exist(cls, text: str | None) -> str | None:
        named = _words(text)
        if unknown := [word for word in named if word not in _KINDS]:
            raise ValueError(f"no such channel: {', '.join(unknown)}; there are {', '.join(_KINDS)}")
        if text is not None and not named:
            raise ValueError(f"names no channel; there are {', '.join(_KINDS)}")
        return text

    @field_validator("notify_webhook_url", "notify_escalation_webhook_url")
    @classmethod
    def _urls_are_some(cls, secret: SecretStr | None) -> SecretStr | None:
        for number, url in enumerate(_words(_open(secret)), 1):
            if not _is_web(url):  # the URL itself is not told: it may be all that a stranger needs
                raise ValueError(f"number {number} is no http:// or https:// URL")
        return secret

    @field_validator("notify_email_from", "notify_email_to", "notify_escalation_email_to")
    @classmethod
    def _addresses_are_some(cls, text: str | None) -> str | None:
        for address in _words(text):
            name, _, domain = address.rpartition("@")
            if not name or not domain or not address.isascii() or set(address) & set(" <>\"'\r\n\t"):
                raise ValueError(f"{address!r} is no address alone, such as alarms@plant.example")
        return text

    @model_validator(mode="after")
    def _channels_are_whole(self) -> Self:
        named = _words(self.notify_channels)
        if WEBHOOK in named and self.notify_webhook_url is None:
            raise ValueError(
                "STREAMPROC_NOTIFY_CHANNELS names webhook: it needs STREAMPROC_NOTIFY_WEBHOOK_URL"
            )
        if ESCALATION + WEBHOOK in named and self.notify_escalation_webhook_url is None:
            raise ValueError(
                "STREAMPROC_NOTIFY_CHANNELS names escalation-webhook: it needs STREAMPROC_NOTIFY_ESCALATION_WEBHOOK_URL"
            )
        wanted = ESCALATION + EMAIL in named or _words(self.notify_escalation_email_to)
        if wanted and not self._has_escalation_email:
            raise ValueError(
                "e-mail of escalations needs STREAMPROC_SMTP_HOST, STREAMPROC_NOTIFY_EMAIL_FROM and"
                " STREAMPROC_NOTIFY_ESCALATION_EMAIL_TO"
            )
        if (EMAIL in named or (self.smtp_host and not wanted)) and not self._has_email:
            raise ValueError(
                "e-mail needs STREAMPROC_SMTP_HOST, STREAMPROC_NOTIFY_EMAIL_FROM and STREAMPROC_NOTIFY_EMAIL_TO"
            )
        if (self.smtp_username is None) != (self.smtp_password is None):
            raise ValueError("STREAMPROC_SMTP_USERNAME and STREAMPROC_SMTP_PASSWORD need one another")
        if self.smtp_password is not None and self.smtp_tls == "off":
            raise ValueError("STREAMPROC_SMTP_PASSWORD is sent over TLS alone: set STREAMPROC_SMTP_TLS")
        return self

    @property
    def _has_email(self) -> bool:
        return bool(self.smtp_host and self.notify_email_from and _words(self.notify_email_to))

    @property
    def _has_escalation_email(self) -> bool:
        return bool(self.smtp_host and self.notify_email_from and _words(self.notify_escalation_email_to))

    @property
    def notify_kinds(self) -> tuple[str, ...]:
        """The kinds of channels in use, in their order here."""
        there = {
            CONSOLE: True,
            WEBHOOK: self.notify_webhook_url is not None,
            EMAIL: self._has_email,
            ESCALATION + WEBHOOK: self.notify_escalation_webhook_url is not None,
            ESCALATION + EMAIL: self._has_escalation_email,
        }
        named = _words(self.notify_channels)
        return tuple(kind for kind in _KINDS if (kind in named if named else there[kind]))

    @property
    def notify_secret(self) -> str | None:
        """What signs, as it is."""
        return _open(self.notify_webhook_secret)

    @property
    def smtp_login(self) -> tuple[str, str] | None:
        """Name and password for the mail server, as they are; None where it wants none."""
        password = _open(self.smtp_password)
        return None if self.smtp_username is None or password is None else (self.smtp_username, password)

    @property
    def notify_webhook_urls(self) -> tuple[str, ...]:
        """Where messages are posted, each once."""
        return _urls(self.notify_webhook_url)

    @property
    def notify_escalation_webhook_urls(self) -> tuple[str, ...]:
        """Where escalations are posted, each once."""
        return _urls(self.notify_escalation_webhook_url)

    @property
    def notify_email_addresses(self) -> tuple[str, ...]:
        """Whom e-mails go to, each once."""
        return tuple(dict.fromkeys(_words(self.notify_email_to)))

    @property
    def notify_escalation_email_addresses(self) -> tuple[str, ...]:
        """Whom e-mails of escalations go to, each once."""
        return tuple(dict.fromkeys(_words(self.notify_escalation_email_to)))


def _open(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _urls(secret: SecretStr | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_words(_open(secret))))


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _words(text: str | None) -> list[str]:
    return [word for word in (part.strip() for part in (text or "").split(",")) if word]
