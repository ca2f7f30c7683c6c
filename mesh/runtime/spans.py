"""Spans as OpenTelemetry's API has them, kept lightly and encoded when they end."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span as PbSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status as PbStatus
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode

from .logs import log
from .otlp import any_value, encode_span, flags, key_values


@dataclass(frozen=True)
class Sink:
    """What spans need of who records them.

    `emit` takes a field of `ScopeSpans` (`mesh.runtime.otlp.encode_span`) and must not block;
    `now_ns` is in nanoseconds since the epoch.
    """

    emit: Callable[[bytes], None]
    now_ns: Callable[[], int]
    limits: SpanLimits

    def takes(self, attributes: Mapping[str, Any]) -> bool:
        """Whether a new span may have *attributes* as they are."""
        most, longest = self.limits.max_span_attributes, self.limits.max_span_attribute_length
        return longest is None and (most is None or len(attributes) <= most)


class RecordedSpan(Span):
    """A span that goes out when it ends. What comes after its end is ignored."""

    def __init__(
        self,
        sink: Sink,
        context: SpanContext,
        parent: SpanContext | None,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        began_ns: int,
    ) -> None:
        self._sink = sink
        self._context = context
        self._parent = parent
        self._name = name
        self._kind = kind
        self._began_ns = began_ns
        self._ended = False
        #: What few spans have: events, links, a status, counts of what was dropped.
        self._rest: PbSpan | None = None
        self._attributes: dict[str, Any] = {}
        if sink.takes(attributes):
            self._attributes.update(attributes)
        else:
            self.set_attributes(attributes)

    def get_span_context(self) -> SpanContext:
        """Return its ids."""
        return self._context

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return not self._ended

    def end(self, end_time: int | None = None) -> None:
        """End it: it is encoded, and handed on."""
        if self._ended:
            return
        self._ended = True
        ended_ns = self._sink.now_ns() if end_time is None else end_time
        self._sink.emit(
            encode_span(
                self._context,
                self._parent,
                self._name,
                self._kind,
                (self._began_ns, ended_ns),
                self._attributes,
                self._rest.SerializeToString() if self._rest else b"",
            )
        )

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set several."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one; what OTLP has no form for is left out when the span goes out."""
        if self._ended:
            return
        kept, limits = self._attributes, self._sink.limits
        most = limits.max_span_attributes
        if most is not None and len(kept) >= most and key not in kept:
            self._and_rest().dropped_attributes_count += 1
        else:
            kept[key] = _cut(value, limits.max_span_attribute_length)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Add something that happened, now or at *timestamp*, in nanoseconds."""
        if self._ended:
            return
        rest, limits = self._and_rest(), self._sink.limits
        if limits.max_events is not None and len(rest.events) >= limits.max_events:
            rest.dropped_events_count += 1
            return
        kept, dropped = self._few(attributes, limits.max_event_attributes)
        rest.events.add(
            name=name,
            time_unix_nano=self._sink.now_ns() if timestamp is None else timestamp,
            attributes=key_values(kept),
            dropped_attributes_count=dropped,
        )

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """Link to another span."""
        if self._ended or not context.is_valid:
            return
        rest, limits = self._and_rest(), self._sink.limits
        if limits.max_links is not None and len(rest.links) >= limits.max_links:
            rest.dropped_links_count += 1
            return
        kept, dropped = self._few(attributes, limits.max_link_attributes)
        rest.links.add(
            trace_id=context.trace_id.to_bytes(16, "big"),
            span_id=context.span_id.to_bytes(8, "big"),
            attributes=key_values(kept),
            dropped_attributes_count=dropped,
            flags=flags(context),
        )

    def update_name(self, name: str) -> None:
        """Rename it."""
        if not self._ended:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it went. OK is final, UNSET changes nothing."""
        made = status if isinstance(status, Status) else Status(status, description)
        if self._ended or made.status_code is StatusCode.UNSET:
            return
        rest = self._and_rest()
        if rest.status.code == PbStatus.STATUS_CODE_OK:
            return
        code: Any = made.status_code.value
        rest.status.CopyFrom(PbStatus(code=code, message=made.description or ""))

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add an event that tells of *exception*, its text and traceback included."""
        kind = type(exception)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        told = {
            "exception.type": module + kind.__qualname__,
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", told | dict(attributes or {}), timestamp)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """End it, with the error that left the block."""
        if exc_val is not None and self.is_recording():
            self.record_exception(exc_val)
            self.set_status(Status(StatusCode.ERROR, f"{type(exc_val).__name__}: {exc_val}"))
        super().__exit__(exc_type, exc_val, exc_tb)

    def _and_rest(self) -> PbSpan:
        if self._rest is None:
            self._rest = PbSpan()
        return self._rest

    def _few(self, attributes: Any, most: int | None) -> tuple[dict[str, Any], int]:
        """Return what is kept of *attributes*, and how many are not."""
        longest = self._sink.limits.max_attribute_length
        given = [(k, _cut(v, longest)) for k, v in (attributes or {}).items() if _encodable(k, v)]
        kept = dict(given[:most])
        return kept, len(given) - len(kept)


def _encodable(key: str, value: Any) -> bool:
    try:
        any_value(value)
    except (TypeError, ValueError) as error:
        log.warning("an attribute of a span is left out", key=key, error=str(error))
        return False
    return True


def _cut(value: Any, longest: int | None) -> Any:
    if longest is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value[:longest]
    if isinstance(value, (list, tuple)):
        return [_cut(item, longest) for item in value]
    return value
