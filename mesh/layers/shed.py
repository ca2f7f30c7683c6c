"""Load shedding: a server lets in as much as it can do, the most critical first.

What it refuses was not executed, and says when to ask again. The second time it is told not to:
a server that is busy with refusing does nothing else. What operators need (`mesh.*`) is let in
always; gRPC's own health service does not come by here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from ..call import Call, Handler, Layer, Method, StreamHandler
from ..errors import EXHAUSTED_S, Overloaded
from ..runtime.clock import Runtime
from ..runtime.metrics import Metrics
from ..scope import scope
from .limit import LimitConfig, Limiter
from .streams import Reading

#: The packages of the mesh's own services: sagas, dead letters, read models, administration.
_OWN = "mesh."
#: How often the event loop is looked at while it may be behind.
_OFTEN = 10


class LagProbe:
    """How far the running event loop is behind: how long it takes until a callback has its turn.

    Looked at while calls come, `_OFTEN` times while it may be behind: there is no timer to be
    started and stopped, and no call has to pay for a turn of the loop of its own. On a thread
    without a loop there is nothing to look at.
    """

    def __init__(self, runtime: Runtime, limiter: Limiter) -> None:
        self._now = runtime.clock.monotonic
        self._limiter = limiter
        self._every_s = limiter.config.lag_s / _OFTEN
        self._due = 0.0

    def look(self, now: float) -> None:
        """Begin, if it is time; *now* is what the clock says."""
        if now >= self._due:
            self._due = now + self._every_s
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().call_soon(self._back, now)

    def _back(self, since: float) -> None:
        self._limiter.lagged(self._now() - since)


class Shed(Layer):
    """The load shedding of one server: all of its methods share it."""

    def __init__(self, config: LimitConfig, runtime: Runtime, metrics: Metrics) -> None:
        self.limiter = Limiter(config, runtime.clock.monotonic)
        self._config = config
        self._now = runtime.clock.monotonic
        self._lag = LagProbe(runtime, self.limiter)
        self._shed = metrics.load.shed
        metrics.load.concurrency_limit.set_function(lambda: self.limiter.limit)
        metrics.load.under_way.set_function(lambda: self.limiter.under_way + self.limiter.streams)

    def _refuse(self, method: Method) -> Overloaded:
        """Return why a call is not let in. Who has come before is not to come again."""
        inherited = scope.get()
        self._shed.labels(method.full_name, inherited.criticality.value).inc()
        again_s = self._config.pushback_s if inherited.attempt == 1 else EXHAUSTED_S
        return Overloaded("the server has enough to do", retry_after_s=again_s)

    def __call__(self, inner: Handler) -> Handler:
        """Let calls in as there is room for them."""
        limiter, now = self.limiter, self._now

        async def limited(call: Call) -> Any:
            method = call.method
            if method.service.startswith(_OWN):
                return await inner(call)
            began, succeeded = now(), False
            self._lag.look(began)
            if not limiter.take(scope.get().criticality):
                raise self._refuse(method)
            try:
                reply = await inner(call)
                succeeded = True
                return reply
            finally:
                limiter.give_back(method.path, now() - began, counts=succeeded)

        return limited

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """Streams are counted, no more: how long one takes says nothing."""
        limiter = self.limiter

        async def limited(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            counted = not call.method.service.startswith(_OWN)
            if counted and not limiter.take_stream():
                raise self._refuse(call.method)
            try:
                async with Reading(inner(call, requests)) as replies:
                    async for reply in replies:
                        yield reply
            finally:
                if counted:
                    limiter.give_back_stream()

        return limited
