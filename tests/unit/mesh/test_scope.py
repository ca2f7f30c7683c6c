"""What is handed down: traces in the W3C form, and contexts for work that outlives its caller."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags

from mesh.metadata import CORRELATION_ID, TRACEPARENT
from mesh.scope import (
    Scope,
    current_traceparent,
    detached,
    format_traceparent,
    parent_of,
    parse_traceparent,
    scope,
)

TRACEPARENT_1 = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@given(
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    flags=st.integers(0, 255),
)
def test_a_span_comes_back_from_its_text(trace_id: int, span_id: int, flags: int) -> None:
    span = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    assert parse_traceparent(format_traceparent(span)) == span


@given(st.text(max_size=60))
def test_any_other_text_names_no_span(text: str) -> None:
    assert parse_traceparent(text) is None


def test_an_id_of_zeros_names_no_span() -> None:
    assert parse_traceparent(f"00-{'0' * 32}-b7ad6b7169203331-01") is None
    assert parse_traceparent(f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01") is None
    assert format_traceparent(trace.INVALID_SPAN_CONTEXT) == ""


def test_without_a_parent_the_context_is_empty_whatever_is_current() -> None:
    with trace.use_span(trace.NonRecordingSpan(parsed())):
        assert trace.get_current_span(parent_of({})) is trace.INVALID_SPAN
        assert current_traceparent() == TRACEPARENT_1
    assert current_traceparent() == ""


def test_work_that_outlives_its_caller_keeps_correlation_and_trace_but_no_deadline() -> None:
    token = scope.set(Scope("another", deadline=5.0, attempt=3))
    context = detached({CORRELATION_ID: "order-7", TRACEPARENT: TRACEPARENT_1})
    assert context.run(scope.get) == Scope("order-7")
    assert context.run(current_traceparent) == TRACEPARENT_1
    assert scope.get() == Scope("another", 5.0, 3)
    scope.reset(token)


def parsed() -> SpanContext:
    span = parse_traceparent(TRACEPARENT_1)
    assert span is not None
    return span
