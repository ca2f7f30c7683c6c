"""Serve routes over gRPC: the one file in which a server meets grpc.aio."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from typing import Any, NoReturn

import grpc

from ..call import Call, Door
from ..errors import MeshError
from ..layers.streams import Reading, nothing, only
from ..metadata import PUSHBACK, STATUS_DETAILS
from ..runtime.clock import Runtime
from ..status import to_status
from .port import Route, Routes, answering, incoming
from .wire import WireConfig

#: The longest wait that its header can say, in seconds: 2**31 - 1 milliseconds.
PUSHBACK_MAX_S = 2_147_483.0


#: What is taken from the wire unless something else is said.
NORMAL = WireConfig()


class PortInUseError(OSError):
    """Somebody else listens on the address."""


class GrpcServer:
    """A grpc.aio server for *routes*; counts the handlers under way, so that it can drain."""

    def __init__(self, runtime: Runtime, wire: WireConfig = NORMAL) -> None:
        self._runtime = runtime
        self._server = grpc.aio.server(options=wire.options)
        self._under_way = 0
        self._idle = asyncio.Event()

    @property
    def server(self) -> grpc.aio.Server:
        """For gRPC's own services (health, reflection)."""
        return self._server

    def add(self, routes: Routes) -> None:
        """Serve *routes*."""
        self._server.add_generic_rpc_handlers(
            (_Rpcs({path: (self._rpc(route), route.door) for path, route in routes.items()}),)
        )

    async def start(self, address: str) -> int:
        """Listen on *address* (``host:port``) and return the port.

        Raises:
            PortInUseError: it is taken.
        """
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise PortInUseError(f"cannot listen on {address}: {error}") from None
        await self._server.start()
        return port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, wait *grace_s* seconds for those under way, then cancel them.

        gRPC's `stop` does not wait for the handlers' ``finally``; this does.
        """
        await self._server.stop(grace_s)
        self._idle.clear()
        if self._under_way:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), grace_s)

    def _rpc(self, route: Route) -> grpc.RpcMethodHandler[Any, Any]:
        client_streams, server_streams = route.method.kind.value
        make = getattr(grpc, f"{route.method.kind.name.lower()}_rpc_method_handler")
        handler: grpc.RpcMethodHandler[Any, Any] = make(
            self._many(route) if client_streams or server_streams else self._one(route),
            request_deserializer=route.method.request_type.FromString,
            response_serializer=route.method.reply_type.SerializeToString,
        )
        return handler

    def _call(self, route: Route, request: Any, context: Any) -> Call:
        metadata = {k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)}
        remaining = context.time_remaining()
        return incoming(route.method, request, metadata, remaining, self._runtime)

    def _one(self, route: Route) -> Callable[..., Any]:
        handle = route.unary
        assert handle is not None

        async def behaviour(request: Any, context: Any) -> Any:
            self._under_way += 1
            try:
                reply = await handle(self._call(route, request, context))
                if said := answering():
                    await context.send_initial_metadata(said)
                return reply
            except MeshError as error:
                await _abort(context, error)
            finally:
                self._ended()

        return behaviour

    def _many(self, route: Route) -> Callable[..., Any]:
        """Behaviours of the kinds in which somebody streams."""
        client_streams, server_streams = route.method.kind.value
        empty = route.method.request_type()

        async def replies(request: Any, context: Any) -> AsyncIterator[Any]:
            assert route.stream is not None
            first, rest = (empty, request) if client_streams else (request, nothing())
            self._under_way += 1
            try:
                call = self._call(route, first, context)
                async with Reading(route.stream(call, rest)) as given:
                    said: tuple[tuple[str, str], ...] | None = None
                    async for reply in given:
                        if said is None and (said := answering()):  # once, before the first
                            await context.send_initial_metadata(said)
                        yield reply
            except MeshError as error:
                await _abort(context, error)
            finally:
                self._ended()

        async def reply(request: Any, context: Any) -> Any:
            try:
                return await only(replies(request, context))
            except MeshError as error:
                await _abort(context, error)

        return replies if server_streams else reply

    def _ended(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()


class _Rpcs(grpc.GenericRpcHandler):
    """What is served, by path, and who says whether it is now."""

    def __init__(
        self, rpcs: Mapping[str, tuple[grpc.RpcMethodHandler[Any, Any], Door | None]]
    ) -> None:
        self._rpcs = rpcs

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return what answers a call, of which only the metadata has been read."""
        found = self._rpcs.get(handler_call_details.method)
        if found is None:
            return None
        rpc, door = found
        refusal = door and door(handler_call_details.invocation_metadata)
        return refusing(refusal) if refusal else rpc


@lru_cache(maxsize=64)
def refusing(error: MeshError) -> grpc.RpcMethodHandler[Any, Any]:
    """Return what answers with *error*, and reads nothing."""
    status, message, trailing = error.status, error.message, _trailing(error)

    async def refuse(_: Any, context: Any) -> None:
        await context.abort(status, message, trailing)

    return grpc.stream_stream_rpc_method_handler(refuse)


async def _abort(context: Any, error: MeshError) -> NoReturn:
    await context.abort(error.status, error.message, _trailing(error))
    raise AssertionError("abort always raises") from error


def _trailing(error: MeshError) -> tuple[tuple[str, str | bytes], ...]:
    details = to_status(error).SerializeToString()
    return ((STATUS_DETAILS, details), *pushback(error.retry_after_s))


def pushback(wait_s: float | None) -> tuple[tuple[str, str], ...]:
    """Return when to try again, for clients that know nothing of our details."""
    if wait_s is None or math.isnan(wait_s):
        return ()
    milliseconds = -1 if wait_s < 0.0 else math.ceil(min(wait_s, PUSHBACK_MAX_S) * 1e3)
    return ((PUSHBACK, str(milliseconds)),)
