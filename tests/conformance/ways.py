"""The ways into the stacks, each made to look the same to a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc import StatusCode

import mesh
from mesh.call import Kind, Method, stack, stack_stream
from mesh.errors import MeshError
from mesh.server import ServerSettings, server_layers
from mesh.transport.grpc_server import GrpcServer
from mesh.transport.port import Route
from tests.conformance.servicers import (
    AioServicer,
    MeshServicer,
    Script,
    SyncServicer,
    handlers,
)
from tests.support.echo import ADD, CHAT, METHODS, POUR, SUM, EchoRequest, EchoStub, stock_channel


@dataclass(frozen=True)
class Outcome:
    """What the caller got."""

    replies: Sequence[Any]
    status: StatusCode
    error: BaseException | None = None
    trailing: Sequence[tuple[str, Any]] = ()

    @property
    def meant(self) -> MeshError:
        """What the mesh made of the error."""
        found = self.error if isinstance(self.error, MeshError) else self.error.__cause__  # type: ignore[union-attr]
        assert isinstance(found, MeshError), repr(self.error)
        return found


class Sent:
    """A call under way."""

    def __init__(self, outcome: Awaitable[Outcome], cancel: Callable[[], object]) -> None:
        self.outcome = asyncio.ensure_future(outcome)
        self.cancel = cancel


@dataclass(frozen=True)
class Setting:
    """Who serves, who calls, and how."""

    script: Script
    server: mesh.Node
    client: mesh.Node
    policy: mesh.Policy
    settings: ServerSettings


Send = Callable[..., Sent]


def _argument(method: Method, numbers: Sequence[int]) -> Any:
    requests = [EchoRequest(number=number) for number in numbers]
    return iter(requests) if method.client_streams else requests[0]


def _failure(error: Any, replies: Sequence[Any]) -> Outcome:
    return Outcome(replies, error.code(), error, tuple(error.trailing_metadata() or ()))


@asynccontextmanager
async def _stock_server(setting: Setting) -> AsyncIterator[int]:
    layers = mesh.server_interceptors(node=setting.server, settings=setting.settings)
    server = grpc.aio.server(interceptors=layers)
    server.add_generic_rpc_handlers((handlers(AioServicer(setting.script)),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(0.0)


@asynccontextmanager
async def _own_server(setting: Setting) -> AsyncIterator[int]:
    layers = server_layers(setting.server, setting.settings)
    servicer = MeshServicer(setting.script)
    server = GrpcServer(setting.server.runtime)
    server.add(
        {
            method.path: Route(method, unary=stack(*layers, around=servicer.unary))
            if method.kind is Kind.UNARY_UNARY
            else Route(method, stream=stack_stream(*layers, around=servicer.stream))
            for method in METHODS
        }
    )
    yield await server.start("127.0.0.1:0")
    await server.stop(0.0)


@asynccontextmanager
async def _aio(setting: Setting, serving: Any) -> AsyncIterator[Send]:
    layers = mesh.interceptors("echo", policy=setting.policy, node=setting.client)
    async with serving(setting) as port, stock_channel(port, *layers) as channel:
        yield _on_stock(EchoStub(channel))


def aio(setting: Setting) -> Any:
    """`mesh.interceptors()` against `mesh.server_interceptors()`."""
    return _aio(setting, _stock_server)


def aio_routes(setting: Setting) -> Any:
    """`mesh.interceptors()` against routes of our own server."""
    return _aio(setting, _own_server)


def _on_stock(stub: EchoStub) -> Send:
    def send(method: Method, *numbers: int, **options: Any) -> Sent:
        call = getattr(stub, method.name)(_argument(method, numbers or (1,)), **options)

        async def outcome() -> Outcome:
            replies: list[Any] = []
            try:
                if method.server_streams:
                    async for reply in call:
                        replies.append(reply)  # noqa: PERF401  # those before a failure count
                else:
                    replies.append(await call)
            except grpc.aio.AioRpcError as error:
                return _failure(error, replies)
            except asyncio.CancelledError:
                return Outcome(replies, await call.code())
            trailing = tuple(await call.trailing_metadata() or ())
            return Outcome(replies, await call.code(), None, trailing)

        return Sent(outcome(), call.cancel)

    return send


@asynccontextmanager
async def _sync(setting: Setting, *, waits: bool) -> AsyncIterator[Send]:
    layers = mesh.sync.server_interceptors(node=setting.server, settings=setting.settings)
    server = grpc.server(ThreadPoolExecutor(8), interceptors=layers)
    server.add_generic_rpc_handlers((handlers(SyncServicer(setting.script)),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    plain = grpc.insecure_channel(f"127.0.0.1:{port}")
    channel = grpc.intercept_channel(
        plain, *mesh.sync.interceptors("echo", policy=setting.policy, node=setting.client)
    )
    stub = EchoStub(channel)

    def send(method: Method, *numbers: int, **options: Any) -> Sent:
        remote = getattr(stub, method.name)
        argument = _argument(method, numbers or (1,))

        if waits and not method.server_streams:

            def wait() -> Outcome:
                try:
                    reply, call = remote.with_call(argument, **options)
                except grpc.RpcError as error:
                    return _failure(error, ())
                return Outcome([reply], call.code(), None, tuple(call.trailing_metadata() or ()))

            return Sent(asyncio.to_thread(wait), lambda: None)

        call = (
            remote(argument, **options)
            if method.server_streams
            else remote.future(argument, **options)
        )

        def read() -> Outcome:
            replies: list[Any] = []
            try:
                if method.server_streams:
                    replies.extend(call)
                else:
                    replies.append(call.result())
            except grpc.RpcError as error:
                return _failure(error, replies)
            except grpc.FutureCancelledError:
                return Outcome(replies, call.code())
            return Outcome(replies, call.code(), None, tuple(call.trailing_metadata() or ()))

        return Sent(asyncio.to_thread(read), call.cancel)

    yield send
    channel.close()
    await asyncio.to_thread(server.stop(0.0).wait)


def sync(setting: Setting) -> Any:
    """`mesh.sync` on both sides; callers wait."""
    return _sync(setting, waits=True)


def sync_future(setting: Setting) -> Any:
    """`mesh.sync` on both sides; callers take futures."""
    return _sync(setting, waits=False)


@asynccontextmanager
async def channel(setting: Setting) -> AsyncIterator[Send]:
    """`mesh.channel()` against `mesh.server_interceptors()`."""
    async with _stock_server(setting) as port:
        opened = mesh.channel(
            "echo", f"127.0.0.1:{port}", policy=setting.policy, node=setting.client
        )
        yield _on_channel(_Asked(opened))
        await opened.close()


class _Asked:
    """A stub that makes each method when it is first called: few have what a policy may ask for."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        [method] = [method for method in METHODS if method.name == name]
        remote = getattr(self._channel, method.kind.name.lower())(method.path)
        setattr(self, name, remote)
        return remote


def _on_channel(stub: _Asked) -> Send:
    def send(method: Method, *numbers: int, **options: Any) -> Sent:
        async def outcome() -> Outcome:
            replies: list[Any] = []
            try:
                call = getattr(stub, method.name)(_argument(method, numbers or (1,)), **options)
                if method.server_streams:
                    async for reply in call:
                        replies.append(reply)  # noqa: PERF401  # those before a failure count
                else:
                    replies.append(await call)
            except MeshError as error:
                return Outcome(replies, error.status, error)
            except asyncio.CancelledError:
                return Outcome(replies, StatusCode.CANCELLED)
            return Outcome(replies, StatusCode.OK)

        task = asyncio.ensure_future(outcome())
        return Sent(task, task.cancel)

    return send


WAYS = {
    "aio": aio,
    "aio-routes": aio_routes,
    "sync": sync,
    "sync-future": sync_future,
    "channel": channel,
}

#: The four kinds; replies without end where the server streams.
KINDS = (ADD, POUR, SUM, CHAT)
FOUR = pytest.mark.parametrize("method", KINDS, ids=lambda m: m.kind.name)
#: (way, method). Who waits in a thread for the one reply has nothing to cancel by.
CANCELLABLE = [
    pytest.param(way, method, id=f"{way}-{method.kind.name}")
    for way in WAYS
    for method in KINDS
    if way != "sync" or method.server_streams
]
