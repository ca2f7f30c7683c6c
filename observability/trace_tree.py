"""A trace as a text tree for terminals.

    python -m observability.trace_tree TRACE_ID --url http://127.0.0.1:8081

Reads query API v3, so it works on the embedded trace store and on a real Jaeger alike.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from observability.trace_model import Json, Span, link_spans, read_spans

TIMEOUT_S: Final = 10.0
MAX_TEXT: Final = 100  # characters of a name or message that are shown
_RED, _DIM, _BOLD, _OFF = "\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m"


class TraceUnavailableError(Exception):
    """The trace could not be read: no server, no such trace, or not an API answer."""


@dataclass(frozen=True, slots=True)
class _Line:
    tree: str  # indentation and name
    service: str
    offset: str
    duration: str
    note: str
    is_error: bool


def render_trace(body: Json, *, color: bool = False) -> str:
    """The tree of one trace, a line per span, then how many spans, services and errors.

    body: the JSON of `/api/v3/traces/{id}`. color: with ANSI colours. Times are since the first
    span's start. Control characters in names are shown escaped. Raises ValueError.
    """
    spans = read_spans(body)
    if not spans:
        return "no spans"
    lines = list(_lines(link_spans(spans), start_ns=spans[0].start_ns))
    widths = [
        max(len(column) for column in columns)
        for columns in zip(
            *((line.tree, line.service, line.offset, line.duration) for line in lines), strict=True
        )
    ]
    rendered = [_format(line, widths, color=color) for line in lines]
    return "\n".join([*rendered, "", _summary(spans)])


def format_duration(ns: int) -> str:
    """Nanoseconds in a unit people read, with three digits or so: `812 ns`, `3.20 ms`, `1.04 s`."""
    if ns < 1_000:
        return f"{ns} ns"
    for unit, size in (("µs", 1_000), ("ms", 1_000_000)):
        if ns < size * 1_000:
            return f"{_three_digits(ns / size)} {unit}"
    return f"{_three_digits(ns / 1_000_000_000)} s"


def fetch_trace(base_url: str, trace_id: str) -> Json:
    """The JSON of a trace from the server at `base_url`. Raises TraceUnavailableError."""
    url = f"{base_url.rstrip('/')}/api/v3/traces/{urllib.parse.quote(trace_id, safe='')}"
    if not url.startswith(("http://", "https://")):
        raise TraceUnavailableError(f"not an http address: {base_url}")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - http only
            body: Json = json.load(answer)
    except urllib.error.HTTPError as error:
        raise TraceUnavailableError(f"{_message_of(error)} (status {error.code}, {url})") from error
    except OSError as error:
        raise TraceUnavailableError(f"no answer from {base_url}: {error}") from error
    except ValueError as error:
        raise TraceUnavailableError(f"the answer of {url} is not JSON") from error
    return body


def _lines(roots: Sequence[Span], start_ns: int) -> Iterator[_Line]:
    """Depth first; the stack: a span, what stands before its name, and before its children."""
    stack = [(root, "", "") for root in reversed(roots)]
    while stack:
        span, own, below = stack.pop()
        yield _Line(
            tree=own + _plain(span.name or "(no name)"),
            service=_plain(span.service),
            offset=f"+{format_duration(span.start_ns - start_ns)}",
            duration=format_duration(span.duration_ns),
            note=_note(span),
            is_error=span.is_error,
        )
        for index, child in enumerate(reversed(span.children)):
            branch, pad = ("└─ ", "   ") if index == 0 else ("├─ ", "│  ")
            stack.append((child, below + branch, below + pad))


def _note(span: Span) -> str:
    notes = []
    if span.is_error:
        reason = span.message or str(span.attributes.get("error.type", ""))
        notes.append(f"✗ {_plain(reason)}".rstrip())
    if span.is_orphan:
        notes.append(f"(parent {_plain(span.parent_id)} is not in this trace)")
    for trace_id, span_id in span.links:
        notes.append(f"→ linked to {_plain(trace_id)}/{_plain(span_id)}")
    return "  ".join(notes)


def _format(line: _Line, widths: Sequence[int], *, color: bool) -> str:
    tree, service, offset, duration = widths
    name = line.tree.ljust(tree)
    service_text = line.service.ljust(service)
    offset_text = line.offset.rjust(offset)
    note = line.note
    if color:
        name = f"{_RED if line.is_error else _BOLD}{name}{_OFF}"
        offset_text = f"{_DIM}{offset_text}{_OFF}"
        note = f"{_RED if line.is_error else _DIM}{note}{_OFF}" if note else ""
    cells = (name, service_text, offset_text, line.duration.rjust(duration), note)
    return "  ".join(cells).rstrip()


def _summary(spans: Sequence[Span]) -> str:
    services = len({span.service for span in spans})
    errors = sum(span.is_error for span in spans)
    total = max(span.end_ns for span in spans) - spans[0].start_ns
    parts = (_count(len(spans), "span"), _count(services, "service"), _count(errors, "error"))
    return f"{', '.join(parts)}, {format_duration(max(0, total))}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _three_digits(number: float) -> str:
    decimals = 2 if number < 10 else 1 if number < 100 else 0
    return f"{number:.{decimals}f}"


def _plain(text: str) -> str:
    """One line of printable text: a trace must not be able to drive the terminal."""
    shown = "".join(char if _is_printable(char) else repr(char)[1:-1] for char in text[:MAX_TEXT])
    return f"{shown}…" if len(text) > MAX_TEXT else shown


def _is_printable(char: str) -> bool:
    return char == " " or unicodedata.category(char)[0] not in "CZ"


def _message_of(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one trace. Exit status 0, or 1 when it cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m observability.trace_tree",
        description="Print one trace as a tree.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("trace_id", help="up to 32 hex digits")
    parser.add_argument("--url", default="http://127.0.0.1:8081", help="trace store or Jaeger")
    options = parser.parse_args(arguments)
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    try:
        print(render_trace(fetch_trace(options.url, options.trace_id), color=color))
    except (TraceUnavailableError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
