"""OTLP messages as the JSON that Jaeger's query API v3 writes.

It is OTLP's JSON encoding (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding):
lowerCamelCase names; trace and span ids in hex, where protobuf's JSON would use base64; enums as
numbers; 64-bit integers as strings; bytes in base64. Empty fields are left out; `scope`,
`resource` and `status` are always objects. Checked against Jaeger 1.76 (v2).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status


def resource_spans_to_json(message: ResourceSpans) -> dict[str, object]:
    """One element of `resourceSpans`, ready for `json.dumps`."""
    return {
        "resource": _resource(message.resource),
        "scopeSpans": [_scope_spans(scope) for scope in message.scope_spans],
        **_present(schemaUrl=message.schema_url),
    }


def _resource(resource: Resource) -> dict[str, object]:
    return _present(
        attributes=_attributes(resource.attributes),
        droppedAttributesCount=resource.dropped_attributes_count,
    )


def _scope_spans(message: ScopeSpans) -> dict[str, object]:
    return {
        "scope": _scope(message.scope),
        "spans": [_span(span) for span in message.spans],
        **_present(schemaUrl=message.schema_url),
    }


def _scope(scope: InstrumentationScope) -> dict[str, object]:
    return _present(
        name=scope.name,
        version=scope.version,
        attributes=_attributes(scope.attributes),
        droppedAttributesCount=scope.dropped_attributes_count,
    )


def _span(span: Span) -> dict[str, object]:
    return _present(
        traceId=span.trace_id.hex(),
        spanId=span.span_id.hex(),
        traceState=span.trace_state,
        parentSpanId=span.parent_span_id.hex(),
        flags=span.flags,
        name=span.name,
        kind=int(span.kind),
        startTimeUnixNano=_int64(span.start_time_unix_nano),
        endTimeUnixNano=_int64(span.end_time_unix_nano),
        attributes=_attributes(span.attributes),
        droppedAttributesCount=span.dropped_attributes_count,
        events=[_event(event) for event in span.events],
        droppedEventsCount=span.dropped_events_count,
        links=[_link(link) for link in span.links],
        droppedLinksCount=span.dropped_links_count,
    ) | {"status": _status(span.status)}


def _event(event: Span.Event) -> dict[str, object]:
    return _present(
        timeUnixNano=_int64(event.time_unix_nano),
        name=event.name,
        attributes=_attributes(event.attributes),
        droppedAttributesCount=event.dropped_attributes_count,
    )


def _link(link: Span.Link) -> dict[str, object]:
    return _present(
        traceId=link.trace_id.hex(),
        spanId=link.span_id.hex(),
        traceState=link.trace_state,
        attributes=_attributes(link.attributes),
        droppedAttributesCount=link.dropped_attributes_count,
        flags=link.flags,
    )


def _status(status: Status) -> dict[str, object]:
    return _present(message=status.message, code=int(status.code))


def _attributes(attributes: Iterable[KeyValue]) -> list[dict[str, object]]:
    return [{"key": item.key, "value": _any_value(item.value)} for item in attributes]


def _any_value(value: AnyValue) -> Mapping[str, object]:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return {"stringValue": value.string_value}
    if kind == "int_value":
        return {"intValue": str(value.int_value)}
    if kind == "bool_value":
        return {"boolValue": value.bool_value}
    if kind == "double_value":
        return {"doubleValue": _double(value.double_value)}
    if kind == "bytes_value":
        return {"bytesValue": base64.b64encode(value.bytes_value).decode("ascii")}
    if kind == "array_value":
        items = [_any_value(item) for item in value.array_value.values]
        return {"arrayValue": _present(values=items)}
    if kind == "kvlist_value":
        return {"kvlistValue": _present(values=_attributes(value.kvlist_value.values))}
    return {}


def _double(number: float) -> float | str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def _int64(number: int) -> str:
    return str(number) if number else ""


def _present(**fields: object) -> dict[str, object]:
    """The fields that hold something."""
    return {name: value for name, value in fields.items() if value}
