"""The metrics of `streamproc jobs`."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

RUNS = Counter(
    "streamproc_jobs_runs",
    "Runs that this process has ended: done, failed, stopped, or lost to another process.",
    ["job", "outcome"],
)
SECONDS = Histogram(
    "streamproc_jobs_seconds",
    "How long a run took.",
    ["job"],
    buckets=(0.1, 1, 10, 60, 300, 1_800, 7_200, 28_800),
)
DELETED = Counter("streamproc_jobs_deleted_rows", "Old rows that were deleted.", ["table"])
RETRIES = Counter(
    "streamproc_jobs_database_retries", "Calls of the database that were tried again.", ["reason"]
)
