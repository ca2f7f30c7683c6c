"""Our errors as `google.rpc.Status`, which is how they go over the wire and into journals."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from .errors import (
    DOMAIN,
    EXHAUSTED_S,
    TEXT_LIMIT_CHARS,
    AlreadyExists,
    CircuitOpenError,
    DeadlineExceeded,
    Expired,
    Internal,
    InvalidArgument,
    KeyExpired,
    KeyInFlight,
    MeshError,
    NotExecuted,
    NotFound,
    Outcome,
    Overloaded,
    PermissionDenied,
    Refused,
    Unauthenticated,
    Unavailable,
    UndeclaredCall,
)
from .metadata import PUSHBACK, STATUS_DETAILS

CODES: Mapping[int, StatusCode] = {code.value[0]: code for code in StatusCode}
#: How the `ErrorInfo` of an error that was retried below as far as allowed says so.
_RETRIES, _EXHAUSTED = "retries", "exhausted"

#: What a `google.protobuf.Duration` can say, in seconds: about 10,000 years.
_WAIT_MAX_S = 315_576_000_000.0

_MILLISECONDS = re.compile(r"[0-9]{1,9}")
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}

#: Which class a refusal, an unexecuted or an unknown answer becomes; the first match wins.
_CLASSES: tuple[type[MeshError], ...] = (
    NotFound,
    AlreadyExists,
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    Expired,
    Overloaded,
    Unavailable,
    DeadlineExceeded,
    Internal,
)
_REST = {Outcome.REFUSED: Refused, Outcome.NOT_EXECUTED: NotExecuted, Outcome.UNKNOWN: MeshError}
_NAMED = (CircuitOpenError, KeyExpired, KeyInFlight, UndeclaredCall)
_BY_REASON = {cls.reason: cls for cls in _NAMED}


def _class_of(outcome: Outcome, status: StatusCode, reason: str) -> type[MeshError]:
    by_reason = _BY_REASON.get(reason)
    if by_reason and outcome is by_reason.outcome:
        return by_reason
    for cls in _CLASSES:
        if cls.outcome is outcome and cls.status is status:
            return cls
    return _REST[outcome]


def to_status(error: MeshError) -> Status:
    """Return *error* as the `google.rpc.Status` that goes over the wire and into journals."""
    status = Status(code=error.status.value[0], message=error.message[:TEXT_LIMIT_CHARS])
    facts = {name: value[:TEXT_LIMIT_CHARS] for name, value in error.info.items()}
    info = ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=facts)
    info.metadata["outcome"] = error.outcome.value
    wait_s = error.retry_after_s
    if wait_s is not None and wait_s < 0.0:
        info.metadata[_RETRIES] = _EXHAUSTED
    _pack(status, info)
    if wait_s is not None and wait_s >= 0.0:
        delay = Duration()
        delay.FromNanoseconds(int(min(_WAIT_MAX_S, wait_s) * 1e9))
        _pack(status, RetryInfo(retry_delay=delay))
    if isinstance(error, InvalidArgument) and error.violations:
        wrong = [BadRequest.FieldViolation(field=f, description=w) for f, w in error.violations]
        _pack(status, BadRequest(field_violations=wrong))
    return status


def from_status(status: Status) -> MeshError:
    """Return the error that *status* describes; of unknown outcome if we did not make it."""
    code = CODES.get(status.code, StatusCode.UNKNOWN)
    outcome, reason, info = Outcome.UNKNOWN, code.name, {}
    retry_after_s: float | None = None
    violations: tuple[tuple[str, str], ...] = ()
    ours = False
    for packed in status.details:
        kind = packed.TypeName()
        if kind == ErrorInfo.DESCRIPTOR.full_name:
            detail = ErrorInfo.FromString(packed.value)
            if detail.domain == DOMAIN:
                ours, info = True, dict(detail.metadata)
                outcome = _OUTCOMES.get(info.pop("outcome", ""), Outcome.UNKNOWN)
                reason = detail.reason
                if info.pop(_RETRIES, "") == _EXHAUSTED:
                    retry_after_s = EXHAUSTED_S
            elif not ours:
                reason = detail.reason
        elif kind == RetryInfo.DESCRIPTOR.full_name:
            retry_after_s = RetryInfo.FromString(packed.value).retry_delay.ToNanoseconds() / 1e9
        elif kind == BadRequest.DESCRIPTOR.full_name:
            violations = tuple(
                (v.field, v.description)
                for v in BadRequest.FromString(packed.value).field_violations
            )
    cls = _class_of(outcome, code, reason)
    facts: dict[str, Any] = {"violations": violations} if cls is InvalidArgument else {}
    return cls(
        status.message, reason=reason, status=code, retry_after_s=retry_after_s, info=info, **facts
    )


def from_wire(code: StatusCode, message: str, details: bytes | None) -> MeshError:
    """Return the error of a failed RPC; *details* is its `STATUS_DETAILS` trailer, if any."""
    with contextlib.suppress(DecodeError):  # a peer may send anything
        status = Status.FromString(details or b"")
        if status.code == code.value[0]:
            return from_status(status)
    return from_status(Status(code=code.value[0], message=message))


def from_rpc_error(error: Any) -> MeshError:
    """Return what the failure of a stock stub means: a `grpc.aio.AioRpcError`, or a sync one's."""
    details, pushback = None, None
    for name, value in error.trailing_metadata() or ():
        if name == STATUS_DETAILS:
            details = value if isinstance(value, bytes) else value.encode()
        elif name == PUSHBACK:
            pushback = str(value)
    meant = from_wire(error.code(), error.details() or "", details)
    if pushback is not None:  # "-1", like anything else that is no number, means never
        again = _MILLISECONDS.fullmatch(pushback)
        meant.retry_after_s = int(pushback) / 1e3 if again else EXHAUSTED_S
    return meant


def _pack(status: Status, detail: Any) -> None:
    packed = Packed()
    packed.Pack(detail)
    status.details.append(packed)
