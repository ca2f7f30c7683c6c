"""The client stack on stock `grpc.aio` channels, by interceptors.

gRPC asks for a class of its own for each kind of RPC (one object that implements all four is
registered as unary-unary only). Callers keep what they had: stock stubs, stock calls, and
`grpc.aio.AioRpcError`s, whose `__cause__` is the `mesh.errors.MeshError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from ..call import NEVER, Call, StreamHandler
from ..errors import MeshError
from ..layers.streams import Reading, nothing, only
from ..metadata import STATUS_DETAILS
from ..status import from_rpc_error, to_status
from .grpc_calls import Attempts, ReplyCall, StreamCall
from .grpc_client import note_answer
from .port import LayersAt, outgoing_with, remaining_s, stacked

Now = Callable[[], float]


def client_interceptors(layers_at: LayersAt, now: Now) -> list[grpc.aio.ClientInterceptor]:
    """Return the four interceptors that put layers around every call of a channel.

    *layers_at* is asked once for each path: for its method and the layers around its calls.
    """
    end = _Continue(now)
    unary, stream = stacked(layers_at, end.unary, end.stream)
    return [
        _UnaryUnary(unary, now),
        _UnaryStream(stream, now),
        _StreamUnary(stream, now),
        _StreamStream(stream, now),
    ]


class _Continue:
    """The end of the stack: go on as the channel would have."""

    def __init__(self, now: Now) -> None:
        self._now = now

    async def unary(self, call: Call) -> Any:
        rpc = await self._start(call, call.request)
        try:
            reply = await rpc
            call.carrier.answered(rpc, reply)
            await note_answer(rpc)
            return reply
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        except asyncio.CancelledError:
            rpc.cancel()
            raise

    async def stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        client_streams, server_streams = call.method.kind.value
        rpc = await self._start(call, requests if client_streams else call.request)
        try:
            if server_streams:
                noted = False
                async for reply in rpc:
                    if not noted:
                        await note_answer(rpc)
                        noted = True
                    yield reply
            else:
                reply = await rpc
                await note_answer(rpc)
                yield reply
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            rpc.cancel()  # nothing, if it has ended

    async def _start(self, call: Call, request: Any) -> Any:
        attempts: Attempts = call.carrier
        details = attempts.details
        changed = details._replace(
            timeout=remaining_s(call, self._now()),
            metadata=grpc.aio.Metadata(*outgoing_with(call, details.metadata or ())),
        )
        return await attempts.start(changed, request)


class _Interceptor:
    """What the four have in common: from gRPC's arguments to a call."""

    def __init__(self, handler_at: Any, now: Now) -> None:
        self._handler_at = handler_at
        self._now = now

    def _call(self, continuation: Any, details: Any, request: Any = None) -> tuple[Any, Call]:
        """Return the call, and what it is to be given to."""
        path = details.method.decode() if isinstance(details.method, bytes) else details.method
        method, handler = self._handler_at(path)
        timeout = details.timeout
        return handler, Call(
            method=method,
            request=method.request_type() if request is None else request,
            deadline=NEVER if timeout is None else self._now() + timeout,
            metadata={k: v for k, v in details.metadata or () if isinstance(v, str)},
            carrier=Attempts(continuation, details),
        )

    async def _replies(
        self, handler: StreamHandler, call: Call, requests: AsyncIterator[Any]
    ) -> AsyncIterator[Any]:
        try:
            async with Reading(handler(call, requests)) as replies:
                async for reply in replies:
                    yield reply
        except MeshError as error:
            raise _stock_error(error) from error

    async def _reply(self, handler: StreamHandler, call: Call, requests: AsyncIterator[Any]) -> Any:
        try:
            return await only(handler(call, requests))
        except MeshError as error:
            raise _stock_error(error) from error


class _UnaryUnary(_Interceptor, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        handler, call = self._call(continuation, client_call_details, request)
        try:
            return call.carrier.call_of(await handler(call))
        except MeshError as error:
            raise _stock_error(error) from error


class _UnaryStream(_Interceptor, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        handler, call = self._call(continuation, client_call_details, request)
        return StreamCall(self._replies(handler, call, nothing()), call.carrier)


class _StreamUnary(_Interceptor, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        handler, call = self._call(continuation, client_call_details)
        return ReplyCall(self._reply(handler, call, request_iterator), call.carrier)


class _StreamStream(_Interceptor, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        handler, call = self._call(continuation, client_call_details)
        return StreamCall(self._replies(handler, call, request_iterator), call.carrier)


def _stock_error(error: MeshError) -> grpc.aio.AioRpcError:
    """Return *error* as callers of stock stubs expect it."""
    stock = error.__cause__
    if isinstance(stock, grpc.aio.AioRpcError):
        error.__cause__ = None  # it is about to become the cause of its own cause
        return stock
    return grpc.aio.AioRpcError(
        error.status,
        grpc.aio.Metadata(),
        grpc.aio.Metadata((STATUS_DETAILS, to_status(error).SerializeToString())),
        details=str(error),
    )
