"""Throttling: who is refused for want of room holds back what would be refused as well.

A refusal costs a server something too, and where that is all it has time for, nobody is served. So
its clients let through no more than a multiple of what it accepts, and refuse the rest themselves.
What it does not answer in time it has not accepted: it may be too busy to refuse. Each address has
its own measure, and each method and criticality there, so that what is critical is held back only
if that is refused. Nothing is counted before the first refusal, nor after the last. (Google, *Site
Reliability Engineering*, 2016, chapter 21.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeAlias

from ..call import Call, Criticality, Handler, Layer, StreamHandler
from ..errors import EXHAUSTED_S, DeadlineExceeded, MeshError, Overloaded
from ..runtime.clock import Runtime
from ..runtime.metrics import Metrics
from .criticality import criticality_in
from .streams import Reading
from .window import TimeWindow

#: What a server says that has too much to do, and how one ends that cannot even say that.
_REFUSALS = frozenset({Overloaded.reason, DeadlineExceeded.reason})
#: Address, method, how critical.
_Key: TypeAlias = tuple[str, str, Criticality]
#: For how many of them refusals are remembered.
_KEPT_MAX = 4096


class Throttled(Overloaded):
    """The server has refused so many calls lately that this one was not sent."""

    reason = "THROTTLED"


@dataclass(frozen=True)
class ThrottleConfig:
    """How much is sent to a server that refuses: `multiple` times what it accepts.

    It goes by the calls of the last `window_s` seconds; fewer than `calls_min` say nothing.
    """

    multiple: float = 2.0
    window_s: float = 1.0
    calls_min: int = 10

    def __post_init__(self) -> None:
        if self.multiple < 1.0 or self.window_s <= 0.0 or self.calls_min < 1:
            raise ValueError("multiple and calls_min are at least 1, window_s is more than 0")


class Throttle(Layer):
    """The throttling of one target."""

    def __init__(self, config: ThrottleConfig, runtime: Runtime, metrics: Metrics) -> None:
        self._config = config
        self._now = runtime.clock.monotonic
        self._random = runtime.random
        self._throttled = metrics.load.throttled
        self._lock = Lock()
        #: Calls and refusals, ours included, where there were refusals lately.
        self._refusing: dict[_Key, TimeWindow] = {}

    def share(self, key: _Key) -> float:
        """Return the share of the calls that is held back now."""
        with self._lock:
            window = self._refusing.get(key)
            if window is None:
                return 0.0
            calls, refused, _ = window.counts
            if not refused:
                del self._refusing[key]
            if calls < self._config.calls_min:
                return 0.0
            return (calls - self._config.multiple * (calls - refused)) / (calls + 1)

    def _check(self, call: Call) -> _Key:
        """Return what *call* counts for.

        Raises:
            Throttled: it is held back. It is not worth a retry, which would be held back too.
        """
        key = call.address, call.method.full_name, criticality_in(call.metadata)
        if self._refusing and self._random.random() < self.share(key):
            self._count(key, refused=True)
            call.note("mesh.throttled")
            self._throttled.labels(key[1], key[2].value).inc()
            raise Throttled("the server refuses most calls", retry_after_s=EXHAUSTED_S)
        return key

    def _ended(self, key: _Key, error: BaseException | None = None) -> None:
        refused = isinstance(error, MeshError) and error.reason in _REFUSALS
        if refused or self._refusing:
            self._count(key, refused=refused)

    def _count(self, key: _Key, *, refused: bool) -> None:
        with self._lock:
            window = self._refusing.get(key)
            if window is None:
                if not refused:
                    return
                if len(self._refusing) >= _KEPT_MAX:
                    self._refusing.clear()
                window = self._refusing[key] = TimeWindow(self._config.window_s, self._now)
            window.add(failed=refused, slow=False)

    def __call__(self, inner: Handler) -> Handler:
        """Hold back what would be refused."""

        async def throttled(call: Call) -> Any:
            key = self._check(call)
            try:
                reply = await inner(call)
            except BaseException as error:
                self._ended(key, error)
                raise
            self._ended(key)
            return reply

        return throttled

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """The same."""

        async def throttled(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            key = self._check(call)
            try:
                async with Reading(inner(call, requests)) as replies:
                    async for reply in replies:
                        yield reply
            except BaseException as error:
                self._ended(key, error)
                raise
            self._ended(key)

        return throttled
