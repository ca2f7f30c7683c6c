"""Traces as the real Jaeger gives them out, read as a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.e2e.system import System
from tests.support.waiting import eventually

#: OTLP's numbers, as Jaeger's API writes them.
INTERNAL, SERVER, CLIENT = 1, 2, 3
ERROR = 2
#: Who sends spans in batches sends them this often at the least; Envoy is the slowest.
WITHIN_S = 30.0


@dataclass(frozen=True)
class Span:
    """One span. `links` are (trace id, span id); an empty `parent_id` is a root's."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    status: int
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, str]

    @property
    def method(self) -> str:
        """The last part of a method's name: `ChargePayment`."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Trace:
    """The spans of one trace by their start."""

    spans: tuple[Span, ...]

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def services(self) -> set[str]:
        """Who has spans in it."""
        return {span.service for span in self}

    @property
    def roots(self) -> list[Span]:
        """Spans without a parent."""
        return [span for span in self if not span.parent_id]

    @property
    def orphans(self) -> list[Span]:
        """Spans whose parent is missing."""
        known = {span.span_id for span in self}
        return [span for span in self if span.parent_id and span.parent_id not in known]

    def some_of_kind(self, kind: int) -> list[Span]:
        """Every span of that kind."""
        return [span for span in self if span.kind == kind]

    def some(self, name: str, kind: int, service: str = "") -> list[Span]:
        """Every span of that name and kind; `name` may be a method's alone."""
        return [
            span
            for span in self
            if name in (span.name, span.method)
            and span.kind == kind
            and service in ("", span.service)
        ]

    def one(self, name: str, kind: int, service: str = "") -> Span:
        """The only one of them."""
        (span,) = self.some(name, kind, service)
        return span

    def children(self, parent: Span) -> list[Span]:
        """Its children by their start."""
        return [span for span in self if span.parent_id == parent.span_id]

    def parent(self, child: Span) -> Span:
        """Its parent."""
        (parent,) = [span for span in self if span.span_id == child.parent_id]
        return parent

    def tree(self) -> str:
        """All of it, for people."""

        def lines(spans: list[Span], depth: int) -> Iterator[str]:
            for span in spans:
                kind = {INTERNAL: "", SERVER: "SERVER", CLIENT: "CLIENT"}[span.kind]
                yield f"{'  ' * depth}{span.service} {span.name} {kind}"
                yield from lines(self.children(span), depth + 1)

        return "\n".join(lines(self.roots + self.orphans, 0))


def read_trace(system: System, trace_id: str) -> Trace:
    """What Jaeger has of a trace so far."""
    answer = httpx.get(f"{system.jaeger}/api/v3/traces/{trace_id}", timeout=10)
    if answer.status_code == 404:
        return Trace(())
    assert answer.status_code == 200, answer.text
    spans = [
        _span(_attributes(batch["resource"])["service.name"], span)
        for batch in answer.json()["result"]["resourceSpans"]
        for scope in batch["scopeSpans"]
        for span in scope["spans"]
    ]
    return Trace(tuple(sorted(spans, key=lambda span: span.start_ns)))


def wait_for_trace(system: System, trace_id: str, is_complete: Callable[[Trace], object]) -> Trace:
    """Wait until enough of a trace is there."""
    last = Trace(())

    def complete() -> bool:
        nonlocal last
        last = read_trace(system, trace_id)
        return bool(is_complete(last))

    try:
        eventually(complete, within_s=WITHIN_S)
    except AssertionError as error:
        raise AssertionError(f"{error}; Jaeger has:\n{last.tree()}") from None
    return last


def _span(service: str, span: dict[str, Any]) -> Span:
    return Span(
        service=service,
        name=span["name"],
        kind=span["kind"],
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        start_ns=int(span["startTimeUnixNano"]),
        status=span.get("status", {}).get("code", 0),
        links=tuple((link["traceId"], link["spanId"]) for link in span.get("links", ())),
        attributes=_attributes(span),
    )


def _attributes(of: dict[str, Any]) -> dict[str, str]:
    return {
        pair["key"]: str(next(iter(pair["value"].values()))) for pair in of.get("attributes", ())
    }
