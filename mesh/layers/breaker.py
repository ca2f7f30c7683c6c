"""The circuit breaker as a layer, and as a decorator for any function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import grpc
from grpc import StatusCode
from opentelemetry.trace import Span

from ..call import Call, Handler, Layer, StreamHandler
from ..errors import CircuitOpenError, KeyInFlight, MeshError, Overloaded
from ..runtime.clock import Runtime
from ..runtime.metrics import Metrics
from .breaker_events import Events
from .circuit import UNCOUNTED, Change, Circuit, CircuitConfig, Mode, Result
from .streams import Reading

F = TypeVar("F", bound=Callable[..., Any])

#: Codes that say something bad of the target. All others are about the request or the caller.
FAILURES = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)

#: How many circuits a breaker keeps.
CIRCUITS_MAX = 4096

#: Errors that have a status: ours, and those of stock stubs, aio and sync.
_CODED = (MeshError, grpc.aio.AioRpcError, grpc.Call)


def classify(error: BaseException, without_status: Result = Result.NEUTRAL) -> Result:
    """Return what *error* says of the target of the call that it ended.

    What has no status is no answer of a server: the caller's own iterator of requests raised it.
    """
    if isinstance(error, KeyInFlight):
        return Result.NEUTRAL  # what the first call with that key says counts
    if isinstance(error, Overloaded):
        return Result.NEUTRAL  # it lives, and limits itself: opening would only make it swing
    if isinstance(error, _CODED):
        return Result.FAILURE if error.code() in FAILURES else Result.NEUTRAL
    return without_status if isinstance(error, Exception) else Result.NEUTRAL


class Breaker(Layer):
    """One circuit for each (address, method).

    *mode_of* says what an operator made of a circuit that is yet to be.
    """

    def __init__(
        self,
        config: CircuitConfig,
        runtime: Runtime,
        events: Events | None = None,
        mode_of: Callable[[str, str], Mode] = lambda address, method: Mode.NORMAL,
    ) -> None:
        self.config = config
        self.events = events or Events()
        self._runtime = runtime
        self._mode_of = mode_of
        self._now = runtime.clock.monotonic
        self.circuits: dict[tuple[str, str], Circuit] = {}

    def circuit(self, call: Call) -> Circuit:
        """Return the circuit that *call* goes through."""
        key = (call.address, call.method.full_name)
        return self.circuits.get(key) or self._make(*key)

    def _make(self, address: str, method: str) -> Circuit:
        def changed(change: Change, span: Span | None) -> None:
            if self.circuits.get((address, method)) is made:  # else it is gone
                self.events.changed(made, address, method, change, span)

        made = Circuit(self.config, self._now, self._runtime.random, changed)
        mode = self._mode_of(address, method)
        if mode is not Mode.NORMAL:
            made.set_mode(mode)
        self._make_room()
        circuit = self.circuits.setdefault((address, method), made)  # another thread may be first
        if circuit is made:
            self.events.watch(circuit, address, method)
        return circuit

    def _make_room(self) -> None:
        """Addresses come and go, memory stays bounded: the oldest go first."""
        while len(self.circuits) >= CIRCUITS_MAX:
            self._drop(next(iter(self.circuits)))

    def _drop(self, gone: tuple[str, str]) -> None:
        if self.circuits.pop(gone, None):
            self.events.forget(*gone)

    def forget(self, address: str) -> None:
        """Let go of the circuits of an address that is gone."""
        for key in [*self.circuits]:
            if key[0] == address:
                self._drop(key)

    def admits(self, call: Call) -> bool:
        """Whether *call* may be let through."""
        return self.circuit(call).admits

    def _rejected(self, circuit: Circuit, call: Call) -> CircuitOpenError:
        return self.events.rejected(circuit, call.address, call.method.full_name, call.span)

    def __call__(self, inner: Handler) -> Handler:
        """Refuse calls while the circuit is open."""
        timed, now = self.config.timed, self._now

        async def guarded(call: Call) -> Any:
            circuit = self.circuit(call)
            permit = circuit.acquire(call.span)
            if permit is None:
                raise self._rejected(circuit, call)
            began = now() if timed else 0.0
            try:
                reply = await inner(call)
            except BaseException as error:
                took_s = now() - began if timed else 0.0
                circuit.release(permit, classify(error), took_s, call.span)
                raise
            circuit.release(permit, Result.SUCCESS, now() - began if timed else 0.0, call.span)
            return reply

        return guarded

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """The same; a stream that its reader leaves is neutral, and none is slow.

        A probe has succeeded with its first reply: streams may last for ever.
        """

        async def guarded(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            circuit = self.circuit(call)
            permit = circuit.acquire(call.span)
            if permit is None:
                raise self._rejected(circuit, call)
            try:
                async with Reading(inner(call, requests)) as replies:
                    async for reply in replies:
                        if permit.probe:
                            circuit.release(permit, Result.SUCCESS, by=call.span)
                            permit = UNCOUNTED
                        yield reply
            except BaseException as error:
                circuit.release(permit, classify(error), by=call.span)
                raise
            circuit.release(permit, Result.SUCCESS, by=call.span)

        return guarded


def circuit_breaker(
    config: CircuitConfig | None = None,
    runtime: Runtime | None = None,
    metrics: Metrics | None = None,
) -> Callable[[F], F]:
    """Put any sync or async function behind a circuit of its own.

    While it is open the function is not called and `CircuitOpenError` is raised. The circuit is
    the decorated function's attribute ``circuit``, its events' subscribers are the list
    ``subscribers``.
    """

    def decorate(function: F) -> F:
        used = runtime or Runtime()
        name = function.__qualname__
        events = Events(metrics=metrics)
        now = used.clock.monotonic
        circuit = Circuit(
            config or CircuitConfig(),
            now,
            used.random,
            lambda change, _: events.changed(circuit, "", name, change),
        )
        events.watch(circuit, "", name)

        @contextmanager
        def guard() -> Iterator[None]:
            permit = circuit.acquire()
            if permit is None:
                raise events.rejected(circuit, "", name)
            began = now()
            try:
                yield
            except BaseException as error:
                circuit.release(permit, classify(error, Result.FAILURE), now() - began)
                raise
            circuit.release(permit, Result.SUCCESS, now() - began)

        @functools.wraps(function)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            with guard():
                return await function(*args, **kwargs)

        @functools.wraps(function)
        def synchronous(*args: Any, **kwargs: Any) -> Any:
            with guard():
                return function(*args, **kwargs)

        wrapper: Any = asynchronous if inspect.iscoroutinefunction(function) else synchronous
        wrapper.circuit, wrapper.subscribers = circuit, events.subscribers
        return cast("F", wrapper)

    return decorate
