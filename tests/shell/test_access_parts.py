"""The parts of access by themselves: buckets, addresses, keys, sensors."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import SettingsError
from streamproc.gateway.access.address import Addresses
from streamproc.gateway.access.buckets import Buckets
from streamproc.gateway.access.keys import Keys, digest
from streamproc.gateway.access.sensors import UNKNOWN, Sensors
from streamproc.records import DeviceEntry, DeviceKey, SensorEntry
from streamproc.settings import load
from streamproc.settings.access import Window

windows = st.lists(
    st.builds(Window, st.integers(1, 5), st.integers(1, 20).map(float)), min_size=1, max_size=3
)
waits = st.lists(st.integers(0, 8).map(lambda eighths: eighths / 8), max_size=60)


class Plain:
    """Token buckets as they are told: so many tokens, refilled with time."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = windows
        self.tokens = [float(window.tokens) for window in windows]

    def passes(self, waited: float) -> bool:
        """Refill for so many seconds, then take a token of each bucket if there is one in all."""
        for index, window in enumerate(self.windows):
            more = waited * window.tokens / window.seconds
            self.tokens[index] = min(float(window.tokens), self.tokens[index] + more)
        if any(tokens < 1 - 1e-6 for tokens in self.tokens):
            return False
        self.tokens = [tokens - 1 for tokens in self.tokens]
        return True


@given(windows, waits)
def test_buckets_are_token_buckets(windows: list[Window], waits: list[float]) -> None:
    """A bucket that is kept as one moment lets through what a counted one does, and its wait is as long as need be."""
    plain, buckets, now = Plain(windows), Buckets(windows), 0.0
    for waited in waits:
        now += waited
        wait = buckets.take("a", now)
        assert (wait == 0) == plain.passes(waited)
        if wait:
            assert buckets.wait("a", now + wait + 1e-6) == 0
            assert buckets.wait("a", now + wait * 0.9) > 0


def test_buckets_are_few() -> None:
    """Those that are full again are forgotten when others come; beyond the bound, those not seen for longest."""
    buckets = Buckets([Window(2, 10.0)], names=100)
    for number in range(1_000):
        buckets.take(f"early-{number}", number / 1_000)
    assert len(buckets) == 100
    for number in range(100):
        buckets.take(f"late-{number}", 50.0 + number / 1_000)
    assert len(buckets) == 100
    assert buckets.take("late-0", 50.0) == 0
    assert buckets.take("late-0", 50.0) > 0
    for number in range(3):
        buckets.take(f"last-{number}", 100.0)
    assert len(buckets) < 100


def test_the_tightest_window_is_told() -> None:
    """Of several windows it is the one that the client must wait longest for."""
    buckets = Buckets([Window(2, 1.0), Window(4, 60.0)])
    assert [buckets.take("a", now) > 0 for now in (0, 0, 0, 1, 1, 2)] == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    assert buckets.tightest("a", 2.0) == Window(4, 60.0)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("9.9.9.9", [], "9.9.9.9"),
        ("9.9.9.9", ["1.2.3.4"], "9.9.9.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4, 10.9.9.9"], "1.2.3.4"),
        ("::ffff:10.0.0.1", ["1.2.3.4:5678"], "1.2.3.4"),
        ("10.0.0.1", ["[2001:db8::7]:80"], "2001:db8::/64"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::/64"),
        ("10.0.0.1", ["6.6.6.6, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["6.6.6.6", ""], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (None, ["1.2.3.4"], "unknown"),
    ],
)
def test_forwarded_addresses(peer: str | None, forwarded: list[str], client: str) -> None:
    """What counts is the right-most address that no proxy of ours has; what a client writes before it counts for nothing."""
    assert Addresses([ip_network("10.0.0.0/8")]).client(peer, forwarded) == client


def test_addresses_of_one_site_are_one() -> None:
    """Who has one IPv6 address has 2^64 of them."""
    addresses = Addresses([])
    assert addresses.client("2001:db8:0:1::1", ()) == addresses.client("2001:db8:0:1:ffff::2", ())
    assert addresses.client("2001:db8:0:1::1", ()) != addresses.client("2001:db8:0:2::1", ())
    assert addresses.client("::ffff:1.2.3.4", ()) == addresses.client("1.2.3.4", ()) == "1.2.3.4"


def device(name: str, *keys: str, enabled: bool = True) -> DeviceEntry:
    """Make a device with these keys."""
    made = tuple(DeviceKey(key[-3:], digest(key).hex(), 0) for key in keys)
    return DeviceEntry(name, enabled=enabled, keys=made)


def test_keys_follow_the_registry() -> None:
    """Two keys of a device count; one taken away does not; a device that goes takes its own along, and no other's."""
    keys = Keys()
    keys.put("D1", device("D1", "old", "new"))
    keys.put("d2", device("d2", "other"))
    assert [keys.find(digest(key)) is not None for key in ("old", "new", "other", "else")] == [True] * 3 + [
        False
    ]
    keys.put("d1", device("d1", "new"))
    assert keys.find(digest("old")) is None
    found = keys.find(digest("new"))
    assert found is not None
    assert found.device == "d1"
    keys.put("d1", None)
    assert keys.find(digest("new")) is None
    assert len(keys) == 1


def test_a_key_of_two_devices_and_one_that_is_none() -> None:
    """An import may say anything: the following of the registry goes on."""
    keys = Keys()
    keys.put("a", device("a", "same"))
    keys.put("b", device("b", "same"))
    keys.put("a", None)
    found = keys.find(digest("same"))
    assert found is not None
    assert found.device == "b"
    keys.put("b", None)
    keys.put("c", DeviceEntry("c", keys=(DeviceKey("k", "no hash", 0),)))
    keys.put("c", None)
    assert len(keys) == 0


def test_sensors_are_found_by_name_and_id() -> None:
    """An id that moves to another sensor is the other's; a sensor that goes is unknown by both."""
    sensors = Sensors()
    sensors.put("s1", SensorEntry("s1", device="D1", sensor_id=1))
    sensors.put("s2", SensorEntry("s2"))
    assert (sensors.owner("s1"), sensors.owner("1"), sensors.owner("s2")) == ("d1", "d1", None)
    sensors.put("s2", SensorEntry("s2", device="d2", sensor_id=1))
    sensors.put("s1", SensorEntry("s1", device="d1", sensor_id=3))
    assert (sensors.owner("1"), sensors.owner("3")) == ("d2", "d1")
    sensors.put("s1", None)
    assert sensors.owner("s1") is sensors.owner("3") is UNKNOWN
    sensors.put_device("D2", DeviceEntry("D2", enabled=False))
    assert sensors.locked == {"d2"}
    sensors.put_device("D2", None)
    assert not sensors.locked


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("rate_limit_ip", "20", "number:seconds"),
        ("rate_limit_ip", "0:1", "at least 1"),
        ("rate_limit_device", "1:1e9", "86400"),
        ("rate_limit_device", "1:nan", "seconds"),
        ("key_failure_limit", "1:1,1:2,1:3,1:4,1:5", "4 may be given"),
        ("trusted_proxies", "10.0.0.1/8", "host bits"),
        ("trusted_proxies", "proxy", "proxy"),
        ("tls_key", "key.pem", "GATEWAY_TLS_CERTIFICATE"),
        ("tls_client_ca", "ca.pem", "GATEWAY_TLS_CERTIFICATE"),
    ],
)
def test_wrong_settings_are_told(name: str, value: str, told: str) -> None:
    """A limit, a network or half of TLS that makes no sense is refused at the start, in words."""
    with pytest.raises(SettingsError, match=told):
        load(**{name: value})
