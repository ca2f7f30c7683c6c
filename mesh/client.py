"""THE client stack, and the channel that stubs are made with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .call import NEVER, Call, Handler, Layer, Method, StreamHandler, stack, stack_stream
from .discovery import directory_of
from .layers.balance import Balance, Endpoints
from .layers.breaker import Breaker
from .layers.bulkhead import Bulkhead, BulkheadConfig
from .layers.circuit import CircuitConfig
from .layers.correlation import Correlate
from .layers.deadline import AttemptTimeout, ComputeDeadline
from .layers.identity import Identify
from .layers.keys import AssignKey
from .layers.observe import Observe
from .layers.retry import Retry, RetryPolicy
from .layers.streams import only
from .layers.tracing import TraceAttempt, TraceCall
from .node import Node
from .transport.port import Transport


@dataclass(frozen=True)
class Policy:
    """How a client treats its target. Times are in seconds.

    `timeout_s` bounds a call with all its attempts, `attempt_timeout_s` each of them. No `retry`
    means one attempt.
    """

    timeout_s: float = 10.0
    attempt_timeout_s: float | None = None
    retry: RetryPolicy | None = field(default_factory=RetryPolicy)
    circuit: CircuitConfig = field(default_factory=CircuitConfig)
    bulkhead: BulkheadConfig = field(default_factory=BulkheadConfig)


def client_layers(node: Node, target: str, endpoints: Endpoints, policy: Policy) -> list[Layer]:
    """Return the layers of every call made, in the order in which it meets them."""
    runtime = node.runtime
    breaker = Breaker(policy.circuit, runtime, node.metrics)
    return [
        Correlate(runtime),  # first: everything below reports under this id
        AssignKey(runtime),  # before retry: every attempt carries the same key
        TraceCall(node.tracer, target),  # the logical call, around all attempts
        Observe(node.metrics, runtime, "client"),  # what the caller felt
        ComputeDeadline(runtime, policy.timeout_s),  # one deadline for attempts and sleeps
        *([Retry(policy.retry, runtime, node.metrics)] if policy.retry else []),
        Balance(endpoints, breaker.admits),  # inside retry: another attempt may go elsewhere
        breaker,  # per address and method: sees every attempt
        Bulkhead(policy.bulkhead, runtime, node.metrics),  # full: nothing the target did
        TraceAttempt(node.tracer),  # further attempts are children
        AttemptTimeout(runtime, policy.attempt_timeout_s),
        Identify(node.token),
    ]  # then the transport


class Channel:
    """A channel whose calls go through the client stack; give it to a generated stub.

    Its multicallables return awaitables and asynchronous iterators. Errors are
    `mesh.errors.MeshError`s, which are `grpc.RpcError`s.
    """

    def __init__(
        self,
        node: Node,
        target: str,
        addresses: Sequence[str],
        transport: Transport,
        policy: Policy | None = None,
    ) -> None:
        if not addresses:
            raise ValueError(f"no address is known for {target!r}")
        self._target = target
        self._transport = transport
        endpoints = Endpoints(directory_of(addresses, node.runtime), transport.reach)
        layers = client_layers(node, target, endpoints, policy or Policy())
        self._unary = stack(*layers, around=transport.unary)
        self._stream = stack_stream(*layers, around=transport.stream)
        self._now = node.runtime.clock.monotonic

    def unary_unary(self, path: str, *args: Any, **options: Any) -> UnaryRemote:
        """Return the remote method at *path*."""
        return UnaryRemote(Method.at(path), self._target, self._unary, self._now)

    def unary_stream(self, path: str, *args: Any, **options: Any) -> StreamRemote:
        """Return the remote method at *path*."""
        return StreamRemote(Method.at(path), self._target, self._stream, self._now)

    stream_stream = unary_stream

    def stream_unary(self, path: str, *args: Any, **options: Any) -> StreamUnaryRemote:
        """Return the remote method at *path*."""
        return StreamUnaryRemote(Method.at(path), self._target, self._stream, self._now)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Remote:
    """A remote method, as a stub holds it."""

    def __init__(self, method: Method, target: str, handler: Any, now: Any) -> None:
        self.method = method
        self.target = target
        self._handler = handler
        self._now = now

    def _call(self, request: Any, timeout: float | None, metadata: Any) -> Call:
        deadline = NEVER if timeout is None else self._now() + timeout
        if not metadata:
            return Call(self.method, request, deadline, {})
        given = tuple(metadata.items() if isinstance(metadata, Mapping) else metadata)
        texts = {name: value for name, value in given if isinstance(value, str)}
        # What a mapping cannot hold, repeated and binary entries, the transport sends beside it.
        carrier = given if len(texts) < len(given) else None
        return Call(self.method, request, deadline, texts, carrier=carrier)


class UnaryRemote(_Remote):
    """One request, one reply."""

    _handler: Handler

    def __call__(
        self, request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any
    ) -> Awaitable[Any]:
        """Call; *timeout* is in seconds."""
        return self._handler(self._call(request, timeout, metadata))

    def send(self, call: Call) -> Awaitable[Any]:
        """Send a call that was made elsewhere."""
        return self._handler(call)


class StreamRemote(_Remote):
    """Many replies; perhaps many requests."""

    _handler: StreamHandler

    def __call__(
        self, request: Any = None, *, timeout: float | None = None, metadata: Any = None, **_: Any
    ) -> AsyncIterator[Any]:
        """Call; *request* is a message, or an (asynchronous) iterator of messages."""
        if self.method.client_streams:
            empty = self.method.request_type()
            return self._handler(self._call(empty, timeout, metadata), _iterate(request))
        return self._handler(self._call(request, timeout, metadata), _iterate([request]))


class StreamUnaryRemote(StreamRemote):
    """Many requests, one reply."""

    async def __call__(self, request: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Call; *request* is an (asynchronous) iterator of messages."""
        return await only(super().__call__(request, **options))


async def _iterate(requests: Any) -> AsyncIterator[Any]:
    if hasattr(requests, "__aiter__"):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request
