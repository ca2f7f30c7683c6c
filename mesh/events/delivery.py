"""An event being delivered, seen as a call: with a key, a deadline, a span, a correlation id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from google.protobuf.empty_pb2 import Empty
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Tracer

from ..call import Call, Idempotency, Kind, Method, Principal
from ..scope import Scope, parse_traceparent, scope
from .port import Event


def as_call(event: Event, deadline: float) -> Call:
    """Return *event* as a call of its publisher's; its key is the same at each delivery.

    What is called from here is done by *deadline*, on the runtime's monotonic clock.
    """
    scope.set(Scope(event.correlation_id, deadline))
    message = event.message()
    method = Method(
        path=f"/{event.topic}",
        service=event.topic,
        name="",
        kind=Kind.UNARY_UNARY,
        idempotency=Idempotency.IDEMPOTENT,
        request_type=type(message),
        reply_type=Empty,
    )
    return Call(
        method=method,
        request=message,
        deadline=deadline,
        key=event.event_id,
        principal=Principal(event.source),
    )


@contextmanager
def served(event: Event, tracer: Tracer) -> Iterator[None]:
    """Run a block under a span of its own, linked to the publisher's; the correlation goes on.

    Names follow OpenTelemetry's messaging semantic conventions
    (https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/).
    """
    published = parse_traceparent(event.traceparent)
    entered = scope.set(Scope(event.correlation_id))
    span = tracer.start_span(
        f"process {event.topic}",
        context=otel_context.Context(),
        kind=SpanKind.CONSUMER,
        attributes={
            "messaging.operation.type": "process",
            "messaging.destination.name": event.topic,
            "messaging.message.id": event.event_id,
            "mesh.correlation_id": event.correlation_id,
            "mesh.event_version": event.version,
        },
        links=[Link(published)] if published else None,
    )
    attached = otel_context.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        otel_context.detach(attached)
        span.end()
        scope.reset(entered)
