"""Who may write: asked once of each request's head, then of each packet and each of its readings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from streamproc.gateway.answers import Fault

if TYPE_CHECKING:
    from streamproc.gateway.access.callers import Callers

#: Says of a device (its name as it was sent, None where a reading names none) why nothing of it is taken.
RefusesDevice = Callable[[str | None], Fault | None]
#: Says of a device and a sensor (names as they were sent) why a reading of it is not taken.
Refuses = Callable[[str | None, str], Fault | None]
#: Gives the name of the sensor that has this number in the registry; None where none has.
Named = Callable[[str], str | None]


class Writer:
    """Who sends a request, as far as it is known from its head; what is None refuses nothing and costs nothing.

    `refuses_device` is asked once of each packet (of each reading where they come by themselves), before its readings are:
    the place of the device's key and of its rate limit. `refuses` is asked of each reading that is otherwise right; `named`
    of each that comes by itself with a `sensor_id`.
    """

    __slots__ = ("named", "refuses", "refuses_device")

    def __init__(
        self,
        refuses: Refuses | None = None,
        refuses_device: RefusesDevice | None = None,
        named: Named | None = None,
    ) -> None:
        self.refuses = refuses
        self.named = named
        self.refuses_device = refuses_device


class Access(Protocol):
    """Decides who may write (`gate.Gate`)."""

    #: Those who call, writers or not, by their addresses.
    callers: Callers

    def admit(self, request: web.Request) -> Writer:
        """Say who sends the request, asked once of each; raises the Problem of one who may not write at all."""
