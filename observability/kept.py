"""How one trace is kept, and which spans a query means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

SERVICE_NAME = "service.name"
KINDS = ("", "internal", "server", "client", "producer", "consumer")  # by OTLP number


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a service. span_kind: a word of KINDS."""

    service: str
    name: str
    span_kind: str


@dataclass(frozen=True, slots=True)
class Query:
    """What `TraceStore.find` looks for; times in ns since the epoch, durations in ns.

    A trace matches when one of its spans meets all of it, as in Jaeger. Empty text, 0 for a
    duration: no condition.
    """

    limit: int
    start_min_ns: int
    start_max_ns: int
    service: str = ""
    operation: str = ""
    duration_min_ns: int = 0
    duration_max_ns: int = 0


@dataclass(slots=True)
class Record:
    """One span: its OTLP bytes, and what is searched for without decoding them."""

    name: str
    kind: int
    start_ns: int
    end_ns: int
    data: bytes


@dataclass(slots=True)
class Group:
    """Spans of one resource and scope; the heads are those messages without their spans."""

    service: str
    resource_head: bytes
    scope_head: bytes
    records: list[Record] = field(default_factory=list)


@dataclass(slots=True)
class KeptTrace:
    """The spans of one trace. seen: their encodings, to recognise one that is sent again."""

    groups: dict[tuple[bytes, bytes], Group] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    operations: set[Operation] = field(default_factory=set)
    size_bytes: int = 0

    def to_otlp(self) -> list[ResourceSpans]:
        """All spans, grouped by resource and scope."""
        by_resource: dict[bytes, ResourceSpans] = {}
        for group in self.groups.values():
            if group.resource_head not in by_resource:
                by_resource[group.resource_head] = ResourceSpans.FromString(group.resource_head)
            scope = by_resource[group.resource_head].scope_spans.add()
            scope.MergeFromString(group.scope_head)
            for record in group.records:
                scope.spans.add().MergeFromString(record.data)
        return list(by_resource.values())

    def matches(self, query: Query) -> bool:
        """Whether a span meets every condition of `query`."""
        return any(_matches(record, query) for record in self._records_of(query.service))

    def _records_of(self, service: str) -> Iterator[Record]:
        for group in self.groups.values():
            if service in ("", group.service):
                yield from group.records


def name_service(resource: ResourceSpans) -> str:
    """The `service.name` of a resource, or Jaeger's placeholder: missing, empty or not text."""
    for attribute in resource.resource.attributes:
        if attribute.key == SERVICE_NAME:
            if attribute.value.WhichOneof("value") != "string_value":
                return "service-name-wrong-type"
            return attribute.value.string_value or "empty-service-name"
    return "missing-service-name"


def name_kind(kind: int) -> str:
    """The word for an OTLP span kind; "" for unspecified and unknown ones."""
    return KINDS[kind] if 0 <= kind < len(KINDS) else ""


def is_id(value: bytes, length: int) -> bool:
    """Whether this is a valid id: of that length (trace: 16 bytes, span: 8), not all zero."""
    return len(value) == length and any(value)


def head_of_resource(resource: ResourceSpans) -> bytes:
    """The encoding of `resource` without its spans, its service named as `name_service` does."""
    head = ResourceSpans(resource=resource.resource, schema_url=resource.schema_url)
    service = name_service(resource)
    named = [item for item in head.resource.attributes if item.key == SERVICE_NAME]
    if not named or named[0].value.string_value != service:
        item = named[0] if named else head.resource.attributes.add(key=SERVICE_NAME)
        item.value.string_value = service
    return head.SerializeToString(deterministic=True)


def head_of_scope(scope: ScopeSpans) -> bytes:
    """The encoding of `scope` without its spans."""
    head = ScopeSpans(schema_url=scope.schema_url)
    if scope.HasField("scope"):
        head.scope.CopyFrom(scope.scope)
    return head.SerializeToString(deterministic=True)


def _matches(record: Record, query: Query) -> bool:
    duration_ns = record.end_ns - record.start_ns
    return (
        query.start_min_ns <= record.start_ns <= query.start_max_ns
        and query.operation in ("", record.name)
        and (not query.duration_min_ns or duration_ns >= query.duration_min_ns)
        and (not query.duration_max_ns or duration_ns <= query.duration_max_ns)
    )
