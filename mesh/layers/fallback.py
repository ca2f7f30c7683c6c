"""Fallback: rather an answer that may be out of date than none, and it says so.

For methods that only read. When a call has failed for good, with all its attempts, the last good
reply to the same request for the same caller is given, if it is young enough; or what a function
makes of the request. A refusal is an answer, and stays one. What is critical gets no fallback: it
is about to decide something, and waits for what is so.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

from google.protobuf.message import Message
from opentelemetry.trace import get_current_span

from ..call import Call, Criticality, Handler, Kind, Layer, Method
from ..errors import MeshError, Outcome
from ..runtime.clock import Runtime
from ..runtime.logs import log
from ..runtime.metrics import Metrics
from ..scope import degrade, scope
from .breaker import FAILURES
from .criticality import criticality_in


@dataclass(frozen=True)
class FallbackConfig:
    """What is answered in place of a failure.

    The last good reply, if it is not older than `last_good_s` seconds; as many are kept as fit
    into `entries_max` and `bytes_max`, the least recently used go first. With a `function`, set in
    code, what it returns for the request; None is no answer, nor is an exception.
    """

    last_good_s: float = 300.0
    entries_max: int = 1000
    bytes_max: int = 8 * 1024 * 1024
    function: Callable[[Any], Message | None] | None = None

    def __post_init__(self) -> None:
        if self.last_good_s < 0.0 or self.entries_max < 1 or self.bytes_max < 1:
            raise ValueError("last_good_s is 0 or more, entries_max and bytes_max are 1 or more")
        if inspect.iscoroutinefunction(self.function):
            raise ValueError("function answers at once: it cannot be async")

    def check(self, method: Method) -> None:
        """Fail if *method* must not have one.

        Raises:
            ValueError: it changes something, or streams.
        """
        if not method.reads or method.kind is not Kind.UNARY_UNARY:
            raise ValueError(
                f"{method.full_name} cannot have a fallback: it is no unary method with"
                " `option idempotency_level = NO_SIDE_EFFECTS`"
            )


class LastGood:
    """The last good replies. Thread-safe."""

    def __init__(self, config: FallbackConfig, now: Callable[[], float]) -> None:
        self._config = config
        self._now = now
        self._lock = Lock()
        self._kept: OrderedDict[tuple[str, str, bytes], tuple[float, bytes]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, call: Call, reply: Message) -> None:
        """Remember the *reply* to *call*, until there are too many."""
        key, entry = _key(call), (self._now(), reply.SerializeToString())
        with self._lock:
            self._drop(key)
            self._kept[key] = entry
            self.bytes += _size(key, entry)
            while len(self._kept) > self._config.entries_max or self.bytes > self._config.bytes_max:
                self._drop(next(iter(self._kept)))

    def find(self, call: Call) -> tuple[Message, float] | None:
        """Return the last reply to the same request, and its age in seconds."""
        key = _key(call)
        with self._lock:
            entry = self._kept.get(key)
            if entry is None:
                return None
            since, data = entry
            age_s = self._now() - since
            if age_s > self._config.last_good_s:
                self._drop(key)
                return None
            self._kept.move_to_end(key)
        return call.method.reply_type.FromString(data), age_s

    def _drop(self, key: tuple[str, str, bytes]) -> None:
        entry = self._kept.pop(key, None)
        if entry:
            self.bytes -= _size(key, entry)


def _key(call: Call) -> tuple[str, str, bytes]:
    request = call.request.SerializeToString(deterministic=True)
    return scope.get().principal, call.method.path, request


def _size(key: tuple[str, str, bytes], entry: tuple[float, bytes]) -> int:
    return len(key[2]) + len(entry[1])


class Fallback(Layer):
    """The fallback of one method."""

    def __init__(self, config: FallbackConfig, runtime: Runtime, metrics: Metrics) -> None:
        self._config = config
        self._metrics = metrics
        self.last_good = LastGood(config, runtime.clock.monotonic)

    def __call__(self, inner: Handler) -> Handler:
        """Answer what fails."""

        async def falling_back(call: Call) -> Any:
            try:
                reply = await inner(call)
            except MeshError as error:
                known = self._instead(call, error)
                if known is None:
                    raise
                return known
            if self._config.last_good_s:
                self.last_good.keep(call, reply)
            return reply

        return falling_back

    def _instead(self, call: Call, error: MeshError) -> Message | None:
        definite = error.status not in FAILURES or error.outcome is Outcome.REFUSED
        ranks = criticality_in(call.metadata), scope.get().criticality
        if definite or Criticality.CRITICAL in ranks:
            return None
        found = self.last_good.find(call) if self._config.last_good_s else None
        if found:
            self._say(call, error, f";age={found[1]:.0f}")
            return found[0]
        made = self._made(call)
        if made is not None:
            self._say(call, error, "")
        return made

    def _made(self, call: Call) -> Message | None:
        """Return what the function makes of the request; its failures are not the caller's."""
        if self._config.function is None:
            return None
        try:
            made = self._config.function(call.request)
            if made is None or isinstance(made, call.method.reply_type):
                return made
            raise TypeError(f"a fallback returned no {call.method.reply_type.__name__}")
        except Exception as failure:  # noqa: BLE001
            log.error("a fallback failed", method=call.method.full_name, exc_info=failure)
            return None

    def _say(self, call: Call, error: MeshError, age: str) -> None:
        method = call.method.full_name
        degrade(f"{method}{age}")
        self._metrics.load.degraded.labels(method).inc()
        (call.span or get_current_span()).set_attribute("mesh.degraded", f"{method}{age}")
        log.warning("fallback", method=method, reason=error.reason, instead=age.lstrip(";"))
