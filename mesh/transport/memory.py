"""The transport port in memory: calls between services of one process, without sockets.

Messages and errors are serialised and parsed as on the wire, and each call is served in a task
and a context of its own, so nothing passes that gRPC would not let pass.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from ..call import Call
from ..discovery import Reach
from ..errors import DeadlineExceeded, MeshError, Unavailable
from ..layers.streams import Reading, Requests
from ..runtime.cancelling import is_stopped
from ..runtime.clock import Runtime
from ..runtime.logs import log
from ..status import from_status, to_status
from .port import Route, Routes, answered, answering, incoming, outgoing, remaining_s


class MemoryNetwork:
    """Addresses and who serves there. One instance is one network; it is also its transport."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._routes: dict[str, Routes] = {}

    def serve(self, address: str, routes: Routes) -> None:
        """Let *routes* answer at *address*."""
        self._routes[address] = routes

    def stop(self, address: str) -> None:
        """Nobody answers at *address* any more."""
        self._routes.pop(address, None)

    async def unary(self, call: Call) -> Any:
        """Serve *call* in a task of its own, until its deadline."""
        route = self._route(call)
        assert route.unary is not None
        step = functools.partial(route.unary, self._arrive(route, call))
        return await self._serve(call, step, self._server_context(call))

    async def stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Serve *call* step by step, as the reader asks; leaving the stream ends its handler."""
        route = self._route(call)
        assert route.stream is not None
        context = self._server_context(call)
        async with Requests(requests) as given:
            arriving = _arriving(route.method.request_type, given)
            replies = context.run(route.stream, self._arrive(route, call), arriving)
            following = functools.partial(_next, replies)
            try:
                while (reply := await self._serve(call, following, context)) is not None:
                    yield reply
            finally:
                await asyncio.get_running_loop().create_task(_leave(replies), context=context)

    def reach(self, address: str) -> Reach:
        """Nothing is known before a call is made."""
        return Reach.READY

    def forget(self, address: str) -> None:
        """Nothing is kept of an address."""

    async def close(self) -> None:
        """Nothing to close."""

    def _route(self, call: Call) -> Route:
        routes = self._routes.get(call.address)
        if routes is None:
            raise Unavailable(f"nobody answers at {call.address!r}")
        if call.method.path not in routes:
            raise MeshError(
                f"{call.method.full_name} is not served at {call.address!r}",
                status=StatusCode.UNIMPLEMENTED,
                reason=StatusCode.UNIMPLEMENTED.name,
            )
        return routes[call.method.path]

    def _server_context(self, call: Call) -> contextvars.Context:
        return contextvars.Context()

    def _remaining_s(self, call: Call) -> float | None:
        return remaining_s(call, self._runtime.clock.monotonic())

    def _arrive(self, route: Route, call: Call) -> Call:
        return incoming(
            route.method,
            route.method.request_type.FromString(call.request.SerializeToString()),
            dict(outgoing(call)),
            self._remaining_s(call),
            self._runtime,
        )

    async def _serve(
        self, call: Call, step: Callable[[], Awaitable[Any]], context: contextvars.Context
    ) -> Any:
        """Let the server take *step*, until the deadline; return its reply, None at the end."""
        task = asyncio.get_running_loop().create_task(answer(step), context=context)
        try:
            said = await asyncio.wait_for(task, self._remaining_s(call))
        except TimeoutError:
            raise DeadlineExceeded(f"no reply of {call.method.full_name} in time") from None
        if isinstance(said, Status):
            raise from_status(said)
        answered(context.run(answering))
        return None if said is None else call.method.reply_type.FromString(said)


async def answer(step: Callable[[], Awaitable[Any]]) -> bytes | Status | None:
    """Return what goes back over the wire when a server takes *step*."""
    try:
        reply = await step()
    except MeshError as error:
        return Status.FromString(to_status(error).SerializeToString())
    except Exception as error:  # noqa: BLE001 - a bug of a layer; as a server of gRPC would answer
        log.error("a server's layers failed", exc_info=error)
        return Status(code=StatusCode.UNKNOWN.value[0], message="the server failed")
    data: bytes | None = None if reply is None else reply.SerializeToString()
    return data


async def _arriving(kind: type[Message], requests: AsyncIterable[Any]) -> AsyncIterator[Any]:
    try:
        async for request in requests:
            yield kind.FromString(request.SerializeToString())
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task and not is_stopped(error):  # the client cancels: so ends who serves it
            task.cancel()
        raise


async def _next(replies: AsyncIterator[Any]) -> Any:
    async for reply in replies:
        return reply
    return None


async def _leave(replies: AsyncIterator[Any]) -> None:
    async with Reading(replies):
        pass
