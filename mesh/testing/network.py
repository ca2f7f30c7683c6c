"""The network of a cluster.

Every message is carried by a task that belongs to no node: it arrives, late or twice, whatever
becomes of who sent it. What is sent and answered is serialised, as on the wire.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from typing import Any, cast

from google.rpc.status_pb2 import Status
from grpc import StatusCode

from ..call import Call
from ..discovery import Reach
from ..errors import DeadlineExceeded, MeshError, Unavailable
from ..runtime.clock import Runtime
from ..status import from_status
from ..transport.memory import MemoryNetwork, answer
from ..transport.port import incoming, outgoing, remaining_s
from .faults import Faults, Point
from .life import Life
from .process import running_as
from .tally import Tally

_CANCELLED = Status(code=StatusCode.CANCELLED.value[0], message="cancelled")


class Gone(Unavailable):
    """Whoever was serving the call died."""


class Message:
    """Something on its way from *caller* to *target*; a caller "" is outside the cluster."""

    def __init__(self, caller: str, target: str, method: str, key: str = "") -> None:
        self.caller = caller
        self.target = target
        self.method = method
        self.key = key
        #: What the caller waits for.
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        """Let the caller have *error*, if it still waits."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def succeed(self, answered: Any) -> None:
        """Let the caller have its answer, if it still waits."""
        if not self.answer.done():
            self.answer.set_result(answered)

    def cancel(self) -> None:
        """Nobody waits any more."""


class CallMessage(Message):
    """A call as it was sent.

    `timeout_s` is what was left of its time; as in gRPC, the server counts it from when the
    message arrives.
    """

    def __init__(self, caller: str, call: Call, timeout_s: float | None) -> None:
        super().__init__(caller, call.address, call.method.name, call.key)
        self.call = call
        self.timeout_s = timeout_s
        self._request = call.request.SerializeToString()
        self._metadata = outgoing(call)
        #: Who works on it; more than one if it was delivered more than once.
        self.served: list[asyncio.Task[None]] = []

    def arrive(self, runtime: Runtime) -> Call:
        """Return the call as a server gets it."""
        method = self.call.method
        request = method.request_type.FromString(self._request)
        return incoming(method, request, dict(self._metadata), self.timeout_s, runtime)

    def cancel(self) -> None:
        """Let whoever works on it know that nobody waits any more."""
        for task in self.served:
            task.cancel()


class Network(MemoryNetwork):
    """Delivers between the lives of nodes, as its faults please.

    Args:
        runtime: the outside's.
        faults: what goes wrong, now.
        point: passes a point of a life.
    """

    def __init__(
        self,
        runtime: Runtime,
        faults: Callable[[], Faults],
        point: Callable[[Life, Point], Awaitable[None]],
    ) -> None:
        super().__init__(runtime)
        self.faults = faults
        self.point = point
        self._lives: dict[str, Life] = {}
        #: What somebody waits for.
        self.flights: dict[Message, None] = {}

    def join(self, life: Life) -> None:
        """Let *life* answer."""
        self._lives[life.name] = life
        self.serve(life.name, life.application.routes)

    def cut(self, life: Life) -> None:
        """*life* is over: who waits for its answers learns it, and who works for it too."""
        if self._lives.get(life.name) is life:
            self.stop(life.name)
            del self._lives[life.name]
        for waiting in life.owed:
            if not waiting.done():
                waiting.set_exception(Gone(f"{life.name} is gone"))
        for tell in life.mourners:
            tell()
        for message in [m for m in self.flights if m.caller == life.name]:
            del self.flights[message]
            message.cancel()

    async def exchange(self, caller: str, call: Call) -> Any:
        """Send *call*, and wait for its answer until its deadline."""
        loop = asyncio.get_running_loop()
        message = CallMessage(caller, call, remaining_s(call, loop.time()))
        timer = None
        if message.timeout_s is not None:
            late = DeadlineExceeded(f"no reply of {call.method.full_name} in time")
            timer = loop.call_later(message.timeout_s, message.fail, late)
        try:
            answered = await self.pass_on(message, functools.partial(self._deliver, message))
        except asyncio.CancelledError:
            message.cancel()
            raise
        finally:
            if timer:
                timer.cancel()
        if isinstance(answered, Status):
            raise from_status(answered)
        return call.method.reply_type.FromString(answered)

    async def pass_on(self, message: Message, send: Callable[[], Awaitable[Any]]) -> Any:
        """Let the faults deliver *message* by *send*; return what becomes of it."""
        self.flights[message] = None
        carrying = self._carry(message, send)
        asyncio.get_running_loop().create_task(
            carrying, context=context_of(None)
        )  # the loop keeps it
        try:
            return await message.answer
        finally:
            self.flights.pop(message, None)

    async def _carry(self, message: Message, send: Callable[[], Awaitable[Any]]) -> None:
        try:
            answered = await self.faults().deliver(message, send)
        except Exception as error:  # noqa: BLE001  # it is the sender's
            message.fail(error)
        else:
            message.succeed(answered)

    async def _deliver(self, message: CallMessage) -> bytes | Status:
        """Let whoever lives at the target now work on *message*; return the answer.

        Raises:
            Unavailable: nobody does.
            Gone: it died of it, or meanwhile.
        """
        route = self._route(message.call)
        assert route.unary is not None
        life = self._lives[message.target]
        step = functools.partial(route.unary, message.arrive(life.runtime))
        context = context_of(life)
        answered = await self._work(message.call, step, context, message.timeout_s, message)
        assert answered is not None
        return answered

    async def _serve(self, call: Call, step: Callable[[], Awaitable[Any]], context: Context) -> Any:
        """Take one step of a stream."""
        timeout_s = remaining_s(call, asyncio.get_running_loop().time())
        answered = await self._work(call, step, context, timeout_s)
        if isinstance(answered, Status):
            raise from_status(answered)
        return None if answered is None else call.method.reply_type.FromString(answered)

    def _server_context(self, call: Call) -> Context:
        return context_of(self._lives[call.address])

    async def _work(
        self,
        call: Call,
        step: Callable[[], Awaitable[Any]],
        context: Context,
        timeout_s: float | None,
        message: CallMessage | None = None,
    ) -> bytes | Status | None:
        """Let the life of *context* take *step*, until the time is over or it dies."""
        life = cast("Life", context[running_as])
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bytes | Status | None] = loop.create_future()
        life.owed[answered] = None

        async def work() -> None:
            try:
                reply = await answer(step)
            except asyncio.CancelledError:
                reply = _CANCELLED
            await self.point(life, Point(life.name, "reply", call.method.full_name))
            if not answered.done():
                answered.set_result(reply)

        def ended(task: asyncio.Task[None]) -> None:
            if not answered.done():  # it was cancelled before it began
                answered.set_result(_CANCELLED)

        task = loop.create_task(work(), context=context)
        task.add_done_callback(ended, context=context)
        if message:
            message.served.append(task)
        timer = None
        if timeout_s is not None:
            timer = loop.call_later(timeout_s, task.cancel, context=context)
        try:
            return await answered
        finally:
            if timer:
                timer.cancel()
            life.owed.pop(answered, None)


class NodeTransport:
    """The network as a channel of the life of a node has it; without one, of the outside."""

    def __init__(self, network: Network, tally: Tally, life: Life | None = None) -> None:
        self._network = network
        self._tally = tally
        self._life = life

    async def unary(self, call: Call) -> Any:
        """Send, unless the node dies first."""
        self._tally.send(call.attempt)
        if self._life is None:
            return await self._network.exchange("", call)
        passing, life, method = self._network.point, self._life, call.method.full_name
        await passing(life, Point(life.name, "send", method))
        try:
            reply = await self._network.exchange(life.name, call)
        except MeshError:
            await passing(life, Point(life.name, "send", method, after=True))
            raise
        await passing(life, Point(life.name, "send", method, after=True))
        return reply

    def stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Streams are not disturbed."""
        return self._network.stream(call, requests)

    def reach(self, address: str) -> Reach:
        """Nothing is known before a call is made."""
        return Reach.READY

    def forget(self, address: str) -> None:
        """Nothing is kept of an address."""

    async def close(self) -> None:
        """Nothing to close."""


def context_of(life: Life | None) -> Context:
    """Return a new context, in which *life* is running; None: nobody."""
    context = Context()
    context.run(running_as.set, life)
    return context
