"""The greeter, for stock sync servers and for stock aio ones."""

from __future__ import annotations

from typing import Any

from grpc import StatusCode

from examples.helloworld.helloworld_pb2 import HelloReply, HelloRequest
from examples.helloworld.helloworld_pb2_grpc import GreeterServicer, GreeterStub
from examples.troubles import fails


class Greeter(GreeterServicer):
    """Greets, or has somebody else greet: *other* is a channel to another greeter."""

    def __init__(self, other: Any = None) -> None:
        self._other = GreeterStub(other) if other else None

    def SayHello(self, request: HelloRequest, context: Any) -> HelloReply:  # noqa: N802
        """Greet by name."""
        if fails():
            context.abort(StatusCode.UNAVAILABLE, "not yet")
        if self._other:
            return HelloReply(message=self._other.SayHello(request).message + " I was told to say.")
        return HelloReply(message=f"Hello, {request.name}!")


class AioGreeter(GreeterServicer):
    """The same in coroutines."""

    def __init__(self, other: Any = None) -> None:
        self._other: Any = GreeterStub(other) if other else None

    async def SayHello(self, request: HelloRequest, context: Any) -> HelloReply:  # noqa: N802
        """Greet by name."""
        if fails():
            await context.abort(StatusCode.UNAVAILABLE, "not yet")
        if self._other:
            reply = await self._other.SayHello(request)
            return HelloReply(message=f"{reply.message} I was told to say.")
        return HelloReply(message=f"Hello, {request.name}!")
