"""Who may write, decided: limits, keys and certificates at the head, ownership for each reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web
from multidict import istr

from streamproc.gateway.access import Writer
from streamproc.gateway.access.callers import Callers, make_limit
from streamproc.gateway.access.certificates import names
from streamproc.gateway.access.keys import Holder, digest
from streamproc.gateway.access.sensors import UNKNOWN
from streamproc.gateway.answers import Fault
from streamproc.gateway.problems import Problem, only, unavailable
from streamproc.process import epoch_ms

if TYPE_CHECKING:
    from streamproc.gateway.access.following import Known
    from streamproc.gateway.access.metrics import Counts
    from streamproc.settings import Settings

API_KEY, DEVICE_KEY = istr("X-API-Key"), istr("X-Device-Key")
#: The one endpoint that is not of the legacy kind: what is sent there names its device.
PACKETS = "/ingest/packets"
_MISSING = {
    "device": (
        "send a key of the packet's device in the header X-Device-Key",
        'DeviceKey header="X-Device-Key"',
    ),
    "either": (
        "send a key of the sensor's device in the header X-Device-Key, or the API key in X-API-Key",
        'DeviceKey header="X-Device-Key", ApiKey header="X-API-Key"',
    ),
    "api": ("send the key in the header X-API-Key", 'ApiKey header="X-API-Key"'),
}


class Gate:
    """Lets a request in or raises why not, and gives what its readings are to be checked by."""

    def __init__(
        self, settings: Settings, known: Known, counts: Counts, clock: Callable[[], float] = monotonic
    ) -> None:
        self._known = known
        self._clock = clock
        self._counts = counts
        self._required = settings.device_keys == "required"
        self._certified = settings.tls_client_ca is not None
        self._auto_register = settings.auto_register
        self._api_key = digest(settings.ingest_api_key) if settings.ingest_api_key else None
        #: Those who call, writers or not, by their addresses.
        self.callers = Callers(settings, counts, clock)
        self._devices = make_limit(
            "rate_limit_device", "packets of this device", settings.rate_limit_device, counts
        )
        self._anyone = self._writer(None)

    def admit(self, request: web.Request) -> Writer:
        """Say who sends the request, asked once of each; raises the Problem of one who may not write at all."""
        now = self._clock()
        address = self.callers.limit(request, now)
        if self._certified and not _certificate(request):
            self._counts.failures.labels("certificate").inc()
            raise Problem("certificate-missing", "send a certificate of an authority that the gateway trusts")
        device = self._authenticate(request, address, now)
        if not self._known.read and (self._required or not self._auto_register):
            raise _unread()
        if device is None:
            return self._anyone
        if self._devices.on and (fault := self._devices.look(device, now)):
            raise self._devices.problem(fault)
        return self._writer(device)

    def _authenticate(self, request: web.Request, address: str, now: float) -> str | None:
        """The device that the request's key or certificate is of; None where it need not be, or is all devices'."""
        legacy = request.path != PACKETS
        if self._api_key is not None and (legacy or not self._required):
            given = only(request.headers, API_KEY)
            if given is not None:
                self.callers.check_shared(API_KEY, given, self._api_key, address)
                return None
            if not self._required:
                raise self._missing("api")
        if not self._required:
            return None
        given = only(request.headers, DEVICE_KEY)
        if given is not None:
            return self._check_device_key(given, address, now)
        certified = self._device_of_certificate(request) if self._certified else None
        if certified is None:
            raise self._missing("either" if legacy and self._api_key else "device")
        return certified

    def _check_device_key(self, given: str, address: str, now: float) -> str:
        found = digest(given)
        self.callers.slow_down(DEVICE_KEY, address, found, now)
        if not self._known.read:
            raise _unread()
        holder = self._known.keys.find(found)
        if holder is None:
            self.callers.failed(DEVICE_KEY, address, now)
            raise Problem("key-wrong", "no device has the key in X-Device-Key; it may have been revoked")
        self._check_live(holder)
        self.callers.remember(address, found)
        return holder.device

    def _check_live(self, holder: Holder) -> None:
        """Refuse a right key whose time is over, in words: its holder knows it, and needs to know why."""
        ends = holder.key.expires_at
        if ends is not None and ends <= epoch_ms():
            self._counts.failures.labels("expired").inc()
            raise Problem("key-expired", f"the key {holder.key.key_id} of this device has expired")
        self._check_enabled(holder.device)

    def _check_enabled(self, device: str) -> None:
        if device in self._known.sensors.locked:
            self._counts.failures.labels("disabled").inc()
            raise Problem("device-disabled", "this device is disabled in the registry")

    def _device_of_certificate(self, request: web.Request) -> str | None:
        """The device that the client's certificate names, which an authority of ours has signed."""
        if not self._known.read:
            raise _unread()
        named = names(_certificate(request))
        device = next((name for name in named if name in self._known.devices), None)
        if device is not None:
            self._check_enabled(device)
        return device

    def _missing(self, which: str) -> Problem:
        self._counts.failures.labels("missing").inc()
        detail, challenge = _MISSING[which]
        return Problem("key-missing", detail, headers={hdrs.WWW_AUTHENTICATE: challenge})

    def _writer(self, device: str | None) -> Writer:
        """What a request's readings are asked, bound to the key's device where there is one."""
        sensors, auto_register = self._known.sensors, self._auto_register

        def refuses(named: str | None, sensor: str) -> Fault | None:
            owner = sensors.owner(sensor.lower())
            if owner is UNKNOWN:
                return None if auto_register else _UNKNOWN_SENSOR
            sender = device or (named.lower() if named else None)
            if owner == sender or (device is None and (owner is None or sender is None)):
                return _LOCKED if owner in sensors.locked else None
            return _FOREIGN_SENSOR

        return Writer(refuses, lambda named: self._refuses_device(device, named), sensors.numbered)

    def _refuses_device(self, device: str | None, named: str | None) -> Fault | None:
        """Why nothing of a packet is taken: it is another device's than the key's, of one locked out, or one too many."""
        sender = named.lower() if named else device
        if device is not None and sender != device:
            return _FOREIGN_DEVICE
        if sender is None:
            return None
        if sender in self._known.sensors.locked:
            return _LOCKED
        return self._devices.take(sender, self._clock()) if self._devices.on else None


def _certificate(request: web.Request) -> Mapping[str, Any] | None:
    """The client's certificate, which was checked in the handshake."""
    transport = request.transport
    return transport.get_extra_info("peercert") if transport is not None else None


def _unread() -> Problem:
    return unavailable("registry-unavailable", "the registry was not read yet since the gateway's start")


_UNKNOWN_SENSOR = Fault("unknown-sensor", "no sensor of this name is in the registry")
_FOREIGN_SENSOR = Fault("foreign-sensor", "the sensor is not one of this device's in the registry")
_FOREIGN_DEVICE = Fault("foreign-device", "the key that was sent is of another device")
_LOCKED = Fault("device-disabled", "this device is disabled in the registry")
