"""Load shedding: a server lets in as much as it can do, the most critical first.

What it refuses was not executed, and says when to ask again. The second time it is told not to:
a server that is busy with refusing does nothing else. What operators need (`mesh.*`) is let in
always; gRPC's own health service does not come by here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

from ..call import Call, Criticality, Handler, Layer, Method, StreamHandler
from ..errors import EXHAUSTED_S, Overloaded
from ..metadata import TIME_LEFT
from ..runtime.clock import Runtime
from ..runtime.metrics import Metrics
from ..scope import scope
from .limit import LimitConfig, Limiter
from .queueing import StandingQueue
from .streams import Reading

#: The packages of the mesh's own services: sagas, dead letters, read models, administration.
_OWN = "mesh."
_SECONDS = re.compile(r"[0-9]{1,6}\.[0-9]{3}")


class LagProbe:
    """How far the running event loop is behind: how long it takes until a callback has its turn.

    Looked at while calls come, one probe at a time: there is no timer to be started and stopped.
    On a thread without a loop there is nothing to look at.
    """

    def __init__(self, runtime: Runtime, limiter: Limiter) -> None:
        self._now = runtime.clock.monotonic
        self._limiter = limiter
        self._under_way = False

    def look(self) -> None:
        """Begin, unless one is under way."""
        if not self._under_way:
            self._under_way = True
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().call_soon(self._back, self._now())

    def _back(self, since: float) -> None:
        self._under_way = False
        self._limiter.lagged(self._now() - since)


class Shed(Layer):
    """The load shedding of one server: all of its methods share it."""

    def __init__(self, config: LimitConfig, runtime: Runtime, metrics: Metrics) -> None:
        self.limiter = Limiter(config, runtime.clock.monotonic)
        self._config = config
        self._now = runtime.clock.monotonic
        self._lag = LagProbe(runtime, self.limiter)
        self._queue = StandingQueue(config.waited_s, config.window_s, runtime.clock.monotonic)
        self._shed = metrics.load.shed
        metrics.load.concurrency_limit.set_function(lambda: self.limiter.limit)
        metrics.load.under_way.set_function(lambda: self.limiter.under_way + self.limiter.streams)

    def _waited_too_long(self, call: Call, rank: Criticality) -> bool:
        """Whether *call* comes from a queue that stands, and has been in it for long.

        It is served late or not at all; who comes after it may still be served in time.
        """
        said = call.metadata.get(TIME_LEFT, "")
        if not _SECONDS.fullmatch(said):
            return False
        waited_s = float(said) - (call.deadline - self._now())
        bound_s = self._config.waited_s * self.limiter.shares[rank]
        return self._queue.came(waited_s) and waited_s > bound_s

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
            self._lag.look()
            rank = scope.get().criticality
            if self._waited_too_long(call, rank) or not limiter.take(rank):
                raise self._refuse(method)
            began, succeeded = now(), False
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
