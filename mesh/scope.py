"""What a call being served hands down to the calls it makes: correlation, deadline, criticality.

The current span goes the same way, in OpenTelemetry's own context. Work that outlives its caller
(a saga, an open effect) is run `detached`: with the correlation and the trace, without the
deadline.
"""

from __future__ import annotations

import contextvars
import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, TraceFlags

from .call import Criticality
from .metadata import CORRELATION_ID, TRACEPARENT

_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Scope(NamedTuple):
    """The facts that are inherited. `deadline` is on the runtime's monotonic clock.

    `principal` is the name of who is being served. `degraded` goes the other way, up to the caller:
    what the answer is not made of, as it should be. None if no call is being served.
    """

    correlation_id: str = ""
    deadline: float = float("inf")
    attempt: int = 1
    criticality: Criticality = Criticality.DEFAULT
    principal: str = ""
    degraded: list[str] | None = None


_OUTSIDE = Scope()
#: The scope of the call being served; empty outside of one.
scope: ContextVar[Scope] = ContextVar("mesh_scope", default=_OUTSIDE)


#: An answer names as many of its faults as this.
_DEGRADED_MAX = 8

#: What was last said of an answer: of one that a layer made, in place of what a server sends.
said: ContextVar[str] = ContextVar("mesh_said", default="")


def degrade(what: str) -> None:
    """Note of the answer that is being made that *what*, ``METHOD;age=SECONDS``, is out of date.

    It goes out with the answer's initial metadata (`mesh-degraded`), and on to who called that.
    """
    said.set(what)
    noted = scope.get().degraded
    if noted is not None and what not in noted and len(noted) < _DEGRADED_MAX:
        noted.append(what)


def due_by(deadline: float) -> None:
    """Let what follows in this context be over by *deadline*."""
    scope.set(scope.get()._replace(deadline=deadline))


def format_traceparent(span: SpanContext) -> str:
    """Return the W3C form of *span* (https://www.w3.org/TR/trace-context/), "" if invalid."""
    trace_id, span_id, _, flags, *_ = span  # its properties are a function call each
    return f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}" if trace_id and span_id else ""


def parse_traceparent(text: str) -> SpanContext | None:
    """Return the remote span that *text* names, or None if it names none."""
    if not _TRACEPARENT.fullmatch(text):
        return None
    flags = TraceFlags(int(text[53:], 16))
    span = SpanContext(int(text[3:35], 16), int(text[36:52], 16), True, flags)
    return span if span.is_valid else None


def trace_id_of(traceparent: str) -> str:
    """Return the id of a trace in lower-case hex, "" if there is none."""
    span = parse_traceparent(traceparent)
    return f"{span.trace_id:032x}" if span else ""


def parent_of(metadata: Mapping[str, str]) -> Context:
    """Return the OpenTelemetry context whose span is the one that *metadata* carries."""
    span = parse_traceparent(metadata.get(TRACEPARENT, ""))
    return trace.set_span_in_context(NonRecordingSpan(span), Context()) if span else Context()


def current_span() -> SpanContext | None:
    """Return the current span, None if there is none."""
    span = trace.get_current_span()
    context = None if span is INVALID_SPAN else span.get_span_context()
    return context if context and context.is_valid else None


def current_traceparent() -> str:
    """Return the current span in the W3C form, "" if there is none."""
    span = current_span()
    return format_traceparent(span) if span else ""


def inherit(metadata: Mapping[str, str]) -> None:
    """Let what follows in this context have the correlation and the trace of *metadata*."""
    scope.set(Scope(correlation_id=metadata.get(CORRELATION_ID, "")))
    otel_context.attach(parent_of(metadata))


def detached(metadata: Mapping[str, str]) -> contextvars.Context:
    """Return a fresh context for work that outlives its caller.

    Correlation and trace come from *metadata*; there is no deadline.
    """
    context = contextvars.Context()
    context.run(inherit, metadata)
    return context
