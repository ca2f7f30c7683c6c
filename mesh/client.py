"""THE client stack, and the channel that stubs are made with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from .call import (
    NEVER,
    Call,
    Criticality,
    Handler,
    Idempotency,
    Layer,
    Method,
    StreamHandler,
    stack,
    stack_stream,
)
from .discovery import directory_of
from .layers.balance import Balance, Endpoints
from .layers.budget import open_budget
from .layers.bulkhead import Bulkhead, BulkheadConfig
from .layers.circuit import CircuitConfig
from .layers.correlation import Correlate
from .layers.criticality import HandOnCriticality
from .layers.deadline import AttemptTimeout, ComputeDeadline
from .layers.fallback import Fallback, FallbackConfig
from .layers.hedge import Hedge, HedgeConfig
from .layers.identity import Identify
from .layers.keys import AssignKey
from .layers.observe import Observe
from .layers.retry import Retry, RetryPolicy
from .layers.streams import only
from .layers.throttle import Throttle, ThrottleConfig
from .layers.tracing import TraceAttempt, TraceCall
from .node import Node
from .runtime.levels import METHOD_ONLY
from .target import Target
from .transport.port import LayersAt, Transport


@dataclass(frozen=True)
class Policy:
    """How calls of a method are treated. Times are in seconds.

    `timeout_s` bounds a call with all its attempts, `attempt_timeout_s` each of them. A server's
    stream lasts as long as it likes: there `timeout_s` bounds how late an attempt may begin, and
    `attempt_timeout_s` nothing. No `retry` means one attempt; `hedge` takes its place. `throttle`
    holds calls back while their server refuses most. `criticality` is of calls that are made for
    nobody else's sake. `idempotency` is for a method whose proto does not say it.

    Each field, and each field of a field, can be set in `mesh.toml` and by a variable, for all
    calls, those of a target and those of a method: see `mesh.runtime.levels`.
    """

    timeout_s: float = 10.0
    attempt_timeout_s: float | None = None
    retry: RetryPolicy | None = field(default_factory=RetryPolicy)
    hedge: HedgeConfig | None = field(default=None, metadata=METHOD_ONLY)
    circuit: CircuitConfig = field(default_factory=CircuitConfig)
    bulkhead: BulkheadConfig = field(default_factory=BulkheadConfig)
    throttle: ThrottleConfig | None = None
    criticality: Criticality = Criticality.DEFAULT
    fallback: FallbackConfig | None = field(default=None, metadata=METHOD_ONLY)
    idempotency: Idempotency | None = field(default=None, metadata=METHOD_ONLY)

    def __post_init__(self) -> None:
        times = (self.timeout_s, self.attempt_timeout_s)
        if any(time_s is not None and time_s <= 0.0 for time_s in times):
            raise ValueError("timeout_s and attempt_timeout_s are more than 0")

    def check(self, method: Method) -> Method:
        """Return *method* with what this adds to its contract.

        Raises:
            ValueError: this contradicts the contract.
        """
        promising = method.promising(self.idempotency)
        if self.fallback:
            self.fallback.check(promising)
        if self.hedge:
            self.hedge.check(promising)
        return promising

    def once(self) -> Policy:
        """Return the same for a saga's engine: it owns the retry, and what has begun goes first."""
        return replace(
            self,
            retry=None,
            hedge=None,
            throttle=None,
            fallback=None,
            criticality=Criticality.CRITICAL,
        )


#: A policy for all methods, or for each.
Policing: TypeAlias = Policy | Callable[[Method], Policy]


def under(policy: Policing, path: str) -> tuple[Method, Policy]:
    """Return the method at *path* with what its policy adds to its contract, and its policy.

    Raises:
        ValueError: the policy contradicts the contract.
    """
    method = Method.at(path)
    own = policy if isinstance(policy, Policy) else policy(method)
    return own.check(method), own


def client_layers(
    node: Node, target: Target, policy: Policy, endpoints: Endpoints | None = None
) -> list[Layer]:
    """Return the layers of every call of a method, in the order in which it meets them.

    Without *endpoints* the channel picks an address by itself, and does not say which.
    """
    runtime = node.runtime
    breaker = target.breaker(policy.circuit)
    return [
        Correlate(runtime),  # first: everything below reports under this id
        HandOnCriticality(policy.criticality),  # of the call being served, or this policy's own
        AssignKey(runtime),  # before retry: every attempt carries the same key
        TraceCall(node.tracer, target.name),  # the logical call, around all attempts
        Observe(node.metrics, runtime, "client"),  # what the caller felt
        ComputeDeadline(runtime, policy.timeout_s),  # one deadline for attempts and sleeps
        *(
            [target.share(Fallback, policy.fallback)] if policy.fallback else []
        ),  # after all attempts
        *_again(node, target, policy),
        *(
            [Balance(endpoints, breaker.admits)] if endpoints else []
        ),  # inside retry: another attempt may go elsewhere
        *(
            [target.share(Throttle, policy.throttle)] if policy.throttle else []
        ),  # per address: before the breaker, none of whose probes it takes
        breaker,  # per address and method: sees every attempt
        target.share(Bulkhead, policy.bulkhead),  # full: nothing the target did
        TraceAttempt(node.tracer),  # further attempts are children
        AttemptTimeout(runtime, policy.attempt_timeout_s),
        Identify(node.token),
        node.faults,  # innermost: all above meet them as they would the network's
    ]  # then the transport


def layers_at(
    node: Node, target: Target, policy: Policing, endpoints: Endpoints | None = None
) -> LayersAt:
    """Return what gives the method at a path, and the layers of its calls."""

    def at(path: str) -> tuple[Method, list[Layer]]:
        method, own = under(policy, path)
        return method, client_layers(node, target, own, endpoints)

    return at


def _again(node: Node, target: Target, policy: Policy) -> list[Layer]:
    if policy.hedge:
        return [target.share(Hedge, policy.hedge)]
    if policy.retry is None:
        return []
    budget = target.share(open_budget, policy.retry.budget)  # one for all methods
    return [Retry(policy.retry, node.runtime, node.metrics, budget, policy.timeout_s)]


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
        policy: Policing | None = None,
    ) -> None:
        if not addresses:
            raise ValueError(f"no address is known for {target!r}")
        now, shared = node.runtime.clock.monotonic, node.target(target)

        def forget(address: str) -> None:
            transport.forget(address)
            shared.forget(address)

        endpoints = Endpoints(directory_of(addresses, node.runtime), transport.reach, forget, now)
        self._layers = layers_at(node, shared, policy or Policy(), endpoints)
        self._target = target
        self._transport = transport
        self._now = now

    def unary_unary(self, path: str, *args: Any, **options: Any) -> UnaryRemote:
        """Return the remote method at *path*."""
        method, layers = self._layers(path)
        unary = stack(*layers, around=self._transport.unary)
        return UnaryRemote(method, self._target, unary, self._now)

    def unary_stream(self, path: str, *args: Any, **options: Any) -> StreamRemote:
        """Return the remote method at *path*."""
        method, layers = self._layers(path)
        stream = stack_stream(*layers, around=self._transport.stream)
        return StreamRemote(method, self._target, stream, self._now)

    stream_stream = unary_stream

    def stream_unary(self, path: str, *args: Any, **options: Any) -> StreamUnaryRemote:
        """Return the remote method at *path*."""
        method, layers = self._layers(path)
        stream = stack_stream(*layers, around=self._transport.stream)
        return StreamUnaryRemote(method, self._target, stream, self._now)

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
