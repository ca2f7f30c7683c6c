"""The server stack on stock `grpc.aio` servers, by one interceptor.

Servicers keep what they had: their contexts, generators or ``write``, ``abort``, ``set_code``.
Those that are no coroutines, which gRPC gives a thread, have the same layers there.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any, NoReturn

import grpc

from ..call import Call, Layer, Method, stack, stack_stream
from ..errors import MeshError
from ..layers.streams import Reading, nothing, only
from ..runtime.clock import Runtime
from .grpc_servicers import (
    Behaviour,
    Handlers,
    Said,
    Served,
    arrived,
    check,
    is_async,
    meant,
    trailing,
    with_behaviour,
)
from .grpc_sync_server import SyncServerInterceptor
from .port import answering


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Puts *layers* around every method that a server of `grpc.aio` serves."""

    def __init__(self, layers: Sequence[Layer], runtime: Runtime) -> None:
        self._unary = stack(*layers, around=_unary)
        self._stream = stack_stream(*layers, around=_stream)
        self._runtime = runtime
        self._handlers = Handlers(self._around)
        self._threaded = SyncServerInterceptor(layers, runtime)

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler that the server has, with the layers around it."""
        handler = await continuation(handler_call_details)
        return self._handlers.of(handler, handler_call_details.method)

    def _around(self, handler: Any, method: Method, behaviour: Behaviour) -> Any:
        if not is_async(behaviour):
            return self._threaded.around(handler, method, behaviour)
        wrapped = self._reply
        if method.server_streams:
            wrapped = self._replies
        elif method.client_streams:
            wrapped = self._only
        return with_behaviour(handler, method, wrapped(method, behaviour))

    def _reply(self, method: Method, behaviour: Behaviour) -> Behaviour:
        async def reply(request: Any, context: Any) -> Any:
            call = arrived(method, request, Served(behaviour, context), self._runtime)
            try:
                reply = await self._unary(call)
                await _mark(context)
                return reply
            except MeshError as error:
                return await _end(context, error)

        return reply

    def _given(
        self, method: Method, behaviour: Behaviour, request: Any, context: Any
    ) -> AsyncIterator[Any]:
        first, rest = (
            (method.request_type(), request) if method.client_streams else (request, nothing())
        )
        call = arrived(method, first, Served(behaviour, context), self._runtime)
        return self._stream(call, rest)

    def _only(self, method: Method, behaviour: Behaviour) -> Behaviour:
        async def reply(requests: Any, context: Any) -> Any:
            try:
                reply = await only(self._given(method, behaviour, requests, context))
                await _mark(context)
                return reply
            except MeshError as error:
                return await _end(context, error)

        return reply

    def _replies(self, method: Method, behaviour: Behaviour) -> Behaviour:
        async def replies(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                async with Reading(self._given(method, behaviour, request, context)) as given:
                    marked = False
                    async for reply in given:
                        if not marked:  # before the first one
                            await _mark(context)
                            marked = True
                        yield reply
            except MeshError as error:
                await _end(context, error)

        return replies


async def _unary(call: Call) -> Any:
    """Call the servicer: the end of the stack."""
    behaviour, context = call.carrier
    try:
        reply = await behaviour(call.request, context)
    except Exception as error:  # noqa: BLE001  # whatever it is, it gets a meaning
        _fail(context, error)
    check(context, reply)
    return reply


async def _stream(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The same where somebody streams; replies that the servicer writes go by the layers."""
    behaviour, context = call.carrier
    request = requests if call.method.client_streams else call.request
    try:
        if inspect.isasyncgenfunction(behaviour):
            async with Reading(behaviour(request, context)) as replies:
                async for reply in replies:
                    yield reply
        else:
            reply = await behaviour(request, context)
            if not call.method.server_streams:
                yield reply
    except Exception as error:  # noqa: BLE001  # likewise
        _fail(context, error)
    check(context)


def _fail(context: Any, error: Exception) -> NoReturn:
    seen = meant(context, error, aborted=isinstance(error, grpc.aio.AbortError))
    if seen is error:
        raise error
    raise seen from error


async def _mark(context: Any) -> None:
    """Say of the answer what is to be said, unless the servicer has begun to answer by itself."""
    if said := answering():
        with contextlib.suppress(grpc.aio.UsageError):
            await context.send_initial_metadata(said)


async def _end(context: Any, error: MeshError) -> Any:
    """End the call with *error*, unless the servicer has said it by itself."""
    if isinstance(error, Said):
        if error.raised is not None:
            raise error.raised
        if error.__cause__ is None:
            return error.reply
    await context.abort(error.status, error.message, trailing(context, error))
    raise AssertionError("abort always raises") from error
