"""The tracer: OpenTelemetry's `Tracer`, made for the path of every call.

It does what OpenTelemetry's SDK does with spans, for a quarter of its CPU: the figures are in
docs/decisions/lean-spans.md. Whoever wants the SDK, its processors or its samplers hands the mesh
a tracer of the SDK instead: the layers know OpenTelemetry's API only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
)

from .clock import Runtime
from .sampling import Sampling
from .spans import RecordedSpan, Sink

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)


class Recorder(Tracer):
    """Makes spans and gives each, encoded, to *emit* when it ends.

    Args:
        emit: takes a field of `ScopeSpans` (`mesh.runtime.otlp.encode_span`); must not block.
        runtime: clock and chance.
        sampling: which traces are recorded.
        limits: how much a span may hold.
    """

    def __init__(
        self,
        emit: Callable[[bytes], None],
        runtime: Runtime,
        sampling: Sampling | None = None,
        limits: SpanLimits | None = None,
    ) -> None:
        wall = runtime.clock.wall
        self._sink = Sink(emit, lambda: int(wall() * 1e9), limits or SpanLimits())
        self._sampling = sampling or Sampling()
        self._random = runtime.random

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """Start a span below the one in *context*; one that is not recorded only carries ids."""
        above = trace.get_current_span(context).get_span_context()
        parent = above if above.is_valid else None
        return self.start_below(parent, name, kind, attributes or {}, links or (), start_time)

    def start_below(
        self,
        parent: SpanContext | None,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        links: Sequence[Link] = (),
        start_time: int | None = None,
    ) -> Span:
        """Start a span below *parent*, without the detour over a context."""
        sampling = self._sampling
        if parent is None:
            trace_id = self._random.getrandbits(128) or 1
            recorded = sampling.records(trace_id)
        else:
            trace_id, _, _, above_flags, *_ = parent
            above_records = bool(above_flags & TraceFlags.SAMPLED)
            recorded = above_records if sampling.parent_based else sampling.records(trace_id)
            if not recorded and not above_records:
                return NonRecordingSpan(parent)  # who is below learns the same from it
        marked = _SAMPLED if recorded else _NOT_SAMPLED
        own = SpanContext(trace_id, self._random.getrandbits(64) or 1, False, marked)
        if not recorded:
            return NonRecordingSpan(own)
        began_ns = self._sink.now_ns() if start_time is None else start_time
        span = RecordedSpan(self._sink, own, parent, name, kind, attributes, began_ns)
        for link in links:
            span.add_link(link.context, link.attributes)
        return span

    @contextmanager
    def _as_current(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[Span]:
        span = self.start_span(name, context, kind, attributes, links, start_time)
        with trace.use_span(span, end_on_exit, record_exception, set_status_on_exception):
            yield span

    start_as_current_span: Any = _as_current
