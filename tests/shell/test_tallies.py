"""Tallies tell what prometheus_client's own counters would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import Sample

from streamproc.gateway.tallies import Durations, Tally

BOUNDS = (0.001, 0.5, 1, 2.5, 10)


def samples(registry: CollectorRegistry) -> list[Sample]:
    """What is told of a registry, but when counting began."""
    found = [sample for family in registry.collect() for sample in family.samples]
    return [sample for sample in found if not sample.name.endswith("_created")]


def text(registry: CollectorRegistry) -> list[bytes]:
    """The lines that are scraped, but when counting began."""
    return [line for line in generate_latest(registry).splitlines() if b"_created" not in line]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([202, 503]), st.integers(0, 9))))
def test_counts(given: list[tuple[str, int, int]]) -> None:
    """By their labels, and without any, where it begins with nought."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = Tally("n", "told", ours, ["path", "status"])
    plain = Tally("m", "told", ours)
    counter = Counter("n", "told", ["path", "status"], registry=theirs)
    its_plain = Counter("m", "told", registry=theirs)
    for path, status, count in given:
        tally.add(count, path, status)
        plain.add(count)
        counter.labels(path, status).inc(count)
        its_plain.inc(count)
    assert samples(ours) == samples(theirs)
    assert text(ours) == text(theirs)


@given(st.lists(st.one_of(st.sampled_from(BOUNDS), st.integers(0, 1_000).map(lambda eighths: eighths / 8))))
def test_durations(seconds: list[float]) -> None:
    """Each in its bucket, at its bound as well."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = Durations("s", "told", ours, BOUNDS)
    histogram = Histogram("s", "told", buckets=BOUNDS, registry=theirs)
    for each in seconds:
        durations.observe(each)
        histogram.observe(each)
    assert samples(ours) == samples(theirs)
    assert text(ours) == text(theirs)


def test_a_name_is_taken_once() -> None:
    """As with prometheus_client's own."""
    registry = CollectorRegistry()
    Tally("n", "told", registry)
    Durations("s", "told", registry, BOUNDS)
    for name in ("n", "s"):
        with pytest.raises(ValueError, match="Duplicated"):
            Tally(name, "told", registry)
