"""The newest traces, in bounded memory: the data behind the trace store's API.

Spans are kept as their OTLP bytes, not as message objects: a protobuf object pins the memory of the
whole request it came in, bytes cost exactly their length, and a batch which an exporter sends again
(its acknowledgement was lost) is recognised by comparing them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from observability.kept import (
    Group,
    KeptTrace,
    Operation,
    Query,
    Record,
    head_of_resource,
    head_of_scope,
    is_id,
    name_kind,
    name_service,
)

# Beside the bytes themselves, as measured with tracemalloc: the objects that hold one span, and
# those that hold the spans of one resource and scope in one trace.
SPAN_OVERHEAD_BYTES = 500
GROUP_OVERHEAD_BYTES = 600


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept. The oldest trace (by arrival of its first span) goes first.

    bytes: of the spans' OTLP encodings and the objects around them, over all traces.
    """

    traces: int = 10_000
    spans_per_trace: int = 10_000
    bytes: int = 128 * 1024 * 1024

    def __post_init__(self) -> None:
        if min(self.traces, self.spans_per_trace, self.bytes) <= 0:
            raise ValueError(f"every limit must be positive: {self}")


@dataclass(slots=True)
class Stats:
    """Counts since the start, except the first three, which say what is held now."""

    traces: int = 0
    spans: int = 0
    bytes: int = 0
    received_spans: int = 0
    duplicate_spans: int = 0
    invalid_spans: int = 0  # without a valid trace or span id
    dropped_spans: int = 0  # did not fit: the trace's own limit, or larger than the whole memory
    evicted_traces: int = 0
    evicted_spans: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    """Spans of one request that were not kept, and why (empty when all were)."""

    spans: int = 0
    reason: str = ""


class TraceStore:
    """Keeps the newest traces within `limits`. Synchronous, no clock; one thread at a time."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.stats = Stats()
        self._traces: dict[bytes, KeptTrace] = {}  # insertion order is age
        self._operations: Counter[Operation] = Counter()  # in how many kept traces each occurs

    def add(self, resource_spans: Sequence[ResourceSpans]) -> Rejected:
        """Take the spans of one export request in.

        Spans without a valid id and spans beyond a limit are counted, not kept; the answer says how
        many, in the terms of OTLP's partial success.
        """
        before = self.stats.invalid_spans, self.stats.dropped_spans
        for resource in resource_spans:
            service = name_service(resource)
            resource_head = head_of_resource(resource)
            for scope in resource.scope_spans:
                scope_head = head_of_scope(scope)
                for span in scope.spans:
                    self._add_span(service, resource_head, scope_head, span)
        invalid = self.stats.invalid_spans - before[0]
        dropped = self.stats.dropped_spans - before[1]
        reasons = [f"{invalid} without a valid trace and span id"] if invalid else []
        reasons += [f"{dropped} beyond the limits of this store"] if dropped else []
        return Rejected(invalid + dropped, ", ".join(reasons))

    def services(self) -> list[str]:
        """Names of the services with a span in a kept trace, sorted."""
        return sorted({operation.service for operation in self._operations})

    def operations(self, service: str, span_kind: str = "") -> list[Operation]:
        """Operations of `service` in kept traces, sorted; only those of one kind if given."""
        found = (
            operation
            for operation in self._operations
            if operation.service == service and span_kind in ("", operation.span_kind)
        )
        return sorted(found, key=lambda operation: (operation.name, operation.span_kind))

    def trace(self, trace_id: bytes) -> list[ResourceSpans]:
        """All spans of a trace (16-byte id), grouped by resource and scope; [] if unknown."""
        trace = self._traces.get(trace_id)
        return [] if trace is None else trace.to_otlp()

    def trace_exists(self, trace_id: bytes) -> bool:
        """Whether a trace with this 16-byte id is kept."""
        return trace_id in self._traces

    def find(self, query: Query) -> list[bytes]:
        """Ids of matching traces, the newest (by arrival) first, at most `query.limit`."""
        found: list[bytes] = []
        for trace_id in reversed(self._traces):
            if len(found) >= query.limit:
                break
            if self._traces[trace_id].matches(query):
                found.append(trace_id)
        return found

    def _add_span(self, service: str, resource_head: bytes, scope_head: bytes, span: Span) -> None:
        self.stats.received_spans += 1
        if not (is_id(span.trace_id, 16) and is_id(span.span_id, 8)):
            self.stats.invalid_spans += 1
            return
        data = span.SerializeToString()
        trace = self._traces.get(span.trace_id)
        if trace is not None and data in trace.seen:
            self.stats.duplicate_spans += 1
            return
        key = (resource_head, scope_head)
        is_new_group = trace is None or key not in trace.groups
        cost = len(data) + len(span.name) + SPAN_OVERHEAD_BYTES
        if is_new_group:
            cost += len(resource_head) + len(scope_head) + GROUP_OVERHEAD_BYTES
        if trace is not None and len(trace.seen) >= self.limits.spans_per_trace:
            self.stats.dropped_spans += 1
            return
        if not self._make_room(span.trace_id, is_new_trace=trace is None, cost=cost):
            self.stats.dropped_spans += 1
            return
        if trace is None:
            trace = self._traces[span.trace_id] = KeptTrace()
            self.stats.traces += 1
        group = trace.groups.setdefault(key, Group(service, *key))
        self._put(trace, group, span, data, cost)

    def _put(self, trace: KeptTrace, group: Group, span: Span, data: bytes, cost: int) -> None:
        start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
        group.records.append(Record(span.name, span.kind, start_ns, end_ns, data))
        trace.seen.add(data)
        operation = Operation(group.service, span.name, name_kind(span.kind))
        if operation not in trace.operations:
            trace.operations.add(operation)
            self._operations[operation] += 1
        trace.size_bytes += cost
        self.stats.bytes += cost
        self.stats.spans += 1

    def _make_room(self, trace_id: bytes, *, is_new_trace: bool, cost: int) -> bool:
        """Evict the oldest traces, never `trace_id`, until `cost` bytes fit; False if never."""
        kept_bytes = 0 if is_new_trace else self._traces[trace_id].size_bytes
        if kept_bytes + cost > self.limits.bytes:
            return False
        while self.stats.bytes + cost > self.limits.bytes:
            self._evict(next(other for other in self._traces if other != trace_id))
        if is_new_trace and len(self._traces) >= self.limits.traces:
            self._evict(next(iter(self._traces)))
        return True

    def _evict(self, trace_id: bytes) -> None:
        trace = self._traces.pop(trace_id)
        for operation in trace.operations:
            self._operations[operation] -= 1
            if not self._operations[operation]:
                del self._operations[operation]
        self.stats.traces -= 1
        self.stats.spans -= len(trace.seen)
        self.stats.bytes -= trace.size_bytes
        self.stats.evicted_traces += 1
        self.stats.evicted_spans += len(trace.seen)
