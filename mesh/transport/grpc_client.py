"""The transport port on grpc.aio: one channel for each address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from ..call import Call, Method
from ..discovery import Reach
from ..layers.streams import Requests
from ..runtime.clock import Runtime
from ..scope import scope
from ..status import from_rpc_error
from .early_status import heed_early_status
from .port import answered, outgoing, outgoing_with, remaining_s

#: Retries are ours: gRPC keeps only its transparent ones, which cannot execute twice.
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.enable_retries", 1),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),  # how long connecting may take: busy machines are slow
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A black hole is noticed after 25 s at most, if a call waits. What gRPC 1.85 goes by is its
    # `ping_timeout`, a minute by default; a `keepalive_timeout` alone changes nothing.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),
)
#: Where there is a choice, gRPC watches each server's health (gRFC A17) on a channel that does
#: nothing else: it is ready only while the server says that it serves. (Calls on that channel would
#: fail as soon as the server drains, also those that were picked for it a moment before.) A server
#: without that service counts as serving. It is soon found when it is back: while one replica is
#: restarted another may already have said that it is the next.
WATCHED: tuple[tuple[str, Any], ...] = (
    ("grpc.max_reconnect_backoff_ms", 300),
    (
        "grpc.service_config",
        json.dumps(
            {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
        ),
    ),
)
_CONNECTED = grpc.ChannelConnectivity.READY
_BROKEN = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


class _Entries(grpc.aio.Metadata):
    """Metadata that only goes out: entries as they are.

    gRPC makes its own class of whatever else it is given, a dict of lists that is then taken
    apart again: four times the time.
    """

    def __init__(self, entries: tuple[tuple[str, str | bytes], ...]) -> None:
        super().__init__()
        self._entries = entries

    def __iter__(self) -> Iterator[tuple[str, str | bytes]]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


async def note_answer(rpc: Any) -> None:
    """Note what an answer says of itself, if something is to be made of it."""
    if scope.get().degraded is not None:
        answered(await rpc.initial_metadata() or ())


class _Connection:
    """A channel to an address, and how many calls are under way on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.under_way = 0
        self._remotes: dict[str, Any] = {}

    def remote(self, method: Method) -> Any:
        """Return what sends calls of *method*."""
        remote = self._remotes.get(method.path)
        if remote is None:
            remote = self._remotes[method.path] = getattr(self.channel, method.kind.name.lower())(
                method.path,
                request_serializer=method.request_type.SerializeToString,
                response_deserializer=method.reply_type.FromString,
            )
        return remote


class GrpcTransport:
    """Sends calls over the network.

    Clients may share one. An address that one of them forgets is left when nobody has a call under
    way there any more.
    """

    def __init__(self, runtime: Runtime, options: tuple[tuple[str, Any], ...] = OPTIONS) -> None:
        self._now = runtime.clock.monotonic
        self._options = options
        self._connections: dict[str, _Connection] = {}
        self._watches: dict[str, grpc.aio.Channel] = {}
        self._forgotten: set[_Connection] = set()
        self._closing: set[asyncio.Future[None]] = set()

    async def unary(self, call: Call) -> Any:
        """Send over the address's channel."""
        connection, sent = self._send(call, call.request)
        try:
            reply = await sent
            await note_answer(sent)
            return reply
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            self._end(connection)

    async def stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Send over the address's channel; leaving the stream cancels the call."""
        sends = call.method.client_streams
        async with Requests(requests) as given:
            connection, sent = self._send(call, given if sends else call.request)
            if sends:
                heed_early_status(sent)
            try:
                if call.method.server_streams:
                    noted = False
                    async for reply in sent:
                        if not noted:
                            await note_answer(sent)
                            noted = True
                        yield reply
                else:
                    reply = await sent
                    await note_answer(sent)
                    yield reply
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None
            finally:
                sent.cancel()
                self._end(connection)

    def reach(self, address: str) -> Reach:
        """Return how the server is; from now on its health is watched."""
        watch = self._watches.get(address)
        if watch is None:
            options = tuple({**dict(self._options), **dict(WATCHED)}.items())
            watch = self._watches[address] = grpc.aio.insecure_channel(address, options=options)
        health = watch.get_state(try_to_connect=True)
        to = self._connections.get(address)
        ours = to.channel.get_state(try_to_connect=health is _CONNECTED) if to else None
        if health is _CONNECTED:
            return Reach.FAILING if ours in _BROKEN else Reach.READY
        if health in _BROKEN:
            return Reach.UNWILLING if ours is _CONNECTED else Reach.FAILING
        return Reach.UNTRIED

    def forget(self, address: str) -> None:
        """Close the address's channels, as soon as no call is under way there."""
        if watch := self._watches.pop(address, None):
            self._close(watch)
        if connection := self._connections.pop(address, None):
            self._forgotten.add(connection)
            self._leave(connection)

    async def close(self) -> None:
        """Close all channels."""
        connections = (*self._connections.values(), *self._forgotten)
        self._forgotten.clear()
        for channel in (*(one.channel for one in connections), *self._watches.values()):
            await channel.close()
        await asyncio.gather(*self._closing)

    def _end(self, connection: _Connection) -> None:
        connection.under_way -= 1
        if connection in self._forgotten:
            self._leave(connection)

    def _leave(self, connection: _Connection) -> None:
        if not connection.under_way:
            self._forgotten.discard(connection)
            self._close(connection.channel)

    def _close(self, channel: grpc.aio.Channel) -> None:
        closing = asyncio.ensure_future(channel.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _send(self, call: Call, request: Any) -> tuple[_Connection, Any]:
        connection = self._connections.get(call.address)
        if connection is None:
            channel = grpc.aio.insecure_channel(call.address, options=self._options)
            connection = self._connections[call.address] = _Connection(channel)
        sent = connection.remote(call.method)(
            request,
            timeout=remaining_s(call, self._now()),
            metadata=_Entries(
                outgoing_with(call, call.carrier) if call.carrier else outgoing(call)
            ),
        )
        connection.under_way += 1
        return connection, sent
