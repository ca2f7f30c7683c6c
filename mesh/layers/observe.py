"""RED metrics and logs: rate, errors and duration of every call, on both sides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from grpc import StatusCode

from ..call import Call, Handler, Layer, StreamHandler
from ..runtime.clock import Runtime
from ..runtime.logs import debugging, log
from ..runtime.metrics import Metrics
from ..scope import scope
from .streams import Reading
from .tracing import SERVER_FAULTS, status_of


class Observe(Layer):
    """Measure each call; say in the log what failed. `side` is "server" or "client"."""

    def __init__(self, metrics: Metrics, runtime: Runtime, side: str) -> None:
        self._duration = metrics.call_duration(side)
        self._now = runtime.clock.monotonic
        self._logs = side == "server"

    @contextmanager
    def _measured(self, call: Call) -> Iterator[None]:
        began = self._now()
        status, reason = StatusCode.OK, ""
        try:
            yield
        except BaseException as error:
            status, reason = status_of(error)
            raise
        finally:
            duration_s = self._now() - began
            self._duration.labels(call.method.full_name, status.name).observe(duration_s)
            if self._logs:
                _log(call, status, reason, duration_s)

    def __call__(self, inner: Handler) -> Handler:
        """Measure a call."""

        async def measured(call: Call) -> Any:
            with self._measured(call):
                return await inner(call)

        return measured

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """Measure a stream, from its call to its end."""

        async def measured(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            with self._measured(call):
                async with Reading(inner(call, requests)) as replies:
                    async for reply in replies:
                        yield reply

        return measured


def _log(call: Call, status: StatusCode, reason: str, duration_s: float) -> None:
    if status is StatusCode.OK and not debugging():
        return
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
