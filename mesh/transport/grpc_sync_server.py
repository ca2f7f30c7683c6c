"""The server stack on stock sync servers: the same layers, driven in the servicer's thread."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, NoReturn

import grpc
from grpc import StatusCode

from ..call import Call, Layer, Method, stack, stack_stream
from ..errors import MeshError
from ..layers.streams import Reading, only
from ..runtime.clock import Runtime
from ..runtime.driven import blocking, drive, iterate
from .grpc_servicers import (
    Behaviour,
    Handlers,
    Said,
    Served,
    arrived,
    check,
    meant,
    trailing,
    with_behaviour,
)
from .port import LayersOf, answering


class SyncServerInterceptor(grpc.ServerInterceptor):
    """Puts layers around every method that a sync server serves."""

    def __init__(self, layers_of: LayersOf, runtime: Runtime) -> None:
        self._layers_of = layers_of
        self._runtime = runtime
        self._handlers = Handlers(self.around)

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler that the server has, with the layers around it."""
        return self._handlers.of(continuation(handler_call_details), handler_call_details.method)

    def around(self, handler: Any, method: Method, behaviour: Behaviour) -> Any:
        """Return *handler* with the layers around its *behaviour*."""
        layered = _Layered(method, self._layers_of(method), self._runtime)
        wrapped = layered.replies if method.server_streams else layered.reply

        @functools.wraps(behaviour)  # its thread pool, if it has one of its own, is an attribute
        def served(request: Any, context: Any) -> Any:
            return wrapped(request, Served(behaviour, TellingContext(context)))

        return with_behaviour(handler, method, served)


class _Layered:
    """The layers around one method, for servicers in threads."""

    def __init__(self, method: Method, layers: Sequence[Layer], runtime: Runtime) -> None:
        self._method = method
        self._unary = stack(*layers, around=_unary)
        self._stream = stack_stream(*layers, around=_stream)
        self._runtime = runtime

    def reply(self, request: Any, served: Served) -> Any:
        """Serve a request, or many, with one reply."""

        def run() -> Any:
            if self._method.client_streams:
                reply = drive(only(self._given(request, served)))
            else:
                reply = drive(self._unary(arrived(self._method, request, served, self._runtime)))
            _mark(served.context)
            return reply

        with _Ending(served.context) as ending:
            return contextvars.copy_context().run(run)
        return ending.reply

    def replies(self, request: Any, served: Served) -> Iterator[Any]:
        """Serve a request, or many, with many replies."""
        context = contextvars.copy_context()  # gRPC may take each reply in another one
        with _Ending(served.context):
            replies = iterate(context.run(self._given, request, served))
            marked = False
            try:
                while (reply := context.run(next, replies, _END)) is not _END:
                    if not marked:  # before the first one
                        context.run(_mark, served.context)
                        marked = True
                    yield reply
            finally:
                context.run(replies.close)  # type: ignore[attr-defined]  # it is a generator

    def _given(self, request: Any, served: Served) -> AsyncIterator[Any]:
        method = self._method
        many = blocking(request if method.client_streams else ())
        first = method.request_type() if method.client_streams else request
        return self._stream(arrived(method, first, served, self._runtime), many)


_END = object()


def _mark(context: TellingContext) -> None:
    """Say of the answer what is to be said, unless the servicer has begun to answer by itself."""
    if said := answering():
        with contextlib.suppress(ValueError):
            context.send_initial_metadata(said)


class TellingContext:
    """A servicer's context that can tell what the servicer told gRPC."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._code: Any = None
        self._details: Any = ""
        self._trailing: tuple[Any, ...] = ()
        self.aborted = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def abort(self, code: Any, details: str = "", *trailing_metadata: Any) -> NoReturn:
        """End the call, and raise."""
        # gRPC makes UNKNOWN of an abort that says OK.
        self._code = StatusCode.UNKNOWN if code is StatusCode.OK else code
        self._details, self.aborted = details, True
        self._context.abort(code, details, *trailing_metadata)
        raise AssertionError("abort always raises")

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call, and raise."""
        self.set_trailing_metadata(status.trailing_metadata or ())
        self.abort(status.code, status.details)

    def set_code(self, code: Any) -> None:
        """Set the status with which the call will end."""
        self._code = code
        self._context.set_code(code)

    def code(self) -> Any:
        """Return the status that was set."""
        return self._code

    def set_details(self, details: str) -> None:
        """Set what is said of that status."""
        self._details = details
        self._context.set_details(details)

    def details(self) -> Any:
        """Return what was set."""
        return self._details

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Set what is sent with the status."""
        self._trailing = tuple(trailing_metadata)
        self._context.set_trailing_metadata(self._trailing)

    def trailing_metadata(self) -> tuple[Any, ...]:
        """Return what was set."""
        return self._trailing

    def left(self) -> bool:
        """Whether the caller is gone: it cancelled the call, or its deadline is over."""
        active = getattr(self._context, "is_active", None)
        return active is not None and not active()


class _Ending:
    """Ends a call with what its layers raise, unless the servicer has said it by itself."""

    def __init__(self, context: TellingContext) -> None:
        self._context = context
        self.reply: Any = None

    def __enter__(self) -> _Ending:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        context = self._context
        if isinstance(error, asyncio.CancelledError):
            context.abort(StatusCode.CANCELLED, "")
        if not isinstance(error, MeshError):
            return False
        if isinstance(error, Said):
            if error.raised is not None:
                raise error.raised
            if error.__cause__ is None:
                self.reply = error.reply
                return True
        context.set_trailing_metadata(trailing(context, error))
        return context.abort(error.status, error.message)


async def _unary(call: Call) -> Any:
    """Call the servicer: the end of the stack."""
    behaviour, context = call.carrier
    try:
        reply = behaviour(call.request, context)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # it gets a meaning
        _fail(context, error)
    _check(context, reply)
    return reply


async def _stream(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The same where somebody streams."""
    behaviour, context = call.carrier
    request = iterate(requests) if call.method.client_streams else call.request
    try:
        reply = behaviour(request, context)
        if call.method.server_streams:
            async with Reading(blocking(reply)) as replies:
                async for reply in replies:
                    yield reply
            reply = None
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # likewise
        _fail(context, error)
    _check(context, reply)
    if not call.method.server_streams:
        yield reply


def _fail(context: TellingContext, error: Exception | asyncio.CancelledError) -> NoReturn:
    if context.left():
        raise asyncio.CancelledError from error
    if isinstance(error, asyncio.CancelledError):
        why = "the servicer raised CancelledError, and nobody had cancelled the call"
        raise RuntimeError(why) from error  # noqa: TRY004
    seen = meant(context, error, aborted=context.aborted)
    if seen is error:
        raise error
    raise seen from error


def _check(context: TellingContext, reply: Any) -> None:
    """What a servicer returns to nobody is no success."""
    if context.left():
        raise asyncio.CancelledError
    check(context, reply)
