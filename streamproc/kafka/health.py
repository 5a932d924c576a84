"""A stage's connection with Kafka: checks for `/ready`, and gauges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from streamproc.core.counted import counted
from streamproc.kafka.transport import BUFFERED_CHUNKS, DEFAULTS, ChunkedApp
from streamproc.monitor import Check

#: For so long a broker waits for a member of the group; four heartbeats go unanswered in it.
SILENCE_S = float(DEFAULTS["broker_session_timeout"])


def broker_check(app: ChunkedApp) -> Check:
    """Whether a broker has answered this stage's consumer lately."""
    silence = app.silence_s()
    if silence is None:
        return Check("broker", False, "no broker has answered yet")
    return Check("broker", silence < SILENCE_S, f"last answer {silence:.1f} s ago")


def lag_check(lags: Mapping[str, int | None], bound: int) -> Check:
    """Whether no partition has more records waiting than the bound; None is a partition that was not read yet."""
    unknown = sorted(name for name, lag in lags.items() if lag is None)
    if unknown:
        return Check("lag", False, f"nothing was read yet of partitions {', '.join(unknown)}")
    behind = {name: lag for name, lag in lags.items() if lag is not None and lag > bound}
    if behind:
        return Check("lag", False, f"records waiting by partition, of {bound:,} at most: {behind}")
    return Check("lag", True, f"{counted(sum(lag or 0 for lag in lags.values()), 'record')} waiting")


def gauges(app: ChunkedApp) -> Iterable[Metric]:
    """Gauges of the connection with Kafka, and of what waits between it and the stage."""
    silence = GaugeMetricFamily(
        "streamproc_kafka_silence_seconds", "Since a broker last answered the consumer.", labels=[]
    )
    seconds = app.silence_s()
    if seconds is not None:
        silence.add_metric([], seconds)
    yield silence
    yield GaugeMetricFamily(
        "streamproc_kafka_chunks_buffered", "Fetched chunks that wait for the stage.", app.buffered()
    )
    yield GaugeMetricFamily(
        "streamproc_kafka_chunks_bound",
        "Most chunks that may wait: beyond it, no more is fetched.",
        BUFFERED_CHUNKS,
    )
    yield GaugeMetricFamily(
        "streamproc_kafka_rebalancing", "1 while partitions are being assigned anew.", float(app.rebalancing)
    )
    yield CounterMetricFamily(
        "streamproc_kafka_rebalances", "Rebalances of the consumer's group.", app.rebalancing_count
    )
