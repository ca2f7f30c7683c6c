"""Retry: again, if that is safe, may help, fits into the deadline and is paid for.

Safe: the contract allows to repeat the method, or the failure certainly did not execute. One
deadline spans all attempts and sleeps; a sleep that cannot fit is not begun. A server's pushback
(gRFC A6 `grpc-retry-pushback-ms`, RetryInfo) is honoured. Another attempt goes to an address that
none went to, if there is one. Streams are tried again only before their first message, and only if
the client does not stream.

One hop of a chain retries, and within a budget, so that a dead leaf gets about as many calls as
callers asked for. A call that is itself another's retry gets none below, and whoever has no more
attempts or budget says so: nobody above begins anew what was given up here. (Google, *Site
Reliability Engineering*, 2016, chapter 22.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from grpc import StatusCode

from ..call import NEVER, Call, Handler, Layer, StreamHandler
from ..errors import EXHAUSTED_S, DeadlineExceeded, Expired, MeshError, Outcome
from ..runtime.clock import Runtime
from ..runtime.metrics import Metrics
from ..scope import scope
from .backoff import Backoff
from .budget import Budget, BudgetConfig, open_budget
from .streams import Reading

#: Retrying these may help; anything else is an answer about the request itself. A deadline that
#: was exceeded was this attempt's: if it was the call's, no sleep fits any more.
RETRYABLE = frozenset(
    {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.DEADLINE_EXCEEDED}
)


@dataclass(frozen=True)
class RetryPolicy:
    """How often, how long apart and out of what. `attempts_max` counts the first one."""

    attempts_max: int = 4
    backoff: Backoff = field(default_factory=Backoff)
    budget: BudgetConfig = field(default_factory=BudgetConfig)

    def __post_init__(self) -> None:
        if self.attempts_max < 1:
            raise ValueError("attempts_max is at least 1: the first attempt counts")


def may_help(call: Call, error: MeshError) -> bool:
    """Whether *call* may be sent again after *error*, as far as its contract and target say."""
    if error.status not in RETRYABLE or (error.retry_after_s or 0.0) < 0.0:
        return False
    return call.method.repeatable or error.outcome is Outcome.NOT_EXECUTED


def fits(deadline: float, began: float, at: float) -> bool:
    """Whether there is time for another attempt of a call, which *began* then, at the time *at*.

    An attempt with all of a call's time ends up to a hundredth before the call does, since timeouts
    go over the wire in three digits: there is nothing to be done with what is left.
    """
    return deadline == NEVER or at < deadline - 0.011 * (deadline - began)


def fail(error: MeshError, *, unsure: bool) -> NoReturn:
    """Raise what a call ends with whose last attempt ended with *error*.

    *unsure*: an earlier attempt may have been executed. What was not executed after it (there was
    no time, a circuit had opened) does not undo that.
    """
    if unsure and error.outcome is Outcome.NOT_EXECUTED:
        if isinstance(error, Expired):
            raise DeadlineExceeded(error.message, retry_after_s=error.retry_after_s) from error
        error.outcome = Outcome.UNKNOWN
    raise error


class Retry(Layer):
    """The retry layer of one client of one target.

    A stream has no deadline by default, and no reader waits for ever for its first message: after
    `begun_within_s` it is not sent again.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        runtime: Runtime,
        metrics: Metrics | None = None,
        budget: Budget | None = None,
        begun_within_s: float = NEVER,
    ) -> None:
        self._policy = policy
        self._begun_within_s = begun_within_s
        self._runtime = runtime
        self._metrics = metrics
        self.budget = budget or open_budget(policy.budget, runtime)

    def _delay_s(self, call: Call, error: MeshError, began: float) -> float | None:
        """Return how many seconds to wait before *call* is sent again, or None to give up.

        `call.attempt` is the number of the attempt that failed. If it is given up although it may
        help, *error* tells those above not to begin anew.
        """
        if not may_help(call, error) or scope.get().attempt > 1:
            return None
        if call.attempt >= self._policy.attempts_max:
            self._exhausted(call, error, "attempts")
            return None
        delay_s = self._policy.backoff.delay_s(call.attempt, self._runtime.random)
        delay_s += error.retry_after_s or 0.0
        ends = began + self._begun_within_s if call.deadline == NEVER else call.deadline
        if not fits(ends, began, self._runtime.clock.monotonic() + delay_s):
            return None
        if not self.budget.withdraw():
            self._exhausted(call, error, "budget")
            return None
        self._count(call, "sent")
        return delay_s

    def _exhausted(self, call: Call, error: MeshError, what: str) -> None:
        error.retry_after_s = EXHAUSTED_S
        self._count(call, what)

    def _count(self, call: Call, decision: str) -> None:
        call.note("mesh.retry", decision=decision)
        if self._metrics:
            self._metrics.retries.labels(call.method.full_name, decision).inc()

    def __call__(self, inner: Handler) -> Handler:
        """Send calls up to `attempts_max` times."""

        async def retry(call: Call) -> Any:
            self.budget.deposit()
            began, unsure = self._runtime.clock.monotonic(), False
            call = call.replace(tried=[])
            while True:
                try:
                    return await inner(call)
                except MeshError as error:
                    delay_s = self._delay_s(call, error, began)
                    if delay_s is None:
                        fail(error, unsure=unsure)
                    unsure = unsure or error.outcome is Outcome.UNKNOWN
                await self._runtime.clock.sleep(delay_s)
                call = call.replace(attempt=call.attempt + 1)

        return retry

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """The same for streams that have not answered anything yet."""

        async def retry(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            self.budget.deposit()
            began, unsure = self._runtime.clock.monotonic(), False
            begun = call.method.client_streams  # a consumed request stream cannot be sent again
            call = call.replace(tried=[])
            while True:
                try:
                    async with Reading(inner(call, requests)) as replies:
                        async for reply in replies:
                            begun = True
                            yield reply
                    return
                except MeshError as error:
                    delay_s = None if begun else self._delay_s(call, error, began)
                    if delay_s is None:
                        fail(error, unsure=unsure)
                    unsure = unsure or error.outcome is Outcome.UNKNOWN
                await self._runtime.clock.sleep(delay_s)
                call = call.replace(attempt=call.attempt + 1)

        return retry
