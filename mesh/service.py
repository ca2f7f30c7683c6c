"""Declare a service: one proto service, one plain function for each of its methods.

Three kinds of function (docs/write-a-service.md):

- ``@service.rpc``  one RPC is one transaction; awaits nothing but ``tx``.
- ``@service.call`` no transaction of its own; may call other services, wait and stream.
- ``@service.effect`` for what lies outside: intent, outside call, result.

And ``@service.on(Event)`` for what other services publish.

Names and types are checked against the descriptor when the module is imported, and a method
without a function fails at start, so that a service which starts serves its whole contract.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from .call import Call, Kind, Method, Principal
from .dial import DeclarationError, Dial, no_clients
from .events.port import topic_of
from .runtime.clock import Runtime
from .storage.port import Store, T, Tx, Work, on_behalf_of

if TYPE_CHECKING:
    from .saga.engine import SagaEngine
    from .saga.steps import Saga

#: Of the caller's time, what is kept to give an answer.
ANSWER_MARGIN_S = 0.25

C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Context(Generic[C]):
    """What a ``@call``, or the outside part of an ``@effect``, may use.

    `to` holds the service's clients. `key` is stable over every repetition of the same call.
    """

    to: C
    store: Store
    runtime: Runtime
    call: Call
    engine: SagaEngine | None = None

    @property
    def principal(self) -> Principal:
        """Who is calling."""
        return self.call.principal

    @property
    def key(self) -> str:
        """The idempotency key."""
        return self.call.key

    @property
    def sagas(self) -> SagaEngine:
        """The engine that runs this service's sagas."""
        if self.engine is None:
            raise DeclarationError("this service declares no sagas")
        return self.engine

    async def within_time(self, awaited: Awaitable[Any]) -> bool:
        """Wait for something as long as the caller does; whether it happened."""
        try:
            async with asyncio.timeout(self.time_left_s()):
                await awaited
        except TimeoutError:
            return False
        return True

    def time_left_s(self) -> float:
        """Return how long the caller still waits, less what the answer needs to reach it."""
        return self.call.deadline - self.runtime.clock.monotonic() - ANSWER_MARGIN_S

    async def read(self, work: Work[T]) -> T:
        """Run *work* on a short snapshot of the service's database."""
        return await self.store.read(on_behalf_of(self.call, work))

    async def write(self, work: Work[T]) -> T:
        """Run *work* in a short transaction on the service's database."""
        return await self.store.write(on_behalf_of(self.call, work))

    def changed(self) -> Awaitable[None]:
        """Return what resolves at the database's next commit; take it before reading."""
        return self.store.changed()

    async def sleep(self, delay_s: float) -> None:
        """Wait."""
        await self.runtime.clock.sleep(delay_s)


@dataclass
class Effect:
    """The three parts of an effect; see `mesh.effects` for how they are run.

    1. the decorated function: checks and records the intent, in a transaction;
    2. `outside`: the call itself, at least once, with the same key each time. It returns
       whatever definite answer it gets, a no included; what it raises is tried again;
    3. `settle`: records the answer, in a transaction, and replies or refuses.
    """

    method: Method
    intend: Callable[[Tx, Any], Awaitable[None]]
    act: Callable[[Any, Any], Awaitable[Any]] | None = None
    record: Callable[[Tx, Any, Any], Awaitable[Any]] | None = None

    def outside(self, function: F) -> F:
        """Register the call to the outside: ``(ctx, request) -> result``."""
        self.act = function
        return function

    def settle(self, function: F) -> F:
        """Register how the result is recorded: ``(tx, request, result) -> reply``."""
        _check(self.method, function)
        self.record = function
        return function


@dataclass(frozen=True)
class Subscriber:
    """What is done with one kind of event.

    `apply` is ``(tx, event)``, one transaction in which the event counts as applied. With
    `outside`, ``(ctx, event) -> result``, that is done first, at least once, and `apply` gets its
    result as well.
    """

    event_type: type[Message]
    apply: Callable[..., Awaitable[None]]
    outside: Callable[[Any, Any], Awaitable[Any]] | None = None


@dataclass
class Service(Generic[C]):
    """The implementation of one proto service.

    Args:
        descriptor: of the proto service.
        clients: makes the clients from a `Dial`; the class in the service's ``clients.py``.
        schema: the folder of its migrations.
        sagas: the sagas this service runs.
        events_at_once: how many events that have an outside part, or failed before, are worked on
            at a time; each may happen twice outside when the process dies.
        read_model: the tables that are made from events alone, see `mesh.events.read_models`.
    """

    descriptor: ServiceDescriptor
    clients: Callable[[Dial], C] = no_clients
    schema: Path | None = None
    sagas: Sequence[Saga[Any, C]] = ()
    events_at_once: int = 32
    read_model: Sequence[str] = ()
    rpcs: dict[str, Callable[[Tx, Any], Awaitable[Any]]] = field(default_factory=dict)
    calls: dict[str, Callable[[Context[C], Any], Any]] = field(default_factory=dict)
    effects: dict[str, Effect] = field(default_factory=dict)
    subscribers: dict[str, Subscriber] = field(default_factory=dict)

    def rpc(self, function: F) -> F:
        """Register ``reserve_stock`` as ``ReserveStock``: one RPC, one transaction."""
        method = self._declare(function)
        _check_unary(method)
        self.rpcs[method.path] = function
        return function

    def call(self, function: F) -> F:
        """Register a method that calls, waits or streams."""
        method = self._declare(function)
        self.calls[method.path] = function
        return function

    def effect(self, function: Callable[[Tx, Any], Awaitable[None]]) -> Effect:
        """Register the intent of a method that acts outside; the other parts are to follow."""
        method = self._method(function)
        _check_unary(method)
        _check(method, function, returns=type(None))
        effect = self.effects[method.path] = Effect(method, function)
        return effect

    def on(
        self,
        event_type: type[Message],
        *,
        outside: Callable[[Context[C], Any], Awaitable[Any]] | None = None,
    ) -> Callable[[F], F]:
        """Register what to do with an event of *event_type*, whoever publishes it."""
        topic = topic_of(event_type)

        def register(function: F) -> F:
            if topic in self.subscribers:
                raise DeclarationError(f"{topic} has two functions")
            for part in (function, outside):
                wanted = _hints(part).get("event") if part else event_type
                if wanted is not event_type:
                    raise DeclarationError(f"{topic}: event must be {event_type}, got {wanted}")
            self.subscribers[topic] = Subscriber(event_type, function, outside)
            return function

        return register

    def check(self) -> None:
        """Fail unless every method of the contract has its function, whole."""
        declared = self.rpcs.keys() | self.calls.keys() | self.effects.keys()
        paths = {Method.of(m).path for m in self.descriptor.methods}
        if missing := sorted(paths - declared):
            raise DeclarationError(f"no function for {', '.join(missing)}")
        for effect in self.effects.values():
            if effect.act is None or effect.record is None:
                raise DeclarationError(f"{effect.method.full_name} lacks .outside or .settle")

    def _declare(self, function: F) -> Method:
        method = self._method(function)
        _check(method, function)
        return method

    def _method(self, function: Callable[..., Any]) -> Method:
        name = "".join(part.capitalize() for part in function.__name__.split("_"))
        if name not in self.descriptor.methods_by_name:
            raise DeclarationError(f"{self.descriptor.full_name} has no method {name}")
        method = Method.of(self.descriptor.methods_by_name[name])
        if method.path in (self.rpcs.keys() | self.calls.keys() | self.effects.keys()):
            raise DeclarationError(f"{method.full_name} is declared twice")
        return method


_HINTS: WeakKeyDictionary[Callable[..., Any], Mapping[str, Any]] = WeakKeyDictionary()


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the types of *function*. They are text, to be compiled: dear for who starts often."""
    found = _HINTS.get(function)
    if found is None:
        found = _HINTS[function] = get_type_hints(function)
    return found


def _check(method: Method, function: Callable[..., Any], returns: Any = None) -> None:
    hints = _hints(getattr(function, "__func__", function))
    client_streams, server_streams = method.kind.value
    expected = {
        "request": _many(method.request_type) if client_streams else method.request_type,
        "return": returns or (_many(method.reply_type) if server_streams else method.reply_type),
    }
    for part, cls in expected.items():
        actual = hints.get(part)
        same = actual is cls or (
            get_origin(actual) is get_origin(cls) is not None and get_args(actual) == get_args(cls)
        )
        if not same:
            raise DeclarationError(f"{method.full_name}: {part} must be {cls}, got {actual}")


def _many(cls: type) -> Any:
    return AsyncIterator[cls]  # type: ignore[valid-type]


def _check_unary(method: Method) -> None:
    if method.kind is not Kind.UNARY_UNARY:
        raise DeclarationError(f"{method.full_name} streams: declare it with @service.call")
