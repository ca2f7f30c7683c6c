"""Deadlines: every call has one, and none outlives its caller's.

gRPC's own propagation, made explicit: https://grpc.io/docs/guides/deadlines/.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from ..call import NEVER, Call, Handler, Method, Prepare, StreamHandler
from ..errors import DeadlineExceeded, Expired
from ..runtime.cancelling import can_be_stopped
from ..runtime.clock import Runtime
from ..scope import due_by, scope
from .streams import only

T = TypeVar("T")

#: Kept back from the caller's remaining time, so that our answer still reaches it.
MARGIN_S = 0.02


#: By how much a server may take a deadline to be later than its caller does, whose time began
#: before the request arrived: a call that is cancelled this close to it ran out of time.
LATENCY_S = 0.1


class Overrun(asyncio.CancelledError):
    """A call being served was cancelled because its deadline had come."""


class ComputeDeadline(Prepare):
    """Client: min(what the caller asks, its own caller's remainder less a margin, the default)."""

    def __init__(self, runtime: Runtime, default_s: float) -> None:
        self._runtime = runtime
        self._default_s = default_s

    def prepare(self, call: Call) -> Call:
        """Set the deadline; refuse what is too late already."""
        now = self._runtime.clock.monotonic()
        own = call.deadline
        if own == NEVER and not call.method.server_streams:
            own = now + self._default_s
        deadline = min(own, scope.get().deadline - MARGIN_S)
        if deadline <= now:
            raise Expired(f"no time is left to call {call.method.full_name}")
        return call.replace(deadline=deadline)


class AttemptTimeout(Prepare):
    """Client: bound one attempt that has one reply, if a bound is configured."""

    def __init__(self, runtime: Runtime, timeout_s: float | None) -> None:
        self._runtime = runtime
        self._timeout_s = timeout_s or 0.0
        self.needed = timeout_s is not None

    def prepare(self, call: Call) -> Call:
        """Move the deadline up for this attempt; a stream of replies lasts as long as it likes."""
        if call.method.server_streams:
            return call
        ends = self._runtime.clock.monotonic() + self._timeout_s
        return call.replace(deadline=min(call.deadline, ends))


class CheckDeadline(Prepare):
    """Server: a call that has none gets the default; an expired one is refused.

    gRPC ends a call at the deadline that its client set. At the default this does, if it has one
    reply and is served by a task: a thread learns only how much time is left.
    """

    def __init__(self, runtime: Runtime, default_s: float) -> None:
        self._runtime = runtime
        self._default_s = default_s

    def prepare(self, call: Call) -> Call:
        """Check, before any work is done."""
        now = self._runtime.clock.monotonic()
        if call.deadline <= now:
            raise Expired(f"{call.method.full_name} arrived after its deadline")
        if call.deadline == NEVER and not call.method.server_streams:
            call = call.replace(deadline=now + self._default_s)
            due_by(call.deadline)
        return call

    def __call__(self, inner: Handler) -> Handler:
        """Check, and end what nobody else does."""

        def checked(call: Call) -> Awaitable[Any]:
            reply = inner(self.prepare(call))
            return self._in_time(reply, call.method) if self._ends(call) else reply

        return checked

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """The same, for a stream of requests; one of replies lasts as long as it likes."""

        def checked(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            replies = inner(self.prepare(call), requests)
            return self._whole(replies, call.method) if self._ends(call) else replies

        return checked

    def _ends(self, call: Call) -> bool:
        """Whether nobody else ends *call*, and it is not to go on for ever."""
        return call.deadline == NEVER and not call.method.server_streams and can_be_stopped()

    async def _whole(self, replies: AsyncIterator[Any], method: Method) -> AsyncIterator[Any]:
        yield await self._in_time(only(replies), method)

    async def _in_time(self, work: Awaitable[T], method: Method) -> T:
        bound = asyncio.timeout(self._default_s)
        try:
            async with bound:
                return await work
        except TimeoutError:
            if not bound.expired():
                raise
            told = f"a call of {method.full_name} without a deadline has {self._default_s:g} s"
            raise DeadlineExceeded(told) from None
