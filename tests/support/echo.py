"""A small service for the mesh's own tests: all kinds of RPC, all levels of idempotency.

Its descriptors are built when this module is imported, so there is nothing to generate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from buf.validate import validate_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodOptions,
)
from google.protobuf.message_factory import GetMessageClass

from mesh.call import Call, Kind, Method, StreamHandler
from mesh.call import Handler as UnaryHandler
from mesh.transport.port import Route

PACKAGE = "tests.echo.v1"
SERVICE = f"{PACKAGE}.EchoService"
F = FieldDescriptorProto
O = MethodOptions  # noqa: E741

#: Name, whether the client streams, whether the server streams, what the contract promises.
_RPCS = (
    ("Read", False, False, O.NO_SIDE_EFFECTS),
    ("Put", False, False, O.IDEMPOTENT),
    ("Add", False, False, O.IDEMPOTENCY_UNKNOWN),
    ("Count", False, True, O.NO_SIDE_EFFECTS),
    ("Pour", False, True, O.IDEMPOTENCY_UNKNOWN),
    ("Sum", True, False, O.IDEMPOTENT),
    ("Chat", True, True, O.IDEMPOTENT),
)


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(
        name="tests/echo/v1/echo.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=["buf/validate/validate.proto"],
    )
    line = file.message_type.add(name="Line")
    line.field.add(name="sku", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    line.field[0].options.Extensions[validate_pb2.field].string.max_len = 8

    request = file.message_type.add(name="EchoRequest")
    request.field.add(name="text", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    request.field[0].options.Extensions[validate_pb2.field].string.max_len = 8
    request.field.add(name="number", number=2, type=F.TYPE_INT32, label=F.LABEL_OPTIONAL)
    request.field[1].options.Extensions[validate_pb2.field].int32.gte = 0
    _repeated(request, "lines", 3, "Line")
    _repeated(request, "named", 4, "EchoRequest.NamedEntry")
    _entry(request, "NamedEntry", F.TYPE_STRING)
    _repeated(request, "numbered", 5, "EchoRequest.NumberedEntry")
    _entry(request, "NumberedEntry", F.TYPE_INT32)

    reply = file.message_type.add(name="EchoReply")
    reply.field.add(name="text", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    reply.field.add(name="number", number=2, type=F.TYPE_INT32, label=F.LABEL_OPTIONAL)

    service = file.service.add(name="EchoService")
    for name, client_streaming, server_streaming, level in _RPCS:
        rpc = service.method.add(
            name=name,
            input_type=f".{PACKAGE}.EchoRequest",
            output_type=f".{PACKAGE}.EchoReply",
            client_streaming=client_streaming,
            server_streaming=server_streaming,
        )
        rpc.options.idempotency_level = level
    return file


def _repeated(message: DescriptorProto, name: str, number: int, of: str) -> None:
    message.field.add(
        name=name,
        number=number,
        type=F.TYPE_MESSAGE,
        label=F.LABEL_REPEATED,
        type_name=f".{PACKAGE}.{of}",
    )


def _entry(message: DescriptorProto, name: str, key: F.Type.ValueType) -> None:
    entry = message.nested_type.add(name=name)
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=key, label=F.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        type=F.TYPE_MESSAGE,
        label=F.LABEL_OPTIONAL,
        type_name=f".{PACKAGE}.Line",
    )


_POOL = descriptor_pool.Default()
_POOL.AddSerializedFile(_file().SerializeToString())

DESCRIPTOR: ServiceDescriptor = _POOL.FindServiceByName(SERVICE)
Line: Any = GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.Line"))
EchoRequest: Any = GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.EchoRequest"))
EchoReply: Any = GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.EchoReply"))

READ, PUT, ADD, COUNT, POUR, SUM, CHAT = (
    Method.of(DESCRIPTOR.methods_by_name[name]) for name, *_ in _RPCS
)
METHODS = (READ, PUT, ADD, COUNT, POUR, SUM, CHAT)


class EchoStub:
    """What protoc would generate."""

    def __init__(self, channel: Any) -> None:
        self.Read = _remote(channel, READ)
        self.Put = _remote(channel, PUT)
        self.Add = _remote(channel, ADD)
        self.Count = _remote(channel, COUNT)
        self.Pour = _remote(channel, POUR)
        self.Sum = _remote(channel, SUM)
        self.Chat = _remote(channel, CHAT)


def _remote(channel: Any, method: Method) -> Any:
    return getattr(channel, method.kind.name.lower())(
        method.path,
        request_serializer=EchoRequest.SerializeToString,
        response_deserializer=EchoReply.FromString,
    )


def call_of(method: Method = READ, deadline: float = float("inf"), **facts: Any) -> Call:
    """Return a call of *method* as a stub would make it."""
    return Call(method, facts.pop("request", EchoRequest()), deadline, **facts)


async def requests_of(*messages: Any) -> AsyncIterator[Any]:
    """Yield *messages*, or one empty request."""
    for message in messages or (EchoRequest(),):
        yield message


class Echo:
    """The service. It answers with what it got; `on_unary` and `on_stream` may replace that.

    `served` holds the calls it saw, in order.
    """

    def __init__(self) -> None:
        self.served: list[Call] = []
        self.on_unary: Callable[[Call], Awaitable[Any]] | None = None
        self.on_stream: StreamHandler | None = None

    async def unary(self, call: Call) -> Any:
        self.served.append(call)
        if self.on_unary:
            return await self.on_unary(call)
        request: Any = call.request
        return EchoReply(text=request.text, number=request.number)

    async def stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self.served.append(call)
        if self.on_stream:
            replies = self.on_stream(call, requests)
        elif call.method is SUM:
            replies = self._sum(requests)
        elif call.method is CHAT:
            replies = self._chat(requests)
        else:
            request: Any = call.request
            replies = self._count(request.number)
        async for reply in replies:
            yield reply

    async def _sum(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        yield EchoReply(number=sum([request.number async for request in requests]))

    async def _chat(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            yield EchoReply(text=request.text)

    async def _count(self, number: int) -> AsyncIterator[Any]:
        for n in range(number):
            yield EchoReply(number=n)

    def routes(
        self,
        around: Callable[[UnaryHandler], UnaryHandler] = lambda handler: handler,
        around_stream: Callable[[StreamHandler], StreamHandler] = lambda handler: handler,
    ) -> dict[str, Route]:
        """Return its routes, each handler wrapped."""
        return {
            method.path: Route(method, unary=around(self.unary))
            if method.kind is Kind.UNARY_UNARY
            else Route(method, stream=around_stream(self.stream))
            for method in METHODS
        }


def stock_channel(port: int, *interceptors: Any) -> grpc.aio.Channel:
    """Return a channel as it comes with gRPC."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=list(interceptors))
