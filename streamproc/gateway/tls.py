"""The gateway's TLS: its certificate, those of its clients, and new ones without a restart."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from streamproc.errors import SettingsError

if TYPE_CHECKING:
    from streamproc.settings import Settings

log = structlog.get_logger()

#: How often the files are looked at: a new certificate is put there days before the old one ends.
LOOK_SECONDS = 5.0


class Certificates:
    """The context that connections are made with; `renew` has new ones use what is in the files now."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        #: What is listened with. It stays the same; a connection's handshake swaps in the newest.
        self.context = self._load()
        self._newest = self.context
        self.context.sni_callback = self._swap
        self._seen = self._stamps()

    def renew(self) -> bool:
        """Read the files again; where they are wrong, keep what there is, and log why. Tells whether they were right."""
        self._seen = self._stamps()
        try:
            self._newest = self._load()
        except SettingsError as error:
            log.warning("tls_not_renewed", reason=str(error))
            return False
        log.info("tls_renewed", certificate=str(self._certificate))
        return True

    async def follow(self, every_seconds: float = LOOK_SECONDS) -> None:
        """Renew whenever the files have changed, for ever."""
        while True:
            await asyncio.sleep(every_seconds)
            if self._stamps() != self._seen:
                self.renew()

    def _swap(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if connection.context is not self._newest:
            connection.context = self._newest

    def _stamps(self) -> list[tuple[int, int] | None]:
        return [_stamp(path) for path in (self._certificate, self._key, self._client_ca) if path]

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        _must_be_there("GATEWAY_TLS_CERTIFICATE", self._certificate)
        _must_be_there("GATEWAY_TLS_KEY", self._key)
        try:
            # An empty password is refused; without one OpenSSL would ask on the terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
        except ssl.SSLError as error:
            raise SettingsError(self._wrong_pair(error)) from error
        if self._client_ca is not None:
            _must_be_there("GATEWAY_TLS_CLIENT_CA", self._client_ca)
            try:
                context.load_verify_locations(self._client_ca)
            except ssl.SSLError as error:
                raise SettingsError(
                    f"GATEWAY_TLS_CLIENT_CA: {self._client_ca} holds no certificate as PEM"
                ) from error
            # Not required in the handshake: health checks come without one, and who lacks one is told so in words.
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _wrong_pair(self, error: ssl.SSLError) -> str:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"GATEWAY_TLS_KEY: {self._key} is not the key of the certificate in {self._certificate}"
        return (
            f"GATEWAY_TLS_CERTIFICATE, GATEWAY_TLS_KEY: {self._certificate} must hold a certificate and {self._key} its key,"
            f" as PEM, the key not encrypted ({error.reason or 'not understood'})"
        )


def certificates(settings: Settings) -> Certificates | None:
    """What the settings name, None where they name nothing; raises SettingsError where a file is wrong."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return Certificates(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)


def _must_be_there(setting: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise SettingsError(f"{setting}: cannot read {path}: {error.strerror}") from error


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
