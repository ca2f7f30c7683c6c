"""The client stack on stock sync channels: the same layers, driven in the caller's thread.

gRPC asks for a class of its own for each kind of RPC, as it does for `grpc.aio`. Callers keep what
they had: stock stubs, ``with_call``, ``future``, iterators, and `grpc.RpcError`s, whose
`__cause__` is the `mesh.errors.MeshError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc
from grpc import StatusCode

from ..call import NEVER, Call, Handler, StreamHandler
from ..layers.streams import Reading, only
from ..runtime.driven import blocking, iterate
from ..scope import scope
from ..status import from_rpc_error
from .grpc_sync_attempts import Attempts, Wait
from .grpc_sync_calls import RepliesCall, ReplyCall
from .port import LayersAt, answered, outgoing_with, remaining_s, stacked

Now = Callable[[], float]


def sync_client_interceptors(layers_at: LayersAt, now: Now) -> list[Any]:
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
        """Send, and wait for the reply."""
        return await self._reply(call, call.request)

    async def stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Send, and yield the replies as they are asked for; leaving them cancels the call."""
        client_streams, server_streams = call.method.kind.value
        request = iterate(requests) if client_streams else call.request
        if not server_streams:
            yield await self._reply(call, request)
            return
        rpc = self._start(call, request)
        try:
            await Wait(rpc)  # the call is under way, and nobody has asked for a reply yet
            noted = False
            for reply in rpc:
                if not noted:
                    _note(rpc)
                    noted = True
                yield reply
        except grpc.RpcError as error:
            raise _meaning(call, error) from error
        finally:
            rpc.cancel()  # nothing, if it has ended

    async def _reply(self, call: Call, request: Any) -> Any:
        rpc = self._start(call, request)
        try:
            if not call.carrier.blocks:
                await Wait(rpc)
            reply = call.carrier.reply = rpc.result()
            _note(rpc)
            return reply
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            raise _meaning(call, error) from error

    def _start(self, call: Call, request: Any) -> Any:
        attempts: Attempts = call.carrier
        details = attempts.details
        changed = details._replace(
            timeout=remaining_s(call, self._now()),
            metadata=outgoing_with(call, details.metadata or ()),
        )
        return attempts.start(changed, request)


def _note(rpc: Any) -> None:
    """Note what an answer says of itself, if something is to be made of it."""
    if scope.get().degraded is not None:
        answered(rpc.initial_metadata() or ())


def _meaning(call: Call, error: Any) -> BaseException:
    if isinstance(error, grpc.FutureCancelledError):
        return asyncio.CancelledError()
    if call.carrier.cancelled and error.code() is StatusCode.CANCELLED:
        return asyncio.CancelledError()
    return from_rpc_error(error)


class _Interceptor:
    """What the four have in common: from gRPC's arguments to a call."""

    def __init__(self, handler_at: Any, now: Now) -> None:
        self._handler_at = handler_at
        self._now = now

    def _call(self, continuation: Any, details: Any, request: Any = None) -> tuple[Any, Call]:
        """Return the call, and what it is to be given to."""
        method, handler = self._handler_at(details.method)
        return handler, Call(
            method=method,
            request=method.request_type() if request is None else request,
            deadline=NEVER if details.timeout is None else self._now() + details.timeout,
            metadata={k: v for k, v in details.metadata or () if isinstance(v, str)},
            carrier=Attempts(continuation, details),
        )

    async def _reply(self, handler: Handler, call: Call) -> Any:
        return await handler(call)

    async def _replies(
        self, handler: StreamHandler, call: Call, requests: Iterable[Any]
    ) -> AsyncIterator[Any]:
        async with Reading(handler(call, blocking(requests))) as replies:
            async for reply in replies:
                yield reply


class _UnaryUnary(_Interceptor, grpc.UnaryUnaryClientInterceptor):
    def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        handler, call = self._call(continuation, client_call_details, request)
        return ReplyCall(self._reply(handler, call), call.carrier)


class _UnaryStream(_Interceptor, grpc.UnaryStreamClientInterceptor):
    def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        handler, call = self._call(continuation, client_call_details, request)
        return RepliesCall(self._replies(handler, call, ()), call.carrier)


class _StreamUnary(_Interceptor, grpc.StreamUnaryClientInterceptor):
    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        handler, call = self._call(continuation, client_call_details)
        return ReplyCall(only(self._replies(handler, call, request_iterator)), call.carrier)


class _StreamStream(_Interceptor, grpc.StreamStreamClientInterceptor):
    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        handler, call = self._call(continuation, client_call_details)
        return RepliesCall(self._replies(handler, call, request_iterator), call.carrier)
