"""Asks a stage on this machine for its health: the health check of containers, which then need no curl."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Literal

from streamproc.errors import SettingsError
from streamproc.settings import Settings

StageName = Literal["gateway", "worker", "sink", "notify", "console", "jobs"]

#: Longer than the 2 s that the gateway's /ready may take to ask Kafka, shorter than the 5 s that a container gives its check.
TIMEOUT_S = 3.0
#: Who listens on all addresses is asked on the loopback's.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nothing is bound here


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a stage is as asked for, and a line that tells it."""

    ok: bool
    text: str


def ask(settings: Settings, stage: StageName, *, ready: bool = False, timeout_s: float = TIMEOUT_S) -> Answer:
    """GET the stage's /health, or /ready; raises SettingsError where it listens nowhere."""
    host, port = _address(settings, stage)
    path = "/ready" if ready else "/health"
    over_tls = stage == "gateway" and settings.tls_certificate is not None
    place = f"http{'s' if over_tls else ''}://{f'[{host}]' if ':' in host else host}:{port}{path}"
    # No urllib: it would go through a proxy that the environment names.
    connection = (
        _over_tls(host, port, timeout_s) if over_tls else HTTPConnection(host, port, timeout=timeout_s)
    )
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        said = _said(response.read())
    except (OSError, HTTPException) as error:
        return Answer(ok=False, text=f"{stage}: no answer from {place}: {error or type(error).__name__}")
    finally:
        connection.close()
    ok = response.status == HTTPStatus.OK
    return Answer(ok, f"{stage}: {said}" if ok else f"{stage}: {response.status} from {place}: {said}")


def _over_tls(host: str, port: int, timeout_s: float) -> HTTPConnection:
    """Unchecked: the certificate has the name that devices call, not the loopback's, and nothing secret is asked."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=timeout_s, context=context)


def _address(settings: Settings, stage: StageName) -> tuple[str, int]:
    host, port, variable = {
        "gateway": (settings.gateway_host, settings.gateway_port, "GATEWAY_PORT"),
        "worker": (settings.worker_host, settings.worker_port, "STREAMPROC_WORKER_PORT"),
        "sink": (settings.sink_host, settings.sink_port, "STREAMPROC_SINK_PORT"),
        "notify": (settings.notify_host, settings.notify_port, "STREAMPROC_NOTIFY_PORT"),
        "console": (settings.console_host, settings.console_port, "CONSOLE_PORT"),
        "jobs": (settings.jobs_host, settings.jobs_port, "STREAMPROC_JOBS_PORT"),
    }[stage]
    if not port:
        raise SettingsError(f"{variable}: without a fixed port nobody can ask the {stage} how it is")
    return _LOOPBACK.get(host, host), port


def _said(body: bytes) -> str:
    """What the answer says for people: its detail, or its status."""
    try:
        answer = json.loads(body)
        return str(answer.get("detail") or answer["status"])
    except (ValueError, KeyError, AttributeError):
        return body[:200].decode(errors="replace")
