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

from ..call import Call, Door, Layer, Method, door, stack, stack_stream
from ..errors import MeshError
from ..layers.streams import Reading, nothing, only
from ..runtime.clock import Runtime
from .grpc_server import refusing
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
from .port import LayersOf, answering


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Puts layers around every method that a server of `grpc.aio` serves."""

    def __init__(self, layers_of: LayersOf, runtime: Runtime) -> None:
        self._layers_of = layers_of
        self._runtime = runtime
        self._handlers = Handlers(self._around)
        self._doors: dict[str, Door | None] = {}
        self._threaded = SyncServerInterceptor(layers_of, runtime)

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler that the server has, with the layers around it."""
        path = handler_call_details.method
        handler = self._handlers.of(await continuation(handler_call_details), path)
        asked = self._doors.get(path)
        refusal = asked and asked(handler_call_details.invocation_metadata)
        return refusing(refusal) if refusal else handler

    def _around(self, handler: Any, method: Method, behaviour: Behaviour) -> Any:
        layers = self._layers_of(method)
        self._doors[method.path] = door(layers, method)
        if not is_async(behaviour):
            return self._threaded.around(handler, method, behaviour)
        layered = _Layered(method, behaviour, layers, self._runtime)
        if method.server_streams:
            return with_behaviour(handler, method, layered.replies)
        return with_behaviour(
            handler, method, layered.only if method.client_streams else layered.reply
        )


class _Layered:
    """A servicer's function for one method, with layers around it."""

    def __init__(
        self, method: Method, behaviour: Behaviour, layers: Sequence[Layer], runtime: Runtime
    ) -> None:
        self._method = method
        self._behaviour = behaviour
        self._unary = stack(*layers, around=_unary)
        self._stream = stack_stream(*layers, around=_stream)
        self._runtime = runtime

    async def reply(self, request: Any, context: Any) -> Any:
        """Serve one request with one reply."""
        try:
            reply = await self._unary(self._arrived(request, context))
            await _mark(context)
            return reply
        except MeshError as error:
            return await _end(context, error)

    async def only(self, requests: Any, context: Any) -> Any:
        """Serve many requests with one reply."""
        try:
            reply = await only(self._given(requests, context))
            await _mark(context)
            return reply
        except MeshError as error:
            return await _end(context, error)

    async def replies(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Serve a request, or many, with many replies."""
        try:
            async with Reading(self._given(request, context)) as given:
                marked = False
                async for reply in given:
                    if not marked:  # before the first one
                        await _mark(context)
                        marked = True
                    yield reply
        except MeshError as error:
            await _end(context, error)

    def _arrived(self, request: Any, context: Any) -> Call:
        return arrived(self._method, request, Served(self._behaviour, context), self._runtime)

    def _given(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if self._method.client_streams:
            return self._stream(self._arrived(self._method.request_type(), context), request)
        return self._stream(self._arrived(request, context), nothing())


class _Context:
    """A servicer's context from which it reads what the layers have let through."""

    def __init__(self, context: Any, requests: AsyncIterator[Any]) -> None:
        self._context = context
        self._requests = requests

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        """Return the next request, `grpc.aio.EOF` after the last."""
        return await anext(self._requests, grpc.aio.EOF)


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
    given: tuple[Any, Any] = call.request, context
    if call.method.client_streams:
        given = requests, _Context(context, requests)
    try:
        if inspect.isasyncgenfunction(behaviour):
            async with Reading(behaviour(*given)) as replies:
                async for reply in replies:
                    yield reply
        else:
            reply = await behaviour(*given)
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
