"""The metrics of `streamproc notify`."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

ENROLLED = Counter(
    "streamproc_notify_changes",
    "Changes that a channel has found: to be told, or skipped (too old, not grave enough).",
    ["channel", "status"],
)
MESSAGES = Counter(
    "streamproc_notify_messages",
    "Attempts to hand a message over: sent, later (tried again), failed (given up) or skipped (overtaken reminders).",
    ["channel", "result"],
)
AGAIN = Counter(
    "streamproc_notify_taken_over",
    "Messages that another attempt had begun without saying how it ended: a receiver may see them twice, by one identity.",
    ["channel"],
)
SECONDS = Histogram(
    "streamproc_notify_seconds",
    "How long a receiver took for a message.",
    ["channel"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)
DELAY = Histogram(
    "streamproc_notify_delay_seconds",
    "From the newest change of a message to when a receiver had it.",
    ["channel"],
    buckets=(0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000),
)
RETRIES = Counter(
    "streamproc_notify_database_retries", "Calls of the database that were tried again.", ["reason"]
)
