"""Load shedding: a server lets in as much as it can do, the most critical first.

What it refuses was not executed, and says when to ask again. The second time it is told not to:
a server that is busy with refusing does nothing else. For the same reason it refuses at the door,
where it can: before a call is read. What operators need (`mesh.*`) is let in always; gRPC's own
health service does not come by here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ..call import (
    Call,
    Criticality,
    Door,
    Handler,
    Kind,
    Layer,
    Metadata,
    Method,
    StreamHandler,
)
from ..errors import EXHAUSTED_S, Overloaded
from ..metadata import ATTEMPT
from ..runtime.clock import Runtime
from ..runtime.metrics import Metrics
from ..scope import scope
from .criticality import criticality_in
from .limit import LimitConfig, Limiter
from .streams import Reading
from .turns import Turns

#: The packages of the mesh's own services: sagas, dead letters, read models, administration.
_OWN = "mesh."


class Shed(Layer):
    """The load shedding of one server: all of its methods share it."""

    def __init__(self, config: LimitConfig, runtime: Runtime, metrics: Metrics) -> None:
        self.limiter = Limiter(config, runtime.clock.monotonic)
        self._config = config
        self._now = runtime.clock.monotonic
        self._turns = Turns(self._now, self.limiter.lagged)
        self._at_the_door = self._refusal(first=True), self._refusal(first=False)
        self._shed = metrics.load.shed
        metrics.load.limits.add(self.limiter)

    def _refusal(self, *, first: bool) -> Overloaded:
        """Return why a call is not let in. Who has come before is not to come again."""
        again_s = self._config.pushback_s if first else EXHAUSTED_S
        return Overloaded("the server has enough to do", retry_after_s=again_s)

    def _refused(self, method: Method) -> Overloaded:
        inherited = scope.get()
        self._shed.labels(method.full_name, inherited.criticality.value).inc()
        return self._refusal(first=inherited.attempt == 1)

    def door(self, method: Method) -> Door | None:
        """Return what refuses unary calls for which there is no room.

        It believes no claim to be critical, and refutes none: that is proved further in.
        """
        if method.kind is not Kind.UNARY_UNARY or method.service.startswith(_OWN):
            return None
        limiter, turns, now = self.limiter, self._turns, self._now
        first, again = self._at_the_door  # never raised, so always the same

        def refused(metadata: Metadata) -> Overloaded | None:
            turns.came(now())
            if limiter.has_room_for_all:
                return None
            said = {name: value for name, value in metadata if isinstance(value, str)}
            claimed = criticality_in(said)
            if claimed is Criticality.CRITICAL or limiter.has_room(claimed):
                return None
            self._shed.labels(method.full_name, claimed.value).inc()
            return again if ATTEMPT in said else first

        return refused

    def __call__(self, inner: Handler) -> Handler:
        """Let calls in as there is room for them, each when it is its turn."""
        limiter, turns, now = self.limiter, self._turns, self._now

        async def limited(call: Call) -> Any:
            method = call.method
            if method.service.startswith(_OWN):
                return await inner(call)
            criticality, began, succeeded = scope.get().criticality, now(), False
            turns.came(began)
            turns.look(began)
            if not limiter.take(criticality):
                raise self._refused(method)
            try:
                if turns.must_wait:
                    await turns.wait(criticality)
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
                raise self._refused(call.method)
            try:
                async with Reading(inner(call, requests)) as replies:
                    async for reply in replies:
                        yield reply
            finally:
                if counted:
                    limiter.give_back_stream()

        return limited
