"""The two shapes everything in the mesh is made of.

A *handler* turns a call into a reply; a *layer* wraps a handler in another one. Clients and
servers use the same two shapes, so a concern is written once and the whole flow of a call is
one list of layers (see `mesh.client` and `mesh.server`).
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.trace import Span, get_current_span

from .errors import MeshError


class Kind(enum.Enum):
    """The four kinds of RPC: (the client streams, the server streams)."""

    UNARY_UNARY = (False, False)
    UNARY_STREAM = (False, True)
    STREAM_UNARY = (True, False)
    STREAM_STREAM = (True, True)


class Idempotency(enum.Enum):
    """What a contract promises of repeating a method (`idempotency_level` in the proto)."""

    UNKNOWN = MethodOptions.IDEMPOTENCY_UNKNOWN
    NO_SIDE_EFFECTS = MethodOptions.NO_SIDE_EFFECTS
    IDEMPOTENT = MethodOptions.IDEMPOTENT


@dataclass(frozen=True)
class Method:
    """What never changes about a method; made once from its descriptor.

    `path` is the wire's form, ``/shop.order.v1.OrderService/GetOrder``; `full_name` the one of
    the RPC semantic conventions, the same without its leading slash.
    """

    path: str
    service: str
    name: str
    kind: Kind
    idempotency: Idempotency
    request_type: type[Message]
    reply_type: type[Message]

    @cached_property
    def full_name(self) -> str:
        """Return ``package.Service/Method``."""
        return self.path[1:]

    @cached_property
    def repeatable(self) -> bool:
        """Whether the contract allows to send the same request twice."""
        return self.idempotency is not Idempotency.UNKNOWN

    @cached_property
    def reads(self) -> bool:
        """Whether the contract promises that nothing changes."""
        return self.idempotency is Idempotency.NO_SIDE_EFFECTS

    @cached_property
    def client_streams(self) -> bool:
        """Whether there are many requests."""
        return self.kind in (Kind.STREAM_UNARY, Kind.STREAM_STREAM)

    @cached_property
    def server_streams(self) -> bool:
        """Whether there are many replies."""
        return self.kind in (Kind.UNARY_STREAM, Kind.STREAM_STREAM)

    def promising(self, level: Idempotency | None) -> Method:
        """Return the method with a promise that its contract does not make; None adds nothing.

        Raises:
            ValueError: the contract says something else.
        """
        if level is None or level is self.idempotency:
            return self
        if self.idempotency is not Idempotency.UNKNOWN:
            own = self.idempotency.name
            raise ValueError(f"{self.full_name}: idempotency {level.name}: its proto says {own}")
        return replace(self, idempotency=level)

    @staticmethod
    def of(descriptor: MethodDescriptor) -> Method:
        """Return the facts of *descriptor*."""
        service = descriptor.containing_service.full_name
        return Method(
            path=f"/{service}/{descriptor.name}",
            service=service,
            name=descriptor.name,
            kind=Kind((descriptor.client_streaming, descriptor.server_streaming)),
            idempotency=Idempotency(descriptor.GetOptions().idempotency_level),
            request_type=GetMessageClass(descriptor.input_type),
            reply_type=GetMessageClass(descriptor.output_type),
        )

    @staticmethod
    @lru_cache(maxsize=4096)
    def at(path: str) -> Method:
        """Return the facts of the method at *path*.

        Raises:
            KeyError: no imported stub describes it.
        """
        service, _, name = path.removeprefix("/").rpartition("/")
        descriptor = descriptor_pool.Default().FindServiceByName(service)
        return Method.of(descriptor.methods_by_name[name])


class Criticality(enum.Enum):
    """What is given up last, and what first, when there is more to do than can be done."""

    CRITICAL = "critical"
    DEFAULT = "default"
    SHEDDABLE = "sheddable"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a process of the mesh, or a person's token at the edge."""

    name: str
    roles: frozenset[str] = frozenset()


#: The deadline of a call that has none.
NEVER = float("inf")

#: A call whose caller did not say who it is.
NOBODY = Principal("")


class Call(NamedTuple):
    """One remote call on its way through the layers. Layers pass on changed copies.

    `deadline` is in seconds on the runtime's monotonic clock. `request` is the first message;
    for methods whose client streams it is an empty one and the messages come beside the call.
    `key` is the idempotency key, "" if the method only reads. `address` is set once an endpoint
    is picked; `tried` holds those that its attempts went to, if anybody wants to know. `span` is
    the call's own, or its attempt's: policies say there what they did. `carrier` is for the
    transport that sends it, nobody else looks at it.

    A tuple, because half a dozen copies are made of every call: one costs 0.4 us, where
    `dataclasses.replace` on a frozen dataclass of these fields takes 3 us.
    """

    method: Method
    request: Message
    deadline: float
    metadata: Mapping[str, str] = MappingProxyType({})
    key: str = ""
    attempt: int = 1
    address: str = ""
    principal: Principal = NOBODY
    carrier: Any = None
    tried: list[str] | None = None
    span: Span | None = None

    def replace(
        self,
        *,
        deadline: float | None = None,
        metadata: Mapping[str, str] | None = None,
        key: str | None = None,
        attempt: int | None = None,
        address: str | None = None,
        principal: Principal | None = None,
        tried: list[str] | None = None,
        span: Span | None = None,
    ) -> Call:
        """Return a copy in which what is given is changed."""
        facts = (
            self.method,
            self.request,
            self.deadline if deadline is None else deadline,
            self.metadata if metadata is None else metadata,
            self.key if key is None else key,
            self.attempt if attempt is None else attempt,
            self.address if address is None else address,
            self.principal if principal is None else principal,
            self.carrier,
            self.tried if tried is None else tried,
            self.span if span is None else span,
        )
        return tuple.__new__(Call, facts)

    def note(self, event: str, **facts: str) -> None:
        """Say on its span what became of it; without one, on that of what is being served."""
        (self.span or get_current_span()).add_event(event, facts)


Handler: TypeAlias = Callable[[Call], Awaitable[Any]]
StreamHandler: TypeAlias = Callable[[Call, AsyncIterator[Any]], AsyncIterator[Any]]
#: Of a call that a server has not read yet, as gRPC has it.
Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]
#: Says why such a call is not let in; None: it is.
Door: TypeAlias = Callable[[Metadata], MeshError | None]


class Layer:
    """Wraps handlers: as a function those of unary calls, by `stream` those of streams.

    A layer that does not override one of the two lets such calls pass untouched.
    """

    #: Whether it awaits more than its clock and the handler inside it (another call, a queue):
    #: then it takes an event loop, and `mesh.sync` refuses it.
    suspends = False

    def __call__(self, inner: Handler) -> Handler:
        """Return a handler around *inner*."""
        return inner

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """Return a stream handler around *inner*."""
        return inner

    def door(self, method: Method) -> Door | None:
        """Return what a server asks before it reads a call of *method*, if it is to ask."""
        return None


class Prepare(Layer, ABC):
    """A layer that only looks at the call, and perhaps changes it, before it goes on.

    One that is not `needed`, as it is configured, is left out.
    """

    needed = True

    @abstractmethod
    def prepare(self, call: Call) -> Call:
        """Return the call to go on with, or raise."""

    def __call__(self, inner: Handler) -> Handler:
        """Prepare, then go on."""
        if not self.needed:
            return inner
        prepare = self.prepare

        def prepared(call: Call) -> Awaitable[Any]:
            return inner(prepare(call))

        return prepared

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """Prepare, then go on."""
        if not self.needed:
            return inner

        def prepared(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            return inner(self.prepare(call), requests)

        return prepared


def stack(*layers: Layer, around: Handler) -> Handler:
    """Wrap *around* so that the first layer listed sees the call first."""
    handler = around
    for layer in reversed(layers):
        handler = layer(handler)
    return handler


def stack_stream(*layers: Layer, around: StreamHandler) -> StreamHandler:
    """The same for streams."""
    handler = around
    for layer in reversed(layers):
        handler = layer.stream(handler)
    return handler


def door(layers: Iterable[Layer], method: Method) -> Door | None:
    """Return the door of the first of *layers* that has one for *method*."""
    return next((found for layer in layers if (found := layer.door(method))), None)
