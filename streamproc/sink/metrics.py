"""The sink's metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ROWS = Counter("streamproc_sink_rows", "Rows written that were not there before.", ["table"])
KNOWN = Counter("streamproc_sink_known_rows", "Rows that were there already: a retry, or read again.")
SKIPPED = Counter(
    "streamproc_sink_skipped_windows",
    "Messages of windows of a size that is not stored (STREAMPROC_SINK_WINDOWS).",
)
PASSED_OVER = Counter(
    "streamproc_sink_passed_over",
    "Records not written since the database is beyond them, or since their partition had gone.",
)
FOREIGN = Counter(
    "streamproc_sink_foreign_readings",
    "Readings not written since their sensor is registered to another device than the one that sent them.",
)
REGISTRY_WAITED = Counter(
    "streamproc_sink_registry_waited_seconds", "Time that readings have waited for the registry to be read."
)
REGISTRY_ANEW = Counter(
    "streamproc_sink_registry_ignored",
    "Positions in the database that the registry does not reach: it was made anew.",
)
REFUSED = Counter("streamproc_sink_refused_rows", "Rows that the database does not take: dead letters.")
LETTERS = Counter("streamproc_sink_dead_letters", "Records sent to the dead-letter topic by the sink.")
RETRIES = Counter("streamproc_sink_retries", "Calls of the database that were tried again.", ["reason"])
STALE = Counter("streamproc_sink_stale_batches", "Batches of a partition that another sink has moved on.")
BATCH_ROWS = Histogram(
    "streamproc_sink_batch_rows",
    "Rows in one transaction.",
    buckets=(1, 10, 100, 1_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000),
)
BATCH_BYTES = Histogram(
    "streamproc_sink_batch_bytes",
    "Bytes of the records in one transaction.",
    buckets=(1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000),
)
SECONDS = Histogram(
    "streamproc_sink_database_seconds",
    "How long the database took for a batch, with all tries and the waits between them.",
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)
REGISTRY_COMPARISONS = Counter(
    "streamproc_sink_registry_comparisons", "Comparisons of the registry in the database with the topic."
)
REGISTRY_SENT = Counter(
    "streamproc_sink_registry_sent", "Entries sent since the database had them otherwise than the topic."
)
REGISTRY_FAILURES = Counter(
    "streamproc_sink_registry_failures", "Comparisons of the registry that failed; each is tried again."
)
REGISTRY_REFUSED = Gauge(
    "streamproc_sink_registry_refused", "Rows of the registry that are not valid, and not sent."
)
REGISTRY_STRAYS = Gauge(
    "streamproc_sink_registry_strays", "Entries on the topic that the database has never had."
)
