"""A trace, read from the JSON of query API v3 into spans that know their children. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

STATUS_ERROR: Final = 2
KINDS: Final = ("", "internal", "server", "client", "producer", "consumer")

Json = Mapping[str, Any]


@dataclass(slots=True, eq=False)
class Span:
    """One span. ids: hex; times: ns since the epoch; links: (trace id, span id).

    is_orphan: it names a parent which is not in the trace, or is its own ancestor.
    """

    span_id: str
    parent_id: str
    service: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    is_error: bool
    message: str
    attributes: Mapping[str, object]
    links: Sequence[tuple[str, str]]
    is_orphan: bool = False
    children: list[Span] = field(default_factory=list)

    @property
    def duration_ns(self) -> int:
        """Never negative, whatever the clocks said."""
        return max(0, self.end_ns - self.start_ns)


def read_spans(body: Json) -> list[Span]:
    """The spans of an answer of `/api/v3/traces/{id}`, by start time. Raises ValueError."""
    try:
        spans = list(_spans_of(body["result"]["resourceSpans"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not an answer of query API v3: {error!r}") from error
    return sorted(spans, key=lambda span: span.start_ns)


def link_spans(spans: Sequence[Span]) -> list[Span]:
    """Fill `children`, in the order of `spans`; the roots, so that each span is under just one."""
    by_id = {span.span_id: span for span in spans}
    roots: list[Span] = []
    for span in spans:
        parent = by_id.get(span.parent_id)
        if parent is None or parent is span:
            span.is_orphan = bool(span.parent_id)
            roots.append(span)
        else:
            parent.children.append(span)
    reached: set[Span] = set()
    for root in roots:
        _descend(root, reached)
    for span in spans:
        if span not in reached:  # in a cycle, which only broken data has
            span.is_orphan = True
            roots.append(span)
            _descend(span, reached)
    return roots


def _descend(root: Span, reached: set[Span]) -> None:
    reached.add(root)
    stack = [root]
    while stack:
        span = stack.pop()
        span.children = [child for child in span.children if child not in reached]
        reached.update(span.children)
        stack.extend(span.children)


def _spans_of(resource_spans: Sequence[Json]) -> Iterator[Span]:
    for group in resource_spans:
        resource = _attributes(group.get("resource", {}).get("attributes", ()))
        service = str(resource.get("service.name") or "unknown service")
        for scope in group.get("scopeSpans", ()):
            for raw in scope.get("spans", ()):
                yield _span(service, raw)


def _span(service: str, raw: Json) -> Span:
    status = raw.get("status", {})
    kind = int(raw.get("kind", 0))
    return Span(
        span_id=raw.get("spanId", ""),
        parent_id=raw.get("parentSpanId", ""),
        service=service,
        name=raw.get("name", ""),
        kind=KINDS[kind] if 0 <= kind < len(KINDS) else "",
        start_ns=int(raw.get("startTimeUnixNano", 0)),
        end_ns=int(raw.get("endTimeUnixNano", 0)),
        is_error=status.get("code", 0) == STATUS_ERROR,
        message=status.get("message", ""),
        attributes=_attributes(raw.get("attributes", ())),
        links=[(link.get("traceId", ""), link.get("spanId", "")) for link in raw.get("links", ())],
    )


def _attributes(attributes: Sequence[Json]) -> dict[str, object]:
    """Scalars as themselves (int64 comes as text), arrays and maps as the JSON they came in."""
    return {item["key"]: _scalar(item.get("value", {})) for item in attributes}


def _scalar(value: Json) -> object:
    if "intValue" in value:
        return int(value["intValue"])
    return next(iter(value.values()), None)
