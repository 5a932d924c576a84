"""Finds out why there is no connection with Kafka: aiokafka only logs the cause.

So each configured broker is asked once more, alone, and the result is put into words that name the setting to look at.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Any

import structlog
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from streamproc.errors import KafkaRefused, KafkaUnavailable
from streamproc.kafka.clients import security
from streamproc.settings.connection import (
    CA_FILE,
    CERTIFICATE,
    KEY,
    MECHANISM,
    PASSWORD,
    PROTOCOL,
    USERNAME,
    Connection,
    Security,
)

_log = structlog.get_logger(__name__)

#: A broker that is there answers in milliseconds, over continents in half a second; there are at most four looks at it.
LOOK_S = 2.0
#: Brokers named beyond these are not asked: they are of the same cluster.
LOOKS = 3
#: Errors of OpenSSL's and Java's that tell of the client's certificate, not of the broker's.
_OURS = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "UNKNOWN_CA", "HANDSHAKE_FAILURE")
#: What a broker answers where its rules do not allow something.
FORBIDDEN = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
#: What a broker's certificate is for another name with: X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_OTHER_NAME = (62, 64)


class _Refusal(Exception):  # noqa: N818  # a finding
    """The broker is there, and does not take this client: the text says what to set."""


async def failure(kafka: Connection, error: Exception) -> KafkaUnavailable:
    """The exception to raise for a client's error, with its cause; KafkaRefused if trying again cannot help."""
    if isinstance(error, FORBIDDEN):
        return KafkaRefused(f"Kafka at {kafka}: {forbidden(kafka, error)}")
    if not isinstance(error, KafkaConnectionError):
        return KafkaUnavailable(f"Kafka at {kafka}: {error!r}")
    return await cause(kafka) or KafkaUnavailable(f"Kafka at {kafka}: {error}")


async def cause(kafka: Connection) -> KafkaUnavailable | None:
    """Why none of the configured brokers lets this client in; None if one of them does."""
    told: dict[str, list[str]] = {}
    refused = False
    for host, port, _ in collect_hosts(kafka.bootstrap, randomize=False)[:LOOKS]:
        try:
            await _look(kafka, host, port)
        except _Refusal as refusal:
            refused = True
            told.setdefault(str(refusal), []).append(f"{host}:{port}")
        except (KafkaError, OSError) as error:  # a TimeoutError is an OSError
            told.setdefault(_unreachable(error), []).append(f"{host}:{port}")
        else:
            return None
    kind = KafkaRefused if refused else KafkaUnavailable
    return kind("; ".join(f"Kafka at {', '.join(places)} {text}" for text, places in told.items()))


def look(kafka: Connection) -> None:
    """Raise KafkaRefused if no broker lets this client in; a broker that is away may still come. Needs no event loop."""
    loop = (
        asyncio.new_event_loop()
    )  # asyncio.run would leave the thread without the one that others make later
    try:
        reason = loop.run_until_complete(cause(kafka))
    finally:
        loop.close()
    if isinstance(reason, KafkaRefused):
        raise reason
    if reason is not None:
        _log.warning("no connection with Kafka yet", reason=str(reason))


def forbidden(kafka: Connection, error: Exception) -> str:
    """What the broker does not authorize this client to do."""
    user = f"the user of {USERNAME}" if kafka.security.logs_in else "this client"
    return f"{user} may not do this ({error}): give it the rights that docs/kafka-security.md lists"


async def _look(kafka: Connection, host: str, port: int) -> None:
    """Connect, log in and ask something; raises _Refusal, KafkaError or OSError."""
    try:
        connection = await _connected(host, port, security(kafka))
    except (KafkaError, OSError) as error:
        raise await _judged(kafka.security, host, port, error) from error
    try:
        await connection.send(MetadataRequest([]))
    except KafkaError as error:
        # A broker answers what versions it speaks before it knows who asks; then it closes on who has not logged in.
        raise await _judged(kafka.security, host, port, error) from error
    finally:
        await _closed(connection)


async def _closed(connection: AIOKafkaConnection) -> None:
    await asyncio.wait({connection.close()}, timeout=LOOK_S)


async def _connected(host: str, port: int, options: dict[str, Any]) -> AIOKafkaConnection:
    connection = AIOKafkaConnection(
        host, port, client_id="streamproc-look", request_timeout_ms=int(LOOK_S * 1000), **options
    )
    await connection.connect()
    return connection


async def _judged(its: Security, host: str, port: int, error: Exception) -> Exception:
    """The error, or a _Refusal where it, or what the broker says to others, tells what is wrong."""
    if text := _told_by(its, error):
        return _Refusal(text)
    if _is_unreachable(error):
        return error
    if its.encrypted and await _speaks(host, port, "PLAINTEXT"):
        return _Refusal(f"takes no TLS: set {PROTOCOL} to {'SASL_PLAINTEXT' if its.logs_in else 'PLAINTEXT'}")
    if not its.encrypted and await _shakes_hands(host, port):
        return _Refusal(f"speaks TLS: set {PROTOCOL} to {'SASL_SSL' if its.logs_in else 'SSL'}, or SASL_SSL")
    if not its.logs_in and (mechanisms := await _mechanisms(its, host, port)):
        protocol = "SASL_SSL" if its.encrypted else "SASL_PLAINTEXT"
        return _Refusal(f"wants a login ({', '.join(mechanisms)}): set {PROTOCOL} to {protocol}")
    return error


def _told_by(its: Security, error: BaseException | None) -> str | None:
    """What is wrong, where the error itself, or what it came of, says so."""
    if error is None:
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error)
    if isinstance(error, ssl.SSLError) and any(what in str(error).upper() for what in _OURS):
        if its.certificate is None:
            return f"wants a client's certificate: set {CERTIFICATE} and {KEY}"
        return f"does not take the certificate in {CERTIFICATE}: its authority has to be one that the broker trusts"
    return _told_of_login(its, error) or _told_by(its, error.__cause__)


def _told_of_login(its: Security, error: BaseException) -> str | None:
    if isinstance(error, SaslAuthenticationFailed):
        return (
            f"refuses the login: look at {USERNAME} and {PASSWORD}, and whether the user has {its.mechanism}"
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"does not take {its.mechanism}: set {MECHANISM} to another"
    if isinstance(error, IllegalSaslStateError):
        return f"asks for no login: set {PROTOCOL} to {'SSL' if its.encrypted else 'PLAINTEXT'}"
    return None


def _untrusted(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OTHER_NAME:
        return f"has a certificate for another name ({error.verify_message}): name it in KAFKA_BOOTSTRAP as there"
    return f"has a certificate that is not trusted ({error.verify_message}): set {CA_FILE} to its authority's"


def _is_unreachable(error: Exception) -> bool:
    """Whether there was nobody to talk with: then other protocols need not be tried."""
    return isinstance(error, (socket.gaierror, ConnectionRefusedError, TimeoutError))


def _unreachable(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "is no host that is known here: look at KAFKA_BOOTSTRAP"
    if isinstance(error, ConnectionRefusedError):
        return "refuses connections: nothing listens there"
    if isinstance(error, TimeoutError):
        return f"does not answer within {LOOK_S:g} s"
    return str(error) or repr(error)


async def _speaks(host: str, port: int, protocol: str) -> bool:
    """Whether a broker tells its versions there over this protocol, for which nobody has to log in."""
    try:
        await _closed(await _connected(host, port, {"security_protocol": protocol}))
    except (KafkaError, OSError):
        return False
    return True


async def _shakes_hands(host: str, port: int) -> bool:
    """Whether TLS is spoken there, by whomever: nothing is told to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(LOOK_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):  # who wants a certificate of the client says so now
        await writer.wait_closed()
    return True


async def _mechanisms(its: Security, host: str, port: int) -> list[str]:
    """The ways to log in that are offered there; none where none is asked for."""
    try:
        connection = await _connected(host, port, security(Connection(host, its)))
    except (KafkaError, OSError):
        return []
    try:
        answer = await connection.send(SaslHandShakeRequest("SCRAM-SHA-512"))
    except (KafkaError, OSError):
        return []
    finally:
        await _closed(connection)
    return list(answer.enabled_mechanisms)
