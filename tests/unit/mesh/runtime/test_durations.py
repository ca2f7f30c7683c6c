"""The histogram of durations: what /metrics shows is what Prometheus' own would show."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from mesh.runtime.durations import Durations

BOUNDS_S = (0.001, 0.25, 1.0, 10.0)
LABELS = ("rpc_method", "code")
FACTS = ("took_seconds", "How long it took", LABELS)

observations = st.lists(
    st.tuples(
        st.sampled_from([("a", "OK"), ("a", "UNKNOWN"), ("b", "OK")]),
        st.sampled_from([0.0, *BOUNDS_S, math.inf]) | st.floats(0.0, 20.0),
    )
)


def shown(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if "_created" not in line)


@given(observations)
def test_it_shows_what_a_histogram_of_prometheus_shows(
    observed: list[tuple[tuple[str, str], float]],
) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = Durations(*FACTS, BOUNDS_S, ours)
    histogram = Histogram(*FACTS, buckets=BOUNDS_S, registry=theirs)
    for labels, duration_s in observed:
        durations.labels(*labels).observe(duration_s)
        histogram.labels(*labels).observe(duration_s)
    assert shown(ours) == shown(theirs)


def test_labels_are_all_or_nothing() -> None:
    durations = Durations(*FACTS, BOUNDS_S, CollectorRegistry())
    with pytest.raises(ValueError, match="took_seconds has the labels rpc_method, code"):
        durations.labels("a")


def test_one_name_is_registered_once() -> None:
    registry = CollectorRegistry()
    Durations(*FACTS, BOUNDS_S, registry)
    with pytest.raises(ValueError, match="uplicated"):
        Durations(*FACTS, BOUNDS_S, registry)
