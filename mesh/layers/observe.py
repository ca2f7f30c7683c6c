"""RED metrics and logs: rate, errors and duration of every call, on both sides.

What fails at a client says of which call it is: behind the handler that made it, that is no failure
of the handler's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from grpc import StatusCode

from ..call import Call, Handler, Layer, StreamHandler
from ..errors import MeshError
from ..runtime.clock import Runtime
from ..runtime.logs import debugging, log
from ..runtime.metrics import Metrics
from ..scope import scope
from .streams import Reading
from .tracing import SERVER_FAULTS, status_of


class Observe(Layer):
    """Measure each call; say in the log what failed. `side` is "server" or "client"."""

    def __init__(self, metrics: Metrics, runtime: Runtime, side: str) -> None:
        # `labels` alone takes longer than the measurement: each child is looked up once.
        self._duration = cache(metrics.call_duration(side).labels)
        self._now = runtime.clock.monotonic
        self._logs = side == "server"

    def _succeeded(self, call: Call, duration_s: float) -> None:
        self._duration(call.method.full_name, "OK").observe(duration_s)
        if self._logs and debugging():
            _log(call, StatusCode.OK, "", duration_s)

    def _failed(self, call: Call, error: BaseException, duration_s: float) -> None:
        status, reason = status_of(error)
        self._duration(call.method.full_name, status.name).observe(duration_s)
        if self._logs:
            _log(call, status, reason, duration_s)
        elif isinstance(error, MeshError):
            error.of_call = call.method.full_name

    def __call__(self, inner: Handler) -> Handler:
        """Measure a call."""
        now = self._now

        async def measured(call: Call) -> Any:
            began = now()
            try:
                reply = await inner(call)
            except BaseException as error:
                self._failed(call, error, now() - began)
                raise
            self._succeeded(call, now() - began)
            return reply

        return measured

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """Measure a stream, from its call to its end."""
        now = self._now

        async def measured(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            began = now()
            try:
                async with Reading(inner(call, requests)) as replies:
                    async for reply in replies:
                        yield reply
            except BaseException as error:
                self._failed(call, error, now() - began)
                raise
            self._succeeded(call, now() - began)

        return measured


def _log(call: Call, status: StatusCode, reason: str, duration_s: float) -> None:
    say = log.debug if status is StatusCode.OK else log.info
    if status in SERVER_FAULTS:
        say = log.warning
    say(
        "rpc",
        method=call.method.full_name,
        status=status.name,
        reason=reason,
        duration_ms=round(duration_s * 1000, 2),
        attempt=scope.get().attempt,
    )
