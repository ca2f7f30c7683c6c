"""TraceStore: what is kept, what goes, what is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from observability.kept import Operation, Query, name_service
from observability.store import SPAN_OVERHEAD_BYTES, Limits, Rejected, TraceStore

ALWAYS = Query(limit=100, start_min_ns=0, start_max_ns=2**63)


def trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def span(trace: int, number: int = 1, **fields: object) -> Span:
    defaults: dict[str, object] = {
        "name": "work",
        "kind": Span.SPAN_KIND_SERVER,
        "start_time_unix_nano": 1_000,
        "end_time_unix_nano": 1_500,
    }
    identity = {"trace_id": trace_id(trace), "span_id": number.to_bytes(8, "big")}
    return Span(**(identity | defaults | fields))  # type: ignore[arg-type]


def batch(*spans: Span, service: str = "order") -> list[ResourceSpans]:
    name = KeyValue(key="service.name", value=AnyValue(string_value=service))
    return [
        ResourceSpans(resource=Resource(attributes=[name]), scope_spans=[ScopeSpans(spans=spans)])
    ]


def span_ids(store: TraceStore, trace: int) -> list[int]:
    return [
        int.from_bytes(kept.span_id, "big")
        for resource in store.trace(trace_id(trace))
        for scope in resource.scope_spans
        for kept in scope.spans
    ]


def test_a_trace_comes_back_as_it_was_exported() -> None:
    store = TraceStore()
    sent = batch(span(1, 1), span(1, 2, parent_span_id=(1).to_bytes(8, "big")))
    assert store.add(sent) == Rejected()
    assert store.trace(trace_id(1)) == sent
    assert store.trace(trace_id(2)) == []


def test_spans_of_one_resource_and_scope_are_joined_across_requests() -> None:
    store = TraceStore()
    store.add(batch(span(1, 1)))
    store.add(batch(span(1, 2), service="payment"))
    store.add(batch(span(1, 3)))
    assert [name_service(item) for item in store.trace(trace_id(1))] == ["order", "payment"]
    assert sorted(span_ids(store, 1)) == [1, 2, 3]


def test_a_batch_sent_again_is_kept_once() -> None:
    store = TraceStore()
    for _ in range(3):
        assert store.add(batch(span(1, 1), span(1, 2))) == Rejected()
    assert sorted(span_ids(store, 1)) == [1, 2]
    assert store.stats.duplicate_spans == 4


def test_the_oldest_trace_goes_first_and_takes_its_services_with_it() -> None:
    store = TraceStore(Limits(traces=2))
    store.add(batch(span(1), service="old"))
    store.add(batch(span(2)))
    store.add(batch(span(1, 2), service="old"))  # age is that of the first span
    store.add(batch(span(3)))
    assert store.find(ALWAYS) == [trace_id(3), trace_id(2)]
    assert store.services() == ["order"]
    assert store.operations("old") == []
    assert (store.stats.evicted_traces, store.stats.evicted_spans) == (1, 2)
    assert (store.stats.traces, store.stats.spans) == (2, 2)


def test_a_trace_takes_no_more_spans_than_its_limit() -> None:
    store = TraceStore(Limits(spans_per_trace=2))
    rejected = store.add(batch(*(span(1, number) for number in range(1, 6)), span(2)))
    assert rejected == Rejected(3, "3 beyond the limits of this store")
    assert span_ids(store, 1) == [1, 2]
    assert span_ids(store, 2) == [1]


def test_memory_is_bounded_by_evicting_the_oldest() -> None:
    store = TraceStore(Limits(bytes=20 * (SPAN_OVERHEAD_BYTES + 1_500)))
    for number in range(1, 101):
        store.add(batch(span(number, name="x" * 400)))
        assert store.stats.bytes <= store.limits.bytes
    assert store.find(ALWAYS)[0] == trace_id(100)
    assert 10 < store.stats.traces < 30
    assert store.stats.traces + store.stats.evicted_traces == 100


def test_one_trace_cannot_grow_beyond_the_whole_memory() -> None:
    store = TraceStore(Limits(bytes=20_000))
    store.add(batch(span(1)))
    rejected = store.add(batch(*(span(2, number) for number in range(1, 101))))
    assert rejected.spans > 50
    assert store.stats.bytes <= 20_000
    assert store.find(ALWAYS) == [trace_id(2)]
    assert store.add(batch(span(3, name="x" * 20_000))).spans == 1
    assert store.find(ALWAYS) == [trace_id(2)], "a span that can never fit evicts nothing"


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(0, 900)), max_size=60),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1_000, 9_000),
)
def test_the_books_balance(
    arrivals: list[tuple[int, int, int]], traces: int, spans: int, size: int
) -> None:
    store = TraceStore(Limits(traces=traces, spans_per_trace=spans, bytes=size))
    for trace, number, length in arrivals:
        store.add(batch(span(trace, number, name="n" * length), service=f"s{number % 3}"))
    stats, kept = store.stats, store.find(ALWAYS)
    held = [len(span_ids(store, int.from_bytes(item, "big"))) for item in kept]
    gone = stats.duplicate_spans + stats.dropped_spans + stats.evicted_spans
    assert stats.received_spans == len(arrivals) == stats.spans + gone
    assert (stats.traces, stats.spans) == (len(held), sum(held))
    assert stats.traces <= traces
    assert max(held, default=0) <= spans
    assert stats.bytes <= size
    assert (stats.bytes == 0) == (stats.traces == 0)
    assert bool(store.services()) == bool(kept)


@pytest.mark.parametrize(
    "broken",
    [
        span(1, trace_id=b""),
        span(1, trace_id=b"\1\2"),
        span(1, trace_id=bytes(16)),
        span(1, span_id=b""),
        span(1, span_id=bytes(8)),
    ],
    ids=["no trace id", "short trace id", "zero trace id", "no span id", "zero span id"],
)
def test_a_span_without_a_valid_id_is_refused(broken: Span) -> None:
    store = TraceStore()
    assert store.add(batch(broken, span(2))) == Rejected(1, "1 without a valid trace and span id")
    assert store.find(ALWAYS) == [trace_id(2)]


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ([], "missing-service-name"),
        ([KeyValue(key="service.name", value=AnyValue())], "service-name-wrong-type"),
        ([KeyValue(key="service.name", value=AnyValue(int_value=7))], "service-name-wrong-type"),
        ([KeyValue(key="service.name", value=AnyValue(string_value=""))], "empty-service-name"),
    ],
    ids=["missing", "no value", "number", "empty"],
)
def test_a_service_without_a_name_gets_jaegers_placeholder(
    attributes: list[KeyValue], name: str
) -> None:
    store = TraceStore()
    store.add(
        [
            ResourceSpans(
                resource=Resource(attributes=attributes), scope_spans=[ScopeSpans(spans=[span(1)])]
            )
        ]
    )
    assert store.services() == [name]
    assert name_service(store.trace(trace_id(1))[0]) == name


def test_operations_are_told_apart_by_kind() -> None:
    store = TraceStore()
    client = span(1, 2, kind=Span.SPAN_KIND_CLIENT)
    store.add(batch(span(1), client, span(1, 3, kind=77)))
    assert store.operations("order") == [
        Operation("order", "work", ""),
        Operation("order", "work", "client"),
        Operation("order", "work", "server"),
    ]
    assert store.operations("order", "client") == [Operation("order", "work", "client")]
    assert store.operations("payment") == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, [2, 1]),
        ({"limit": 1}, [2]),
        ({"service": "payment"}, [2]),
        ({"service": "nobody"}, []),
        ({"operation": "slow"}, [2]),
        ({"service": "order", "operation": "slow"}, []),
        ({"start_min_ns": 1_001}, [2]),
        ({"start_max_ns": 1_000}, [1]),
        ({"duration_min_ns": 501}, [2]),
        ({"duration_max_ns": 500}, [1]),
        ({"duration_min_ns": 500, "duration_max_ns": 500}, [1]),
    ],
)
def test_find(changes: dict[str, object], found: list[int]) -> None:
    store = TraceStore()
    store.add(batch(span(1)))
    slow = span(2, name="slow", start_time_unix_nano=2_000, end_time_unix_nano=9_000)
    store.add(batch(slow, service="payment"))
    limits = {"limit": 100, "start_min_ns": 0, "start_max_ns": 2**63}
    query = Query(**(limits | changes))  # type: ignore[arg-type]
    assert store.find(query) == [trace_id(number) for number in found]


@pytest.mark.parametrize("wrong", [{"traces": 0}, {"spans_per_trace": -1}, {"bytes": 0}])
def test_limits_are_positive(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Limits(**wrong)
