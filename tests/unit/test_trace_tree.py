"""Traces as text trees."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from observability.trace_model import link_spans, read_spans
from observability.trace_store import Config, running
from observability.trace_tree import (
    TraceUnavailableError,
    fetch_trace,
    format_duration,
    main,
    render_trace,
)

MS = 1_000_000


def raw_span(span_id: str, parent_id: str = "", *, at_ms: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "traceId": "a1",
        "spanId": span_id,
        "parentSpanId": parent_id,
        "name": f"span {span_id}",
        "startTimeUnixNano": str(10**18 + at_ms * MS),
        "endTimeUnixNano": str(10**18 + (at_ms + 5) * MS),
        "status": {},
    } | fields


def body(**services: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "result": {
            "resourceSpans": [
                {
                    "resource": {
                        "attributes": [
                            {"key": "service.name", "value": {"stringValue": service}},
                        ]
                    },
                    "scopeSpans": [{"scope": {}, "spans": spans}],
                }
                for service, spans in services.items()
            ]
        }
    }


def test_a_tree() -> None:
    declined = {"code": 2, "message": "card declined"}
    trace = body(
        gateway=[raw_span("1", links=[{"traceId": "beef", "spanId": "77"}])],
        payment=[raw_span("4", "2", at_ms=3, status=declined)],
        order=[
            raw_span("3", "2", at_ms=2),
            raw_span("2", "1", at_ms=1),
            raw_span("5", "1", at_ms=9),
        ],
    )
    assert render_trace(trace).splitlines() == [
        "span 1        gateway     +0 ns  5.00 ms  → linked to beef/77",
        "├─ span 2     order    +1.00 ms  5.00 ms",
        "│  ├─ span 3  order    +2.00 ms  5.00 ms",
        "│  └─ span 4  payment  +3.00 ms  5.00 ms  ✗ card declined",
        "└─ span 5     order    +9.00 ms  5.00 ms",
        "",
        "5 spans, 3 services, 1 error, 14.0 ms",
    ]


def test_an_error_without_a_message_shows_its_type() -> None:
    kind = {"key": "error.type", "value": {"stringValue": "UNAVAILABLE"}}
    trace = body(order=[raw_span("1", status={"code": 2}, attributes=[kind])])
    assert "✗ UNAVAILABLE" in render_trace(trace)


def test_a_span_whose_parent_is_missing_is_a_root_and_says_so() -> None:
    text = render_trace(body(order=[raw_span("1"), raw_span("2", "gone", at_ms=1)]))
    assert "(parent gone is not in this trace)" in text.splitlines()[1]


@pytest.mark.parametrize(
    "edges",
    [
        [("1", "2"), ("2", "1")],
        [("1", "1")],
        [("1", "3"), ("2", "1"), ("3", "2"), ("4", "3")],
        [("1", ""), ("1", ""), ("2", "1")],
    ],
)
def test_broken_parents_lose_and_repeat_no_span(edges: list[tuple[str, str]]) -> None:
    trace = body(order=[raw_span(span_id, parent_id) for span_id, parent_id in edges])
    assert len(render_trace(trace).splitlines()) == len(edges) + 2


def test_a_chain_of_ten_thousand_spans_is_no_problem() -> None:
    spans = [raw_span(str(number), str(number - 1)) for number in range(1, 10_001)]
    (root,) = link_spans(read_spans(body(order=spans)))
    assert root.span_id == "1"
    assert root.is_orphan


def test_a_trace_cannot_drive_the_terminal() -> None:
    hostile = "\x1b[2J\r\nfake line\x9b31m\u202e" + "x" * 500
    trace = body(**{hostile: [raw_span("1", name=hostile, status={"code": 2, "message": hostile})]})
    text = render_trace(trace)
    assert len(text.splitlines()) == 3
    assert not {"\x1b", "\r", "\x9b", "\u202e"} & set(text)
    assert "\\x1b[2J\\r\\nfake line" in text
    assert "x" * 101 not in text


def test_colour_only_on_request() -> None:
    trace = body(order=[raw_span("1", status={"code": 2})])
    assert "\x1b[31m" in render_trace(trace, color=True)
    assert "\x1b" not in render_trace(trace)


@pytest.mark.parametrize("wrong", [{}, {"result": None}, {"result": {"resourceSpans": [1]}}])
def test_what_is_no_answer_of_the_api(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not an answer of query API v3"):
        render_trace(wrong)


def test_nothing() -> None:
    assert render_trace({"result": {"resourceSpans": []}}) == "no spans"


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1.00 µs"),
        (12_345, "12.3 µs"),
        (3_204_000, "3.20 ms"),
        (812 * MS, "812 ms"),
        (1_040 * MS, "1.04 s"),
        (90_000 * MS, "90.0 s"),
    ],
)
def test_durations(ns: int, text: str) -> None:
    assert format_duration(ns) == text


async def test_the_program_on_a_running_store(capsys: pytest.CaptureFixture[str]) -> None:
    async with running(Config(otlp_port=0, http_port=0)) as server:
        arguments = ["7", "--url", server.http_url]
        assert await asyncio.to_thread(main, arguments) == 1
        assert "No traces found (status 404" in capsys.readouterr().err


def test_an_address_without_a_server() -> None:
    with pytest.raises(TraceUnavailableError, match=r"no answer from http://127\.0\.0\.1:9"):
        fetch_trace("http://127.0.0.1:9", "7")
    with pytest.raises(TraceUnavailableError, match="not an http address"):
        fetch_trace("file:///etc", "7")
