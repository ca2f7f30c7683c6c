"""The transport port on grpc.aio: one channel for each address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from ..call import Call
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


class GrpcTransport:
    """Sends calls over the network."""

    def __init__(self, runtime: Runtime, options: tuple[tuple[str, Any], ...] = OPTIONS) -> None:
        self._now = runtime.clock.monotonic
        self._options = options
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._watches: dict[str, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Future[None]] = set()
        self._callables: dict[tuple[str, str], Any] = {}

    async def unary(self, call: Call) -> Any:
        """Send over the address's channel."""
        sent = self._send(call, call.request)
        try:
            reply = await sent
            await note_answer(sent)
            return reply
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Send over the address's channel; leaving the stream cancels the call."""
        sends = call.method.client_streams
        async with Requests(requests) as given:
            sent = self._send(call, given if sends else call.request)
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

    def reach(self, address: str) -> Reach:
        """Return how the server is; from now on its health is watched."""
        watch = self._watches.get(address)
        if watch is None:
            options = tuple({**dict(self._options), **dict(WATCHED)}.items())
            watch = self._watches[address] = grpc.aio.insecure_channel(address, options=options)
        health = watch.get_state(try_to_connect=True)
        channel = self._channels.get(address)
        ours = channel.get_state(try_to_connect=health is _CONNECTED) if channel else None
        if health is _CONNECTED:
            return Reach.FAILING if ours in _BROKEN else Reach.READY
        if health in _BROKEN:
            return Reach.UNWILLING if ours is _CONNECTED else Reach.FAILING
        return Reach.UNTRIED

    def forget(self, address: str) -> None:
        """Close the address's channels."""
        self._callables = {key: c for key, c in self._callables.items() if key[0] != address}
        for channels in (self._channels, self._watches):
            if channel := channels.pop(address, None):
                closing = asyncio.ensure_future(channel.close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all channels."""
        for channel in (*self._channels.values(), *self._watches.values()):
            await channel.close()
        await asyncio.gather(*self._closing)

    def _send(self, call: Call, request: Any) -> Any:
        key = (call.address, call.method.path)
        send = self._callables.get(key)
        if send is None:
            send = self._callables[key] = self._open(call)
        return send(
            request,
            timeout=remaining_s(call, self._now()),
            metadata=_Entries(
                outgoing_with(call, call.carrier) if call.carrier else outgoing(call)
            ),
        )

    def _open(self, call: Call) -> Any:
        channel = self._channels.get(call.address)
        if channel is None:
            channel = grpc.aio.insecure_channel(call.address, options=self._options)
            self._channels[call.address] = channel
        method = call.method
        return getattr(channel, method.kind.name.lower())(
            method.path,
            request_serializer=method.request_type.SerializeToString,
            response_deserializer=method.reply_type.FromString,
        )
