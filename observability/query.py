"""The parameters of Jaeger's query API v3, parsed as Jaeger (Go) parses them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from observability.kept import Query

_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", re.ASCII
)
_DURATION_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNIT_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5 and U+03BC, as in Go
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_Value = TypeVar("_Value")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ApiError(Exception):
    """An answer other than 200, with Jaeger's status and message for it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse_find(params: Mapping[str, str], max_traces: int) -> Query:
    """The query of `GET /api/v3/traces`. Raises ApiError.

    Both times are required; so is `query.num_traces` in effect: without it Jaeger's memory storage
    fails with a 500, and so do we, that a client which works here works there.
    """
    low, high = params.get("query.start_time_min"), params.get("query.start_time_max")
    if not low or not high:
        raise ApiError(400, "query.start_time_min and query.start_time_max are required")
    query = Query(
        start_min_ns=_parse("query.start_time_min", parse_time_ns, low),
        start_max_ns=_parse("query.start_time_max", parse_time_ns, high),
        limit=_optional(params, "query.num_traces", _parse_int),
        duration_min_ns=_optional(params, "query.duration_min", parse_duration_ns),
        duration_max_ns=_optional(params, "query.duration_max", parse_duration_ns),
        service=params.get("query.service_name", ""),
        operation=params.get("query.operation_name", ""),
    )
    _optional(params, "query.raw_traces", parse_bool)
    if not 0 < query.limit <= max_traces:
        raise ApiError(500, "search depth must be greater than 0 and less than max traces")
    return query


def check_get(params: Mapping[str, str]) -> None:
    """Validate the options of `GET /api/v3/traces/{id}`; they change nothing. Raises ApiError."""
    _optional(params, "start_time", parse_time_ns)
    _optional(params, "end_time", parse_time_ns)
    _optional(params, "raw_traces", parse_bool)


def parse_trace_id(text: str) -> bytes:
    """16 bytes from up to 32 hex digits; shorter ones are padded on the left. Raises ApiError."""
    if len(text) > 32:
        raise ApiError(
            400,
            "malformed parameter trace_id: "
            f"TraceID cannot be longer than 32 hex characters: {text[:200]}",
        )
    return _parse("trace_id", _parse_hex, text)


def parse_time_ns(text: str) -> int:
    """Nanoseconds since the epoch from RFC 3339 with up to nine decimals. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:200]!r} is not an RFC 3339 time like 2026-01-31T12:00:00.5Z")
    whole, fraction, zone = match.groups()
    moment = datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
    return (moment - _EPOCH) // timedelta(seconds=1) * 10**9 + int((fraction or "").ljust(9, "0"))


def parse_duration_ns(text: str) -> int:
    """Nanoseconds from a Go duration such as `1h2m3.5s` or `250ms`. Raises ValueError."""
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if body == "0":
        return 0
    parts = list(_DURATION_PART.finditer(body))
    if not parts or "".join(part.group() for part in parts) != body:
        raise ValueError(f"{text[:200]!r} is not a duration like 1.5s, 250ms or 1h30m")
    return sign * round(sum(float(part[1]) * _UNIT_NS[part[2]] for part in parts))


def parse_bool(text: str) -> bool:
    """The words Go's ParseBool takes. Raises ValueError."""
    if text not in _TRUE | _FALSE:
        raise ValueError(f"{text[:200]!r} is neither true nor false")
    return text in _TRUE


def _parse_int(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError(f"{text[:200]!r} is not an integer")
    return int(text)


def _parse_hex(text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]+", text):
        raise ValueError(f"{text[:200]!r} is not hexadecimal")
    return int(text, 16).to_bytes(16, "big")


def _parse(name: str, parse: Callable[[str], _Value], text: str) -> _Value:
    try:
        return parse(text)
    except ValueError as error:
        raise ApiError(400, f"malformed parameter {name}: {error}") from error


def _optional(params: Mapping[str, str], name: str, parse: Callable[[str], int]) -> int:
    text = params.get(name)
    return _parse(name, parse, text) if text else 0
