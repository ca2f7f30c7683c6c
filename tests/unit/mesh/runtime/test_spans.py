"""Our spans against OpenTelemetry's SDK: the same story told to both goes out as the same bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as PbSpan
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)

from mesh.runtime.otlp import Envelope
from mesh.runtime.recorder import Recorder
from mesh.runtime.sampling import Sampling
from tests.support.runtime import FakeRuntime

REMOTE = SpanContext(0xABC << 100, 0xDEF, True, TraceFlags(1))
LOCAL = SpanContext(1, 2, False, TraceFlags(1))
LIMITS = SpanLimits(
    max_span_attributes=3,
    max_event_attributes=2,
    max_link_attributes=1,
    max_events=2,
    max_links=2,
    max_span_attribute_length=4,
    max_attribute_length=5,
)

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
values = st.one_of(
    st.text(max_size=20),
    st.booleans(),
    numbers,
    st.binary(max_size=4),
    st.lists(st.text(max_size=15), max_size=3),
    st.lists(st.booleans(), max_size=3),
)
keys = st.sampled_from(["rpc.method", "mesh.key", "a", "b", "c", "d", "e", "é"])
attributes = st.dictionaries(keys, values, max_size=8)
times = st.integers(0, 2**63 - 1)
contexts = st.sampled_from([REMOTE, LOCAL])
steps = st.one_of(
    st.tuples(st.just("set_attribute"), keys, values),
    st.tuples(st.just("set_attributes"), attributes),
    st.tuples(st.just("add_event"), st.text(max_size=9), attributes, times),
    st.tuples(st.just("add_link"), contexts, attributes),
    st.tuples(st.just("update_name"), st.text(max_size=9)),
    st.tuples(st.just("set_status"), st.sampled_from(StatusCode)),
    st.tuples(st.just("set_status"), st.just(Status(StatusCode.ERROR, "broke"))),
    st.tuples(st.just("end"), times),
)


class SameIds(IdGenerator):
    """For the SDK the ids that ours draw."""

    def __init__(self) -> None:
        self._random = random.Random(7)

    def generate_trace_id(self) -> int:
        return self._random.getrandbits(128)

    def generate_span_id(self) -> int:
        return self._random.getrandbits(64)


class Ours:
    """Our tracer and the spans that went out."""

    def __init__(self, limits: SpanLimits | None = None, sampling: Sampling | None = None) -> None:
        self._out: list[bytes] = []
        self.tracer: Tracer = Recorder(self._out.append, FakeRuntime(), sampling, limits)

    def exported(self) -> ResourceSpans:
        [found] = Envelope({"service.name": "s", "n": 1}, "mesh").around(self._out).resource_spans
        return found

    def spans(self) -> list[PbSpan]:
        return list(self.exported().scope_spans[0].spans)


class Theirs:
    """The SDK's."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        provider = TracerProvider(
            resource=Resource({"service.name": "s", "n": 1}),
            id_generator=SameIds(),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracer = provider.get_tracer("mesh")

    def exported(self) -> ResourceSpans:
        [found] = encode_spans(self._kept.get_finished_spans()).resource_spans
        return found


def tell(
    tracer: Tracer,
    kind: SpanKind,
    parent: SpanContext | None,
    given: Mapping[str, Any],
    story: list[tuple[Any, ...]],
) -> None:
    context = (
        trace.set_span_in_context(NonRecordingSpan(parent), Context()) if parent else Context()
    )
    links = [Link(REMOTE, {"a": 1, "b": 2}), Link(LOCAL)]
    span = tracer.start_span("name", context, kind, given, links, start_time=1_700_000_000_123)
    for method, *arguments in story:
        getattr(span, method)(*arguments)
    if span.is_recording():
        span.end(1_700_000_000_456)


@given(
    st.sampled_from(SpanKind),
    st.sampled_from([None, REMOTE, LOCAL]),
    attributes,
    st.lists(steps, max_size=8),
)
def test_what_goes_out_is_what_the_sdk_sends(
    kind: SpanKind,
    parent: SpanContext | None,
    given: Mapping[str, Any],
    story: list[tuple[Any, ...]],
) -> None:
    ours, theirs = Ours(), Theirs()
    for _ in range(2):  # the second time from the parts that are kept
        for told in (ours, theirs):
            tell(told.tracer, kind, parent, given, story)
    assert comparable(ours.exported()) == comparable(theirs.exported())


def comparable(exported: ResourceSpans) -> Any:
    """Attributes are a mapping: their order says nothing. An empty status is none."""
    for part in exported.scope_spans[0].spans:
        part.status.SetInParent()
        holders: list[Any] = [part, *part.events, *part.links]
        for holder in holders:
            holder.attributes.sort(key=lambda pair: pair.key)
    exported.resource.attributes.sort(key=lambda pair: pair.key)
    return exported


def test_every_length_is_written_right() -> None:
    ours = Ours()
    lengths = [*range(300), *range(16_200, 16_400)]
    for length in lengths:
        ours.tracer.start_span("name", attributes={"text": "x" * length}).end()
    assert [len(pairs(span)["text"]) for span in ours.spans()] == lengths


def pairs(holder: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in holder.attributes}


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one by one"])
def test_what_is_over_the_limits_is_dropped_and_counted(at_once: bool) -> None:
    ours = Ours(LIMITS)
    many = dict.fromkeys("abcde", "123456")
    span = ours.tracer.start_span("name", attributes=many if at_once else {})
    for name in many:
        span.set_attribute(name, "123456")
        span.add_event(name, many)
        span.add_link(REMOTE, many)
    span.end()
    [sent] = ours.spans()
    assert pairs(sent) == {"a": "1234", "b": "1234", "c": "1234"}
    assert sent.dropped_attributes_count == (4 if at_once else 2)
    assert [event.name for event in sent.events] == ["a", "b"]
    assert [pairs(event) for event in sent.events] == [{"a": "12345", "b": "12345"}] * 2
    assert [event.dropped_attributes_count for event in sent.events] == [3, 3]
    assert [pairs(link) for link in sent.links] == [{"a": "12345"}] * 2
    assert (sent.dropped_events_count, sent.dropped_links_count) == (3, 3)


@pytest.mark.parametrize("made", [Ours, Theirs], ids=["ours", "the SDK's"])
def test_an_exception_that_leaves_the_block_is_told(made: Callable[[], Any]) -> None:
    told = made()
    with told.tracer.start_as_current_span("above"):
        above = trace.get_current_span().get_span_context()
        with pytest.raises(KeyError), told.tracer.start_as_current_span("current"):
            raise KeyError("gone")
    with pytest.raises(KeyError), told.tracer.start_span("block"):
        raise KeyError("gone")
    current, last, block = told.exported().scope_spans[0].spans
    assert (last.name, current.parent_span_id) == ("above", above.span_id.to_bytes(8, "big"))
    for span in (current, block):
        assert (span.status.code, span.status.message) == (2, "KeyError: 'gone'")
        [event] = span.events
        assert event.name == "exception"
        assert pairs(event)["exception.type"] == "KeyError"
        assert pairs(event)["exception.message"] == "'gone'"
        assert "test_spans.py" in pairs(event)["exception.stacktrace"]


def test_what_has_no_form_is_left_out_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours = Ours()
    nothing: Any = object()
    span = ours.tracer.start_span("name", attributes={"no": nothing, "too long": 2**64, "yes": 1})
    span.add_event("event", {"no": nothing, "yes": 1})
    span.end()
    [sent] = ours.spans()
    assert [pair.key for pair in sent.attributes] == ["yes"]
    assert [pair.key for pair in sent.events[0].attributes] == ["yes"]
    assert "left out" in caplog.text


def test_nothing_changes_after_the_end() -> None:
    ours = Ours()
    span = ours.tracer.start_span("name")
    span.end()
    span.end()
    span.set_attribute("a", 1)
    span.add_event("late")
    span.add_link(REMOTE)
    span.set_status(StatusCode.ERROR)
    span.update_name("late")
    [sent] = ours.spans()
    assert (sent.name, len(sent.attributes), len(sent.events), sent.status.code) == (
        "name",
        0,
        0,
        0,
    )


class TestSampling:
    """Which spans are recorded, and what those below learn."""

    @pytest.fixture
    def unsampled(self) -> Iterator[Context]:
        span = NonRecordingSpan(SpanContext(1, 2, True, TraceFlags(0)))
        return trace.set_span_in_context(span, Context())  # type: ignore[return-value]

    def started(self, sampling: Sampling, context: Context) -> Span:
        return Ours(sampling=sampling).tracer.start_span("name", context)

    def test_what_the_caller_does_not_record_is_not_recorded(self, unsampled: Context) -> None:
        span = self.started(Sampling(1.0), unsampled)
        assert not span.is_recording()
        assert span.get_span_context() == SpanContext(1, 2, True, TraceFlags(0))

    def test_what_the_caller_records_is_recorded(self) -> None:
        context = trace.set_span_in_context(NonRecordingSpan(REMOTE), Context())
        assert self.started(Sampling(0.0), context).is_recording()

    def test_without_regard_to_the_caller_the_share_decides(self, unsampled: Context) -> None:
        span = self.started(Sampling(1.0, parent_based=False), unsampled)
        assert span.is_recording()
        assert span.get_span_context().trace_id == 1
        sampled = trace.set_span_in_context(NonRecordingSpan(REMOTE), Context())
        span = self.started(Sampling(0.0, parent_based=False), sampled)
        assert not span.is_recording()
        assert not span.get_span_context().trace_flags.sampled

    def test_a_trace_outside_the_share_has_an_id_that_says_so(self) -> None:
        context = self.started(Sampling(0.0), Context()).get_span_context()
        assert context.is_valid
        assert not context.trace_flags.sampled

    @pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
    def test_the_share_is_the_sdks_to_the_trace(self, ratio: float) -> None:
        theirs = TraceIdRatioBased(ratio)
        for trace_id in (1, 2**63, 2**64 - 1, 2**64, *(i << 57 for i in range(200))):
            expected = theirs.should_sample(None, trace_id, "").decision
            assert Sampling(ratio).records(trace_id) is (expected is Decision.RECORD_AND_SAMPLE)


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        (None, None, Sampling(1.0)),
        ("always_on", "0.5", Sampling(1.0, parent_based=False)),
        ("always_off", None, Sampling(0.0, parent_based=False)),
        ("traceidratio", "0.25", Sampling(0.25, parent_based=False)),
        ("parentbased_always_off", None, Sampling(0.0)),
        ("ParentBased_TraceIdRatio", " 0.1 ", Sampling(0.1)),
        ("parentbased_traceidratio", None, Sampling(1.0)),
    ],
)
def test_the_standard_variables_say_what_is_recorded(
    name: str | None, argument: str | None, expected: Sampling
) -> None:
    named = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert Sampling.of({k: v for k, v in named.items() if v is not None}) == expected


@pytest.mark.parametrize(
    ("name", "argument", "told"),
    [
        ("jaeger_remote", "", "OTEL_TRACES_SAMPLER=jaeger_remote: one of always_on, "),
        ("traceidratio", "many", "OTEL_TRACES_SAMPLER_ARG=many: a share from 0 to 1"),
        ("traceidratio", "10", "OTEL_TRACES_SAMPLER_ARG=10: a share from 0 to 1"),
    ],
)
def test_a_variable_that_makes_no_sense_is_an_error(name: str, argument: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Sampling.of({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument})
