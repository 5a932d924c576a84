"""What `streamproc console` counts."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUESTS = Counter(
    "streamproc_console_requests", "Requests answered, by route and status.", ["path", "status"]
)
SECONDS = Histogram(
    "streamproc_console_request_seconds",
    "Time to answer, streams aside.",
    ["path"],
    buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)
CHANGES = Counter("streamproc_console_changes", "Changes of severity read from the topic `events`.")
WINDOWS = Counter("streamproc_console_windows", "Closed windows read from the topic `windows`.")
SKIPPED = Counter(
    "streamproc_console_windows_skipped", "Records of the topic `windows` passed over to keep up with it."
)
FAULTY = Counter("streamproc_console_faulty_records", "Records that were not understood, and left out.")
CUT_OFF = Counter("streamproc_console_clients_cut_off", "Live clients that did not keep up.")
REFUSED = Counter("streamproc_console_clients_refused", "Live clients beyond the limit.")
RETRIES = Counter("streamproc_console_kafka_retries", "Times that the topics were read anew after a fault.")
CONNECTIONS_REFUSED = Counter(
    "streamproc_console_connections_refused", "Connections beyond the limit, answered 503."
)
