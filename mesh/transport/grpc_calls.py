"""Calls as callers of stock `grpc.aio` stubs know them, with layers at work behind them.

gRPC wants a call from an interceptor as soon as it is asked: whoever streams requests by
``write``, cancels, or awaits ``code()``, does it on that call. So the layers work in a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, NoReturn

import grpc

from ..layers.streams import Reading
from .port import made

_END = object()


class Attempts:
    """A call's carrier: how attempts are made, and the one that began last."""

    def __init__(self, continuation: Any, details: Any) -> None:
        self._continuation = continuation
        self._answered: list[tuple[Any, Any]] = []
        self.details = details
        self.rpc: Any = None

    async def start(self, details: Any, request: Any) -> Any:
        """Begin an attempt."""
        self.rpc = await self._continuation(details, request)
        return self.rpc

    def answered(self, rpc: Any, reply: Any) -> None:
        """Note that *rpc* brought *reply*; of two attempts under way, both may."""
        self._answered.append((reply, rpc))

    def call_of(self, reply: Any) -> Any:
        """Return gRPC's own call that brought *reply*; one of ours if a layer made it."""
        brought = (rpc for answer, rpc in self._answered if answer is reply)
        return next(brought, None) or MadeCall(reply)


class _WorkingCall(grpc.aio.Call):
    """What both kinds have in common: a task, and how it ended."""

    _done_writing_flag = False  # read by gRPC before each `write`

    def __init__(self, work: Coroutine[Any, Any, Any], attempts: Attempts) -> None:
        self._attempts = attempts
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(_look)

    def cancel(self) -> bool:
        """End the call and what the layers do for it."""
        return self._task.cancel()

    def cancelled(self) -> bool:
        """Whether it was ended by `cancel`."""
        return self._task.cancelled()

    def done(self) -> bool:
        """Whether it has ended."""
        return self._task.done()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Tell *callback* of its end."""
        self._task.add_done_callback(lambda _: callback(self))

    def time_remaining(self) -> float | None:
        """Return None: each attempt has a time of its own."""
        return None

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return that of the last attempt, once there is something to be read."""
        await self._arrival()
        rpc = self._attempts.rpc
        found: grpc.aio.Metadata = await rpc.initial_metadata() if rpc else grpc.aio.Metadata()
        return found

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Return that of its failure, or of the last attempt, once it has ended."""
        error = await self._error()
        if error or self._attempts.rpc is None or self._task.cancelled():
            return error.trailing_metadata() if error else grpc.aio.Metadata()
        found: grpc.aio.Metadata = await self._attempts.rpc.trailing_metadata()
        return found

    async def _arrival(self) -> None:
        await self._error()

    async def code(self) -> grpc.StatusCode:
        """Return its status, once it has ended."""
        error = await self._error()
        if self._task.cancelled():
            return grpc.StatusCode.CANCELLED
        return error.code() if error else grpc.StatusCode.OK

    async def details(self) -> str:
        """Return what was said of its failure, once it has ended."""
        error = await self._error()
        return (error.details() or "") if error else ""

    async def wait_for_connection(self) -> None:
        """Return at once: each attempt makes its own."""

    async def _error(self) -> grpc.aio.AioRpcError | None:
        await asyncio.wait([self._task])
        error = None if self._task.cancelled() else self._task.exception()
        return error if isinstance(error, grpc.aio.AioRpcError) else None


class ReplyCall(_WorkingCall, grpc.aio.StreamUnaryCall[Any, Any]):
    """A call with one reply."""

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the reply."""
        return self._task.__await__()

    async def write(self, request: Any) -> NoReturn:
        """Never called: requests come by the iterator that the interceptor was given."""
        raise NotImplementedError

    async def done_writing(self) -> NoReturn:
        """Never called, likewise."""
        raise NotImplementedError


class StreamCall(
    _WorkingCall, grpc.aio.UnaryStreamCall[Any, Any], grpc.aio.StreamStreamCall[Any, Any]
):
    """A call with many replies: at most one of them waits for its reader."""

    def __init__(self, replies: AsyncIterator[Any], attempts: Attempts) -> None:
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()
        self._room = asyncio.Semaphore(1)
        self._first = asyncio.Event()
        super().__init__(self._receive(replies), attempts)

    async def _receive(self, replies: AsyncIterator[Any]) -> None:
        try:
            async with Reading(replies):
                async for reply in replies:
                    await self._room.acquire()
                    self._arrived.put_nowait(reply)
                    self._first.set()
        finally:
            self._arrived.put_nowait(_END)
            self._first.set()

    async def _arrival(self) -> None:
        await self._first.wait()

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield the replies; whoever is cancelled while waiting for one ends the call."""
        while (reply := await self.read()) is not grpc.aio.EOF:
            yield reply

    async def read(self) -> Any:
        """Return the next reply, `grpc.aio.EOF` after the last."""
        try:
            reply = await self._arrived.get()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if reply is not _END:
            self._room.release()
            return reply
        self._arrived.put_nowait(_END)  # for whoever reads on
        await self._task  # raises what ended it
        return grpc.aio.EOF

    async def write(self, request: Any) -> NoReturn:
        """Never called: requests come by the iterator that the interceptor was given."""
        raise NotImplementedError

    async def done_writing(self) -> NoReturn:
        """Never called, likewise."""
        raise NotImplementedError


class MadeCall(grpc.aio.UnaryUnaryCall[Any, Any]):
    """A call that a layer answered: it has ended well, and says in its metadata what it is."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply
        self._metadata = grpc.aio.Metadata(*made())

    def cancel(self) -> bool:
        """Return False: it has ended."""
        return False

    def cancelled(self) -> bool:
        """Return False, likewise."""
        return False

    def done(self) -> bool:
        """Return True."""
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Tell *callback* at once."""
        callback(self)

    def time_remaining(self) -> float | None:
        """Return None."""
        return None

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return what the layer said of its answer, as a server would."""
        return self._metadata

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Return nothing."""
        return grpc.aio.Metadata()

    async def code(self) -> grpc.StatusCode:
        """Return OK."""
        return grpc.StatusCode.OK

    async def details(self) -> str:
        """Return nothing."""
        return ""

    async def wait_for_connection(self) -> None:
        """Return at once."""

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the reply."""
        yield from ()
        return self._reply


def _look(task: asyncio.Task[Any]) -> None:
    """A failure that nobody asks for is no news: gRPC's own calls keep it to themselves."""
    if not task.cancelled():
        task.exception()
