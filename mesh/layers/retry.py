"""Retry: send the same call again, if that is safe and if it can still help.

Safe is what the contract says (`idempotency_level`) or what certainly did not execute. One
deadline spans all attempts and sleeps; a sleep that cannot fit is not begun. A server's pushback
(gRFC A6 `grpc-retry-pushback-ms`, RetryInfo) is honoured. Streams are tried again only before
their first message, and only if the client does not stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode

from ..call import Call, Handler, Layer, StreamHandler
from ..errors import MeshError, Outcome
from ..runtime.clock import Runtime
from .backoff import Backoff
from .streams import Reading

#: Retrying these may help; anything else is an answer about the request itself. A deadline that
#: was exceeded was this attempt's: if it was the call's, no sleep fits any more.
RETRYABLE = frozenset(
    {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.DEADLINE_EXCEEDED}
)


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long apart. `attempts_max` counts the first one."""

    attempts_max: int = 4
    backoff: Backoff = field(default_factory=Backoff)


def delay_before_retry(
    call: Call, error: MeshError, policy: RetryPolicy, runtime: Runtime
) -> float | None:
    """Return how many seconds to wait before *call* is sent again, or None to give up.

    `call.attempt` is the number of the attempt that failed.
    """
    if error.status not in RETRYABLE or call.attempt >= policy.attempts_max:
        return None
    if not (call.method.repeatable or error.outcome is Outcome.NOT_EXECUTED):
        return None
    delay_s = policy.backoff.delay_s(call.attempt, runtime.random)
    if error.retry_after_s is not None:
        if error.retry_after_s < 0:  # the server asks not to
            return None
        delay_s += error.retry_after_s
    if runtime.clock.monotonic() + delay_s >= call.deadline:
        return None
    return delay_s


class Retry(Layer):
    """The retry layer."""

    def __init__(self, policy: RetryPolicy, runtime: Runtime) -> None:
        self._policy = policy
        self._runtime = runtime

    def __call__(self, inner: Handler) -> Handler:
        """Send calls up to `attempts_max` times."""

        async def retry(call: Call) -> Any:
            while True:
                try:
                    return await inner(call)
                except MeshError as error:
                    delay_s = delay_before_retry(call, error, self._policy, self._runtime)
                    if delay_s is None:
                        raise
                await self._runtime.clock.sleep(delay_s)
                call = call.replace(attempt=call.attempt + 1)

        return retry

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """The same for streams that have not answered anything yet."""

        async def retry(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            begun = call.method.client_streams  # a consumed request stream cannot be sent again
            while True:
                try:
                    async with Reading(inner(call, requests)) as replies:
                        async for reply in replies:
                            begun = True
                            yield reply
                    return
                except MeshError as error:
                    delay_s = delay_before_retry(call, error, self._policy, self._runtime)
                    if begun or delay_s is None:
                        raise
                await self._runtime.clock.sleep(delay_s)
                call = call.replace(attempt=call.attempt + 1)

        return retry
