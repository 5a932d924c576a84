"""Whether `streamproc notify` can work, and the present state of its channels."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from streamproc.monitor import Check
from streamproc.notify.sender import Sender


def checks(senders: Sequence[Sender]) -> list[Check]:
    """The checks of `/ready`: the database, as the channel with most trouble sees it, and each channel."""
    standing = [sender.standing.check() for sender in senders]
    database = next((check for check in standing if not check.ok), standing[0])
    return [database, *(sender.check() for sender in senders)]


def gauges(senders: Sequence[Sender]) -> Iterable[Metric]:
    """How much waits on each channel, and for how long."""
    waiting = GaugeMetricFamily(
        "streamproc_notify_waiting", "Changes that are to be told and are not yet.", labels=["channel"]
    )
    oldest = GaugeMetricFamily(
        "streamproc_notify_oldest_seconds", "Age of the oldest of them, 0 without any.", labels=["channel"]
    )
    for sender in senders:
        changes, since = sender.waiting
        waiting.add_metric([sender.channel.name], changes)
        oldest.add_metric([sender.channel.name], 0.0 if since is None else time.time() - since / 1000)
    yield waiting
    yield oldest
