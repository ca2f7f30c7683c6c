"""What Envoy answers by itself, in the shape of every other error: a `google.rpc.Status`.

https://google.aip.dev/193 has the format. `outcome` in the ErrorInfo is what an error says about
a write: `not_executed` (it never left the gateway) or `unknown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo

#: The `ErrorInfo.domain` of what the gateway answers.
DOMAIN = "gateway"
#: Envoy's own words: of a bad request they name the offending JSON or parameter.
ENVOYS_WORDS = "%LOCAL_REPLY_BODY%"
#: Response flags of a request that found no way to its service: no healthy replica, no
#: connection, circuit breaker open.
NEVER_SENT = ("UH", "UF", "UO")


@dataclass(frozen=True)
class Reply:
    """One kind of answer: when it is given, and what its body says."""

    status: int
    code: int
    reason: str
    message: str
    outcome: str = "not_executed"
    flags: tuple[str, ...] = ()
    #: Statuses from this one on, not this one alone.
    and_above: bool = False

    @property
    def when(self) -> dict[str, Any]:
        """Return the filter that tells it by status and response flags."""
        status = _status("GE" if self.and_above else "EQ", self.status)
        if not self.flags:
            return status
        return _all_of(status, {"response_flag_filter": {"flags": list(self.flags)}})

    @property
    def body(self) -> dict[str, Any]:
        """Return the `google.rpc.Status`."""
        info = {
            "@type": f"type.googleapis.com/{ErrorInfo.DESCRIPTOR.full_name}",
            "reason": self.reason,
            "domain": DOMAIN,
            "metadata": {"outcome": self.outcome},
        }
        return {"code": self.code, "message": self.message, "details": [info]}


#: The first that fits is given.
REPLIES = (
    Reply(400, Code.INVALID_ARGUMENT, "BAD_REQUEST", ENVOYS_WORDS),
    Reply(404, Code.NOT_FOUND, "UNKNOWN_PATH", "there is no such method at this path"),
    Reply(408, Code.DEADLINE_EXCEEDED, "REQUEST_TOO_SLOW", "the request took too long to arrive"),
    Reply(413, Code.INVALID_ARGUMENT, "BODY_TOO_LARGE", "the request's body is too large"),
    Reply(429, Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", "too many requests; try again in a second"),
    Reply(431, Code.INVALID_ARGUMENT, "HEADERS_TOO_LARGE", "the request's headers are too large"),
    Reply(
        503,
        Code.UNAVAILABLE,
        "SERVICE_UNREACHABLE",
        "the service cannot be reached",
        flags=NEVER_SENT,
    ),
    Reply(503, Code.UNAVAILABLE, "CONNECTION_LOST", "the service broke the call off", "unknown"),
    Reply(504, Code.DEADLINE_EXCEEDED, "TIMEOUT", "the service did not answer in time", "unknown"),
    Reply(500, Code.INTERNAL, "INTERNAL", ENVOYS_WORDS, "unknown", and_above=True),
    Reply(400, Code.INVALID_ARGUMENT, "BAD_REQUEST", ENVOYS_WORDS, and_above=True),
)


def local_reply_config() -> dict[str, Any]:
    """Return how Envoy's own answers are written.

    gRPC clients get Envoy's own form, a gRPC status. The transcoder turns a REST request into a
    gRPC one; what tells the two apart then is the original path that it notes down.
    """
    grpc = _all_of(
        _header("content-type", {"prefix": "application/grpc"}),
        _absent("x-envoy-original-path"),
    )
    mappers: list[dict[str, Any]] = [{"filter": grpc}]
    mappers += [
        {"filter": reply.when, "body_format_override": {"json_format": reply.body}}
        for reply in REPLIES
    ]
    return {"mappers": mappers}


def _status(op: str, status: int) -> dict[str, Any]:
    # Envoy demands a runtime key; nobody sets one of that name.
    value = {"default_value": status, "runtime_key": f"gateway.reply.{op.lower()}_{status}"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _header(name: str, how: dict[str, Any]) -> dict[str, Any]:
    return {"header_filter": {"header": {"name": name, "string_match": how}}}


def _absent(name: str) -> dict[str, Any]:
    return {"header_filter": {"header": {"name": name, "present_match": False}}}


def _all_of(*filters: dict[str, Any]) -> dict[str, Any]:
    return {"and_filter": {"filters": list(filters)}}
