"""The transport port in memory: calls between services of one process, without sockets.

Messages and errors are serialised and parsed as on the wire, and each call is served in a task
and a context of its own, so nothing passes that gRPC would not let pass.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any

from google.rpc.status_pb2 import Status

from ..call import Call
from ..errors import DeadlineExceeded, MeshError, Unavailable, from_status, to_status
from ..runtime.clock import Runtime
from .port import Route, Routes, incoming, outgoing


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

    async def unary(self, call: Call, requests: AsyncIterator[Any] | None = None) -> Any:
        """Serve *call* in a task of its own, until its deadline."""
        route = self._route(call)
        arrived = self._arrive(route, call)
        task = asyncio.get_running_loop().create_task(
            _serve(route, arrived, requests), context=contextvars.Context()
        )
        endless = call.deadline == float("inf")
        remaining_s = None if endless else call.deadline - self._runtime.clock.monotonic()
        try:
            reply = await asyncio.wait_for(task, remaining_s)
        except TimeoutError:
            raise DeadlineExceeded(f"no reply of {call.method.full_name} in time") from None
        if isinstance(reply, Status):
            raise from_status(reply)
        return call.method.reply_type.FromString(reply)

    async def stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Serve *call* step by step, as the reader asks."""
        route = self._route(call)
        assert route.stream is not None
        context = contextvars.Context()
        replies = context.run(route.stream, self._arrive(route, call), requests).__aiter__()
        loop = asyncio.get_running_loop()
        while True:
            try:
                reply = await loop.create_task(_next(replies), context=context)
            except StopAsyncIteration:
                return
            except MeshError as error:
                raise from_status(Status.FromString(to_status(error).SerializeToString())) from None
            if reply is None:
                return
            yield call.method.reply_type.FromString(reply)

    async def close(self) -> None:
        """Nothing to close."""

    def _route(self, call: Call) -> Route:
        route = self._routes.get(call.address, {}).get(call.method.path)
        if route is None:
            raise Unavailable(f"nobody serves {call.method.full_name} at {call.address!r}")
        return route

    def _arrive(self, route: Route, call: Call) -> Call:
        endless = call.deadline == float("inf")
        return incoming(
            route.method,
            route.method.request_type.FromString(call.request.SerializeToString()),
            dict(outgoing(call)),
            None if endless else call.deadline - self._runtime.clock.monotonic(),
            self._runtime,
        )


async def _serve(
    route: Route, call: Call, requests: AsyncIterator[Any] | None
) -> bytes | Status:
    try:
        if route.unary is not None:
            reply = await route.unary(call)
        else:
            assert route.stream is not None and requests is not None
            reply = await anext(route.stream(call, requests))
    except MeshError as error:
        return Status.FromString(to_status(error).SerializeToString())
    data: bytes = reply.SerializeToString()
    return data


async def _next(replies: AsyncIterator[Any]) -> bytes | None:
    async for reply in replies:
        data: bytes = reply.SerializeToString()
        return data
    return None
