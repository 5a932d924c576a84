"""Whether the console is able to work, and who follows it at this moment."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric

from streamproc.console.live import Live
from streamproc.console.reading import WAITING, Reading


def gauges(live: Live, reading: Reading, most: int) -> Iterable[Metric]:
    """Clients and calls that wait, with their bounds."""
    yield GaugeMetricFamily("streamproc_console_clients", "Clients that follow live now.", len(live.clients))
    yield GaugeMetricFamily("streamproc_console_clients_bound", "Most that may.", most)
    yield GaugeMetricFamily(
        "streamproc_console_database_waiting",
        "Requests that wait for the database, or are being answered.",
        reading.waiting,
    )
    yield GaugeMetricFamily("streamproc_console_database_waiting_bound", "Most that may.", WAITING)
