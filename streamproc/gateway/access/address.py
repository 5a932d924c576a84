"""Whose request it is by its address: behind proxies, and with IPv6, where one has many."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from streamproc.settings.access import Network

#: The part of an IPv6 address that a provider gives to a household or a site: who has one address, has all of these.
_SITE_BITS = 64
#: Of a chain longer than this nobody's proxies have made; what is before it is not looked at.
_HOPS = 16
#: Longest text of an address, with a zone, in brackets, with a port.
_LONGEST = 80


class Addresses:
    """Names addresses for limits, and believes the proxies in these networks, and no others."""

    def __init__(self, proxies: Sequence[Network]) -> None:
        self._proxies = tuple(proxies)
        # A device posts again and again; understanding an address takes 3 µs. 16,384 of them are some 3 MB.
        self._name = lru_cache(maxsize=16_384)(_name)
        self.is_proxy = lru_cache(maxsize=16_384)(self._is_proxy)

    def client(self, peer: str | None, forwarded: Sequence[str]) -> str:
        """The client's address for limits: the peer's, or of a proxy's word the right-most that is no proxy's.

        `forwarded` are the values of X-Forwarded-For, in their order.

        >>> from ipaddress import ip_network
        >>> addresses = Addresses([ip_network("10.0.0.0/8")])
        >>> addresses.client("10.0.0.1", ["6.6.6.6, 1.2.3.4, 10.0.0.2"])
        '1.2.3.4'
        >>> addresses.client("9.9.9.9", ["1.2.3.4"])
        '9.9.9.9'
        """
        if peer is None:
            return "unknown"
        nearest = self.caller(peer, forwarded)
        return self._name(nearest) or nearest

    def caller(self, peer: str, forwarded: Sequence[str]) -> str:
        """The client's address, whole, for an audit; as `client` otherwise.

        >>> Addresses([]).caller("2001:db8::1:2:3:4", [])
        '2001:db8::1:2:3:4'
        """
        if not self._proxies or not forwarded or not self.is_proxy(peer):
            return peer
        nearest = peer
        for hop in reversed(",".join(forwarded).split(",")[-_HOPS:]):
            text = _without_port(hop.strip()[:_LONGEST])
            if self._name(text) is None:  # nothing to the left of nonsense can be believed
                break
            nearest = text
            if not self.is_proxy(text):
                break
        return nearest

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = _parse(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)


def _parse(text: str) -> object:
    address = ip_address(text.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _name(text: str) -> str | None:
    """The address as limits know it, None where it is none: of IPv6 the network that one site has.

    >>> _name("::ffff:1.2.3.4"), _name("2001:db8::1:2:3:4"), _name("unknown")
    ('1.2.3.4', '2001:db8::/64', None)
    """
    try:
        address = _parse(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        site = int(address) >> (128 - _SITE_BITS) << (128 - _SITE_BITS)
        return f"{IPv6Address(site)}/{_SITE_BITS}"
    return str(address)


def _without_port(text: str) -> str:
    """An address as some proxies write it: with a port, and in brackets.

    >>> _without_port("1.2.3.4:80"), _without_port("[::1]:80"), _without_port("::1")
    ('1.2.3.4', '::1', '::1')
    """
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
