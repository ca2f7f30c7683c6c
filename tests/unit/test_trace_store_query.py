"""Parameters of the query API, parsed as Go parses them, and OTLP values as Jaeger writes them."""

from __future__ import annotations

import math

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from observability.otlp_json import resource_spans_to_json
from observability.query import (
    ApiError,
    parse_bool,
    parse_duration_ns,
    parse_find,
    parse_time_ns,
    parse_trace_id,
)

TIMES = {
    "query.start_time_min": "1970-01-01T00:00:01Z",
    "query.start_time_max": "1970-01-01T00:00:02Z",
}


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:00.123456789Z", 123_456_789),
        ("1970-01-01T02:00:00+02:00", 0),
        ("2026-11-22T16:23:24.079Z", 1_795_364_604_079_000_000),
    ],
)
def test_times(text: str, expected_ns: int) -> None:
    assert parse_time_ns(text) == expected_ns


@pytest.mark.parametrize(
    "text", ["", "now", "2020-01-01", "2020-01-01T00:00:00", "2020-13-01T00:00:00Z", "1700000000"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|month"):
        parse_time_ns(text)


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("0", 0),
        ("250ms", 250_000_000),
        ("1.5s", 1_500_000_000),
        ("1h2m3s", 3_723_000_000_000),
        ("7µs", 7_000),
        (".5us", 500),
        ("-1ns", -1),
    ],
)
def test_durations(text: str, expected_ns: int) -> None:
    assert parse_duration_ns(text) == expected_ns


@pytest.mark.parametrize("text", ["1", "ms", "1x", "1.5.s", "1s ", "1s,2m", "--1s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration_ns(text)


def test_bools() -> None:
    assert [parse_bool(text) for text in ("1", "true", "T", "0", "False")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(ValueError, match="neither true nor false"):
        parse_bool("yes")


def test_trace_ids_are_padded_on_the_left() -> None:
    assert parse_trace_id("7") == bytes(15) + b"\7"
    assert parse_trace_id("0AF7651916cd43dd8448eb211c80319c").hex().startswith("0af765")
    for text in ("", "0x7", "-7", "7" * 33, "٣"):
        with pytest.raises(ApiError):
            parse_trace_id(text)


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"query.num_traces": "0"}, 500, "search depth must be greater than 0"),
        ({"query.num_traces": "101"}, 500, "search depth must be greater than 0"),
        ({}, 500, "search depth must be greater than 0"),
        ({"query.num_traces": "many"}, 400, "malformed parameter query.num_traces"),
        ({"query.duration_min": "1"}, 400, "malformed parameter query.duration_min"),
        ({"query.duration_max": "1x"}, 400, "malformed parameter query.duration_max"),
        ({"query.start_time_max": "x"}, 400, "malformed parameter query.start_time_max"),
        ({"query.start_time_min": ""}, 400, "query.start_time_min and query.start_time_max are"),
        ({"query.raw_traces": "x"}, 400, "malformed parameter query.raw_traces"),
    ],
)
def test_a_search_that_cannot_be_made(changes: dict[str, str], status: int, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        parse_find(TIMES | changes, max_traces=100)
    assert caught.value.status == status


def test_a_search() -> None:
    query = parse_find(
        TIMES | {"query.num_traces": "100", "query.service_name": "a", "query.duration_min": "1ms"},
        max_traces=100,
    )
    assert (query.limit, query.service, query.operation) == (100, "a", "")
    assert (query.start_min_ns, query.start_max_ns) == (10**9, 2 * 10**9)
    assert (query.duration_min_ns, query.duration_max_ns) == (1_000_000, 0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (AnyValue(), {}),
        (AnyValue(string_value=""), {"stringValue": ""}),
        (AnyValue(int_value=-(2**63)), {"intValue": "-9223372036854775808"}),
        (AnyValue(int_value=0), {"intValue": "0"}),
        (AnyValue(bool_value=False), {"boolValue": False}),
        (AnyValue(double_value=1.5), {"doubleValue": 1.5}),
        (AnyValue(double_value=math.nan), {"doubleValue": "NaN"}),
        (AnyValue(double_value=-math.inf), {"doubleValue": "-Infinity"}),
        (AnyValue(bytes_value=b"\xff\x00\xfb"), {"bytesValue": "/wD7"}),
        (AnyValue(array_value=ArrayValue()), {"arrayValue": {}}),
        (
            AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue()])),
            {"arrayValue": {"values": [{"intValue": "1"}, {}]}},
        ),
        (
            AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="k", value=AnyValue())])),
            {"kvlistValue": {"values": [{"key": "k", "value": {}}]}},
        ),
    ],
)
def test_values(value: AnyValue, expected: dict[str, object]) -> None:
    message = ResourceSpans()
    message.resource.attributes.add(key="k").value.CopyFrom(value)
    resource = resource_spans_to_json(message)["resource"]
    assert resource == {"attributes": [{"key": "k", "value": expected}]}
