"""What is counted of those who may not write."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge
from prometheus_client.registry import Collector


class Counts:
    """The counters of access; whoever has the gateway's registry registers its `collectors`."""

    def __init__(self) -> None:
        self.limited = Counter(
            "streamproc_gateway_limited",
            "Requests and packets refused for coming too often, by limit.",
            ["limit"],
            registry=None,
        )
        self.failures = Counter(
            "streamproc_gateway_key_failures",
            "Requests whose key is missing or not taken, by reason.",
            ["reason"],
            registry=None,
        )
        self.buckets = Gauge(
            "streamproc_gateway_buckets",
            "Addresses and devices whose rate is remembered, by limit.",
            ["limit"],
            registry=None,
        )

    def collectors(self) -> Iterable[Collector]:
        """All of them."""
        return self.limited, self.failures, self.buckets
