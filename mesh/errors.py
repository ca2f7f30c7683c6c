"""What can go wrong, and what each failure says about whether the request took effect.

The one question a caller has about a failed write is: *did it happen?* Every error here answers
it with its `outcome`. On the wire that is a `google.rpc.Status` with an `ErrorInfo` of our
domain; an answer without one (a proxy's, a crashed process's) is of unknown outcome, whatever
its code says. See https://google.aip.dev/193 for the format, and `mesh.status` for how it is made.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from grpc import StatusCode

#: The `ErrorInfo.domain` of every error that a mesh process made itself.
DOMAIN = "mesh"
#: Errors travel in metadata and are kept with keys: what they quote is cut to this.
TEXT_LIMIT_CHARS = 500


class Outcome(enum.Enum):
    """Whether the request took effect."""

    REFUSED = "refused"  # Understood, and the answer is no. Nothing changed; it is final.
    NOT_EXECUTED = "not_executed"  # Never reached its handler. May be tried again.
    UNKNOWN = "unknown"  # It may or may not have happened.


#: The `retry_after_s` of an error that was retried below as far as allowed: those above must not.
EXHAUSTED_S = -1.0


class MeshError(grpc.RpcError):
    """Base of every error that crosses a service boundary.

    `reason` is UPPER_SNAKE and stable: programs branch on it. `message` is for people and holds
    no personal data. `retry_after_s` is in seconds; below 0, callers do not retry by themselves.
    `of_call` is the method that this process called and that ended so; "" of what is raised here.
    """

    status: StatusCode = StatusCode.UNKNOWN
    outcome: Outcome = Outcome.UNKNOWN
    reason: str = "UNKNOWN"
    of_call: str = ""

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        status: StatusCode | None = None,
        retry_after_s: float | None = None,
        info: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.reason
        self.status = status or self.status
        self.retry_after_s = retry_after_s
        self.info = dict(info or {})

    def code(self) -> StatusCode:
        """Return the status, as `grpc.RpcError` users expect it."""
        return self.status

    def details(self) -> str:
        """Return the message, as `grpc.RpcError` users expect it."""
        return self.message

    def __str__(self) -> str:
        """Return ``REASON: message``."""
        return f"{self.reason}: {self.message}" if self.message else self.reason


class Refused(MeshError):
    """The request was understood and the answer is no; asking again cannot help.

    With `keep`, what the handler wrote before it refused is committed with the refusal (a
    declined charge leaves its audit); without, it is rolled back.
    """

    status = StatusCode.FAILED_PRECONDITION
    outcome = Outcome.REFUSED
    reason = "REFUSED"

    def __init__(self, message: str = "", *, keep: bool = False, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.keep = keep


class NotFound(Refused):
    """There is no such thing."""

    status = StatusCode.NOT_FOUND
    reason = "NOT_FOUND"


class AlreadyExists(Refused):
    """There is one already; also: this key was used for another request."""

    status = StatusCode.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class InvalidArgument(Refused):
    """The request breaks its contract. `violations` are (field path, what is wrong)."""

    status = StatusCode.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"

    def __init__(
        self, message: str = "", *, violations: Sequence[tuple[str, str]] = (), **facts: Any
    ) -> None:
        super().__init__(message or "; ".join(f"{f}: {w}" for f, w in violations), **facts)
        self.violations = tuple(violations)


class NotExecuted(MeshError):
    """The request certainly never reached its handler."""

    status = StatusCode.UNAVAILABLE
    outcome = Outcome.NOT_EXECUTED
    reason = "NOT_EXECUTED"


class CircuitOpenError(NotExecuted):
    """The breaker of this target is open; `retry_after_s` says when it lets a probe through."""

    reason = "CIRCUIT_OPEN"


class Overloaded(NotExecuted):
    """There was as much to do as can be; `retry_after_s` says when to ask again, if at all."""

    status = StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"


class KeyInFlight(NotExecuted):
    """The first request with this key is still being worked on."""

    reason = "KEY_IN_FLIGHT"


class Expired(NotExecuted):
    """The deadline had passed before the work began."""

    status = StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXPIRED"


class Unauthenticated(NotExecuted):
    """Who is calling could not be established."""

    status = StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class PermissionDenied(NotExecuted):
    """The caller may not do this."""

    status = StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class UndeclaredCall(NotExecuted):
    """The service calls a method that its `clients.py` does not declare."""

    status = StatusCode.PERMISSION_DENIED
    reason = "UNDECLARED_CALL"


class Unavailable(MeshError):
    """No answer, or one that says nothing about what happened."""

    status = StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"


class KeyExpired(MeshError):
    """The key is older than what is remembered: whether its call was executed is not known."""

    status = StatusCode.FAILED_PRECONDITION
    reason = "KEY_EXPIRED"


class DeadlineExceeded(MeshError):
    """Time ran out while the request was on its way or being worked on."""

    status = StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Internal(MeshError):
    """A bug. `info["error_id"]` finds the exception in the log of the process that had it."""

    status = StatusCode.INTERNAL
    reason = "INTERNAL"
