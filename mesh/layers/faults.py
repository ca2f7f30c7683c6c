"""Faults on purpose: a share of the calls of a method is late, fails, or loses its answer.

Off unless an operator asks, and then for a while: each ends by itself, at the latest with the
process. Innermost, so that everything above meets them as it would the network's. What fails so is
of unknown outcome, as after any failure on the way. (A. Basiri et al., "Chaos Engineering", IEEE
Software 33(3), 2016; gRFC A33 has the same for xDS.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode

from ..call import Call, Handler, Layer, StreamHandler
from ..errors import MeshError
from ..runtime.clock import Runtime
from ..runtime.metrics import Metrics
from ..status import from_wire
from .streams import Reading

#: Of how many methods at a time, and for how long at most.
FAULTS_MAX = 16
DURATION_MAX_S = 600.0
DELAY_MAX_S = 60.0


@dataclass(frozen=True)
class Fault:
    """What happens to a `share` of the calls of a method.

    They are late by `delay_s`; then, with a `code`, they fail: before they are sent, or with
    `after_execution` instead of their answer. It is over after `duration_s`.
    """

    code: StatusCode | None = None
    delay_s: float = 0.0
    share: float = 1.0
    after_execution: bool = False
    duration_s: float = 60.0

    def __post_init__(self) -> None:
        if self.code is StatusCode.OK or (self.code is None and not self.delay_s):
            raise ValueError("a fault has a code other than OK, or a delay")
        if not 0.0 <= self.delay_s <= DELAY_MAX_S:
            raise ValueError(f"delay: 0 to {DELAY_MAX_S:g} s are possible")
        if not 0.0 < self.share <= 1.0:
            raise ValueError("share: more than 0 and at most 1 is possible")
        if not 0.0 < self.duration_s <= DURATION_MAX_S:
            raise ValueError(f"a fault lasts more than 0 and at most {DURATION_MAX_S:g} s")
        if self.after_execution and self.code is None:
            raise ValueError("an answer is lost with a code")


class Faults(Layer):
    """The faults of one process, by the full name of the method; and the layer that makes them."""

    def __init__(self, runtime: Runtime, metrics: Metrics | None = None) -> None:
        self._runtime = runtime
        self._now = runtime.clock.monotonic
        self._metrics = metrics
        self._faults: dict[str, tuple[Fault, float]] = {}

    def on(self, runtime: Runtime) -> Faults:
        """Return the same faults, for calls on another clock."""
        same = Faults(runtime, self._metrics)
        same._faults = self._faults
        return same

    def inject(self, method: str, fault: Fault) -> None:
        """Begin; a fault that the method has is replaced.

        Raises:
            ValueError: there are too many.
        """
        if method not in self.left() and len(self._faults) >= FAULTS_MAX:
            raise ValueError(f"{FAULTS_MAX} methods have faults already")
        self._faults[method] = (fault, self._now() + fault.duration_s)

    def clear(self) -> int:
        """End all; return how many there were."""
        count = len(self.left())
        self._faults.clear()
        return count

    def left(self) -> dict[str, tuple[Fault, float]]:
        """Return those that are not over, and for how many seconds they go on."""
        now = self._now()
        for method, (_, ends_at) in [*self._faults.items()]:
            if ends_at <= now:
                self._faults.pop(method, None)
        return {method: (fault, end - now) for method, (fault, end) in self._faults.items()}

    def _drawn(self, call: Call) -> Fault | None:
        """Return the fault that *call* meets, if it meets one."""
        found = self._faults.get(call.method.full_name)
        if found is None:
            return None
        fault, ends_at = found
        if self._now() >= ends_at:
            self._faults.pop(call.method.full_name, None)
            return None
        return fault if self._runtime.random.random() < fault.share else None

    async def _meet(self, call: Call, fault: Fault) -> None:
        """Be late, and fail if that is before execution."""
        call.note("mesh.fault")
        if self._metrics:
            kind = fault.code.name if fault.code else "DELAY"
            self._metrics.faults.labels(call.method.full_name, kind).inc()
        if fault.delay_s:
            left_s = max(0.0, call.deadline - self._now())
            await self._runtime.clock.sleep(min(fault.delay_s, left_s))
        if fault.code and not fault.after_execution:
            raise _error(fault.code)

    def __call__(self, inner: Handler) -> Handler:
        """Let calls meet the faults there are."""

        async def faulty(call: Call, fault: Fault) -> Any:
            await self._meet(call, fault)
            reply = await inner(call)
            if fault.code:
                raise _error(fault.code)
            return reply

        def through(call: Call) -> Awaitable[Any]:
            fault = self._drawn(call) if self._faults else None
            return faulty(call, fault) if fault else inner(call)

        return through

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """The same; after execution a stream breaks off at its end."""

        async def through(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            fault = self._drawn(call) if self._faults else None
            if fault:
                await self._meet(call, fault)
            async with Reading(inner(call, requests)) as replies:
                async for reply in replies:
                    yield reply
            if fault and fault.code:
                raise _error(fault.code)

        return through


def _error(code: StatusCode) -> MeshError:
    return from_wire(code, "a fault that an operator asked for", None)
