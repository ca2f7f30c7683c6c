"""Spans: one for each logical call, one for each further attempt, one for each call served.

Names and attributes follow OpenTelemetry's RPC semantic conventions
(https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/); `rpc.response.status_code` always
equals the wire. A client span of any status but OK is an error; a server span only if the fault
is the server's.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from functools import partial
from typing import Any

from grpc import StatusCode
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    Status,
    Tracer,
)
from opentelemetry.trace import StatusCode as SpanStatus

from ..call import Call, Handler, Layer, StreamHandler
from ..errors import MeshError
from ..metadata import CORRELATION_ID, OUTSIDE_TRACEPARENT, TRACEPARENT
from ..runtime.recorder import Recorder
from ..scope import current_span, format_traceparent, parse_traceparent, scope
from .deadline import Overrun
from .streams import Reading

#: On a server span only these are errors; any other status is the client's affair.
SERVER_FAULTS = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)


def status_of(error: BaseException) -> tuple[StatusCode, str]:
    """Return (status, reason) as they go over the wire."""
    if isinstance(error, MeshError):
        return error.status, error.reason
    if isinstance(error, Overrun):
        return StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return StatusCode.CANCELLED, "CANCELLED"
    return StatusCode.UNKNOWN, type(error).__name__


def _end(span: Span, error: BaseException | None, *, server: bool) -> None:
    """End *span* with the status of what raised *error*, or of what did not."""
    if error is None:
        span.set_attribute("rpc.response.status_code", "OK")
    else:
        status, reason = status_of(error)
        span.set_attribute("rpc.response.status_code", status.name)
        if not server or status in SERVER_FAULTS:
            span.set_attribute("error.type", reason)
            span.set_status(Status(SpanStatus.ERROR, reason))
        elif reason:
            span.set_attribute("mesh.refusal", reason)
    span.end()


def _attributes(call: Call, correlation_id: str) -> dict[str, str | int]:
    return {
        "rpc.system.name": "grpc",
        "rpc.method": call.method.full_name,
        "mesh.correlation_id": correlation_id,
    }


#: The context of a call that has just arrived.
_NOTHING = Context()


class _Traced(Layer, ABC):
    """Puts a span around each call: `_start` says which. One that is not recorded is not ended."""

    _server = False

    def __init__(self, tracer: Tracer) -> None:
        self._start_span = (
            tracer.start_below if isinstance(tracer, Recorder) else partial(_start_below, tracer)
        )
        #: This process records nothing: it only hands on the trace of others.
        self._off = isinstance(tracer, NoOpTracer)

    def _untraced(self, call: Call) -> bool:
        """Whether there is nothing to do for *call*."""
        return False

    @abstractmethod
    def _start(self, call: Call) -> tuple[Span, Call]:
        """Return the span, and the call as it goes on under it."""

    def __call__(self, inner: Handler) -> Handler:
        """Trace a call."""
        untraced = self._untraced

        async def recorded(call: Call, span: Span) -> Any:
            try:
                reply = await inner(call)
            except BaseException as error:
                _end(span, error, server=self._server)
                raise
            _end(span, None, server=self._server)
            return reply

        def traced(call: Call) -> Awaitable[Any]:
            if untraced(call):
                return inner(call)
            span, call = self._start(call)
            return recorded(call, span) if span.is_recording() else inner(call)

        return traced

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """Trace a stream: one span, from its call to its end."""

        async def traced(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            span, call = (INVALID_SPAN, call) if self._untraced(call) else self._start(call)
            try:
                async with Reading(inner(call, requests)) as replies:
                    async for reply in replies:
                        yield reply
            except BaseException as error:
                _end(span, error, server=self._server)
                raise
            _end(span, None, server=self._server)

        return traced


class TraceServer(_Traced):
    """Server: a span that continues the caller's trace and is current while we serve.

    Each call is served in a context of its own, so nothing needs detaching.
    """

    _server = True

    def _untraced(self, call: Call) -> bool:
        return self._off and TRACEPARENT not in call.metadata

    def _start(self, call: Call) -> tuple[Span, Call]:
        outside = call.metadata.get(OUTSIDE_TRACEPARENT)
        link = parse_traceparent(outside) if outside else None
        span = self._start_span(
            parse_traceparent(call.metadata.get(TRACEPARENT, "")),
            call.method.full_name,
            SpanKind.SERVER,
            _attributes(call, scope.get().correlation_id),
            (Link(link),) if link else (),
        )
        otel_context.attach(trace.set_span_in_context(span, _NOTHING))
        return span, call


class TraceCall(_Traced):
    """Client: the logical call, around all its attempts. The first attempt carries its id."""

    def __init__(self, tracer: Tracer, target: str) -> None:
        super().__init__(tracer)
        self._target = target

    def _untraced(self, call: Call) -> bool:
        return self._off and (
            TRACEPARENT in call.metadata or trace.get_current_span() is INVALID_SPAN
        )

    def _start(self, call: Call) -> tuple[Span, Call]:
        # A parent given with the call (a saga's segment) goes before the current span.
        given = call.metadata.get(TRACEPARENT)
        parent = parse_traceparent(given) if given else current_span()
        attributes = _attributes(call, call.metadata.get(CORRELATION_ID, ""))
        attributes["server.address"] = self._target
        span = self._start_span(parent, call.method.full_name, SpanKind.CLIENT, attributes)
        return span, _carrying(call, span)


class TraceAttempt(_Traced):
    """Client: a child span for each attempt after the first."""

    def _untraced(self, call: Call) -> bool:
        return call.attempt == 1

    def _start(self, call: Call) -> tuple[Span, Call]:
        attributes = _attributes(call, call.metadata.get(CORRELATION_ID, ""))
        attributes["rpc.retry_count"] = call.attempt - 1
        parent = parse_traceparent(call.metadata.get(TRACEPARENT, ""))
        span = self._start_span(parent, call.method.full_name, SpanKind.CLIENT, attributes)
        return span, _carrying(call, span)


def _start_below(
    tracer: Tracer,
    parent: SpanContext | None,
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, Any],
    links: Sequence[Link] = (),
) -> Span:
    """Start a span below *parent* by any tracer, which knows parents by a context only."""
    context = trace.set_span_in_context(NonRecordingSpan(parent), _NOTHING) if parent else _NOTHING
    return tracer.start_span(name, context, kind, attributes, links)


def _carrying(call: Call, span: Span) -> Call:
    traceparent = format_traceparent(span.get_span_context())
    if not traceparent:
        return call
    return call.replace(metadata={**call.metadata, TRACEPARENT: traceparent}, span=span)
