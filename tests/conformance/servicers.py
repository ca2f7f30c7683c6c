"""One servicer, written the three ways there are: for stock aio, for stock sync, for mesh routes.

What it does is a script, so that each way can be asked to do the same.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import StatusCode

from mesh.call import Call, Kind
from mesh.errors import MeshError
from mesh.scope import degrade
from tests.support.echo import METHODS, SERVICE, EchoReply, EchoRequest

SAID = "as the script says"
PERIOD_S = 0.005


@dataclass(frozen=True)
class End:
    """How a call ends: by `how`, which is abort, set_code, raise or wait (for ever)."""

    how: str
    code: StatusCode = StatusCode.OK
    error: BaseException | None = None


@dataclass
class Script:
    """What the servicer does, call by call, and then always the same: succeed.

    `metadata` has what each call brought. `began` and `left` tell of one that waits.
    """

    degrades: str = ""
    ends: list[End] = field(default_factory=list)
    trailing: tuple[tuple[str, str], ...] = ()
    metadata: list[list[tuple[str, Any]]] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    began: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def begin(self, request: Any) -> None:
        """A stream says what it has to say of itself before its first reply."""
        self.requests.append(request)
        if self.degrades:
            degrade(self.degrades)

    def next(self, metadata: Any) -> End | None:
        self.metadata.append([*metadata])
        if self.degrades:
            degrade(self.degrades)
        return self.ends.pop(0) if self.ends else None


class AioServicer:
    def __init__(self, script: Script) -> None:
        self._script = script

    async def one(self, request: Any, context: Any) -> Any:
        await self._end(context)
        self._script.requests.append(request)
        return EchoReply(number=request.number)

    async def many(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self._script.begin(request)
        for number in range(request.number):
            yield EchoReply(number=number)
        await self._end(context)

    async def sum(self, requests: AsyncIterator[Any], context: Any) -> Any:
        total = sum([request.number async for request in requests])
        await self._end(context)
        return EchoReply(number=total)

    async def chat(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            self._script.begin(request)
            yield EchoReply(number=request.number)
        await self._end(context)

    async def _end(self, context: Any) -> None:
        script = self._script
        end = script.next(context.invocation_metadata())
        if script.trailing:
            context.set_trailing_metadata(script.trailing)
        if end is None:
            return
        if end.how == "abort":
            await context.abort(end.code, SAID)
        elif end.how == "set_code":
            context.set_code(end.code)
            context.set_details(SAID)
        elif end.error is not None:
            raise end.error
        else:
            script.began.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                script.left.set()


class SyncServicer:
    def __init__(self, script: Script) -> None:
        self._script = script

    def one(self, request: Any, context: Any) -> Any:
        self._end(context)
        self._script.requests.append(request)
        return EchoReply(number=request.number)

    def many(self, request: Any, context: Any) -> Iterator[Any]:
        self._script.begin(request)
        for number in range(request.number):
            yield EchoReply(number=number)
        self._end(context)

    def sum(self, requests: Iterator[Any], context: Any) -> Any:
        total = sum(request.number for request in requests)
        self._end(context)
        return EchoReply(number=total)

    def chat(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in requests:
            self._script.begin(request)
            yield EchoReply(number=request.number)
        self._end(context)

    def _end(self, context: Any) -> None:
        script = self._script
        end = script.next(context.invocation_metadata())
        if script.trailing:
            context.set_trailing_metadata(script.trailing)
        if end is None:
            return
        if end.how == "abort":
            context.abort(end.code, SAID)
        elif end.how == "set_code":
            context.set_code(end.code)
            context.set_details(SAID)
        elif end.error is not None:
            raise end.error
        else:
            script.began.set()
            while context.is_active():  # whose end an aio server's contexts tell to no thread
                time.sleep(PERIOD_S)
            script.left.set()


class MeshServicer:
    """Handlers of routes: what has no context says how a call ends by an error."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def unary(self, call: Call) -> Any:
        await self._end(call)
        request: Any = call.request
        self._script.requests.append(request)
        return EchoReply(number=request.number)

    async def stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        request: Any = call.request
        if call.method.kind is Kind.UNARY_STREAM:
            self._script.requests.append(request)
            for number in range(request.number):
                yield EchoReply(number=number)
        elif call.method.kind is Kind.STREAM_UNARY:
            total = sum([request.number async for request in requests])
            await self._end(call)
            yield EchoReply(number=total)
            return
        else:
            async for request in requests:
                yield EchoReply(number=request.number)
        await self._end(call)

    async def _end(self, call: Call) -> None:
        script = self._script
        end = script.next(call.metadata.items())
        if end is None or (end.code is StatusCode.OK and end.how != "wait" and end.error is None):
            return
        if end.error is not None:
            raise end.error
        if end.how == "wait":
            script.began.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                script.left.set()
        raise MeshError(SAID, status=end.code, reason=end.code.name)


def handlers(servicer: AioServicer | SyncServicer) -> Any:
    """Return what protoc's ``add_…Servicer_to_server`` would give the server."""
    functions = {
        Kind.UNARY_UNARY: servicer.one,
        Kind.UNARY_STREAM: servicer.many,
        Kind.STREAM_UNARY: servicer.sum,
        Kind.STREAM_STREAM: servicer.chat,
    }
    made = {
        method.name: getattr(grpc, f"{method.kind.name.lower()}_rpc_method_handler")(
            functions[method.kind], EchoRequest.FromString, EchoReply.SerializeToString
        )
        for method in METHODS
    }
    return grpc.method_handlers_generic_handler(SERVICE, made)
