"""Gauges of the console: live clients, connections, and requests that wait for the database."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from prometheus_client.core import GaugeMetricFamily, Metric

from streamproc.console.live import Live
from streamproc.console.reading import WAITING, Reading


def gauges(live: Live, reading: Reading, most: int) -> Iterable[Metric]:
    """Live clients and waiting requests, with their bounds."""
    yield GaugeMetricFamily("streamproc_console_clients", "Clients that follow live now.", len(live.clients))
    yield GaugeMetricFamily("streamproc_console_clients_bound", "Most that may.", most)
    yield GaugeMetricFamily(
        "streamproc_console_database_waiting",
        "Requests that wait for the database, or are being answered.",
        reading.waiting,
    )
    yield GaugeMetricFamily("streamproc_console_database_waiting_bound", "Most that may.", WAITING)


def connections(server: web.Server | None, most: int) -> Iterable[Metric]:
    """The server's connections, with their bound; none before it has started."""
    count = 0 if server is None else len(server.connections)
    yield GaugeMetricFamily("streamproc_console_connections", "Connections there are.", count)
    yield GaugeMetricFamily("streamproc_console_connections_bound", "Most that there may be.", most)
