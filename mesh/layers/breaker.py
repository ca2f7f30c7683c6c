"""The circuit breaker as a layer, and as a decorator for any function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, NoReturn, TypeVar, cast

import grpc
from grpc import StatusCode

from ..call import Call, Handler, Layer, StreamHandler
from ..errors import CircuitOpenError, KeyInFlight, MeshError, Overloaded
from ..runtime.clock import Runtime
from ..runtime.logs import log
from ..runtime.metrics import Metrics
from .circuit import Circuit, CircuitConfig, Permit, Result, State
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

#: What `mesh_breaker_state` shows.
_GAUGE = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}

#: Errors that have a status: ours, and those of stock stubs, aio and sync.
_CODED = (MeshError, grpc.aio.AioRpcError, grpc.Call)


def classify(error: BaseException) -> Result:
    """Return what *error* says of the target that raised it."""
    if isinstance(error, KeyInFlight):
        return Result.NEUTRAL  # what the first call with that key says counts
    if isinstance(error, Overloaded):
        return Result.NEUTRAL  # it lives, and limits itself: opening would only make it swing
    if isinstance(error, _CODED):
        return Result.FAILURE if error.code() in FAILURES else Result.NEUTRAL
    return Result.FAILURE if isinstance(error, Exception) else Result.NEUTRAL


def _refuse(circuit: Circuit, name: str) -> NoReturn:
    raise CircuitOpenError(f"the circuit of {name} is open", retry_after_s=circuit.retry_after_s())


class _Guard(AbstractContextManager[None]):
    """One call through a circuit."""

    def __init__(self, circuit: Circuit, name: str) -> None:
        self._circuit = circuit
        self._permit: Permit = circuit.acquire() or _refuse(circuit, name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._circuit.release(self._permit, classify(error) if error else Result.SUCCESS)


class Breaker(Layer):
    """One circuit for each (address, method)."""

    def __init__(
        self, config: CircuitConfig, runtime: Runtime, metrics: Metrics | None = None
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._metrics = metrics
        self.circuits: dict[tuple[str, str], Circuit] = {}

    def circuit(self, call: Call) -> Circuit:
        """Return the circuit that *call* goes through."""
        key = (call.address, call.method.full_name)
        circuit = self.circuits.get(key)
        if circuit is None:
            made = Circuit(
                self._config,
                self._runtime.clock.monotonic,
                self._runtime.random,
                functools.partial(self._changed, *key),
            )
            circuit = self.circuits.setdefault(key, made)  # another thread may be first
        return circuit

    def _changed(self, address: str, method: str, old: State, new: State) -> None:
        _report(address, method, old, new)
        if self._metrics:
            self._metrics.breaker_state.labels(address, method).set(_GAUGE[new])

    def admits(self, call: Call) -> bool:
        """Whether *call* may be let through: its circuit is not open."""
        return self.circuit(call).state is not State.OPEN

    def __call__(self, inner: Handler) -> Handler:
        """Refuse calls while the circuit is open."""

        async def guarded(call: Call) -> Any:
            circuit = self.circuit(call)
            permit = circuit.acquire() or _refuse(circuit, call.method.full_name)
            try:
                reply = await inner(call)
            except BaseException as error:
                circuit.release(permit, classify(error))
                raise
            circuit.release(permit, Result.SUCCESS)
            return reply

        return guarded

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """The same; a stream that its reader leaves is neutral."""

        async def guarded(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            with _Guard(self.circuit(call), call.method.full_name):
                async with Reading(inner(call, requests)) as replies:
                    async for reply in replies:
                        yield reply

        return guarded


def circuit_breaker(
    config: CircuitConfig | None = None, runtime: Runtime | None = None
) -> Callable[[F], F]:
    """Put any sync or async function behind a circuit of its own.

    While it is open the function is not called and `CircuitOpenError` is raised. The circuit is
    the decorated function's attribute ``circuit``.
    """

    def decorate(function: F) -> F:
        used = runtime or Runtime()
        name = function.__qualname__
        circuit = Circuit(
            config or CircuitConfig(),
            used.clock.monotonic,
            used.random,
            functools.partial(_report, "", name),
        )

        @functools.wraps(function)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            with _Guard(circuit, name):
                return await function(*args, **kwargs)

        @functools.wraps(function)
        def synchronous(*args: Any, **kwargs: Any) -> Any:
            with _Guard(circuit, name):
                return function(*args, **kwargs)

        wrapper: Any = asynchronous if inspect.iscoroutinefunction(function) else synchronous
        wrapper.circuit = circuit
        return cast("F", wrapper)

    return decorate


def _report(address: str, name: str, old: State, new: State) -> None:
    log.warning("circuit breaker", target=address, method=name, was=old.value, state=new.value)
