"""A tracer whose ids come from a seed; ids go over the wire and into journals."""

from __future__ import annotations

from random import Random
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, NoOpTracer, Span, SpanContext, TraceFlags

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class SeededTracer(NoOpTracer):
    """Starts spans that have ids and record nothing."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def start_span(
        self, name: str, context: Context | None = None, *args: Any, **kwargs: Any
    ) -> Span:
        """Return a span in its parent's trace, or in a new one."""
        parent = trace.get_current_span(context).get_span_context()
        bits = self._random.getrandbits
        trace_id = parent.trace_id if parent.is_valid else bits(128) | 1
        return NonRecordingSpan(SpanContext(trace_id, bits(64) | 1, False, _SAMPLED))
