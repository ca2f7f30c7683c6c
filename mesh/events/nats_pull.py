"""Pulling from a JetStream consumer, for ever, whatever happens to the broker.

One request for a batch stands at a time; messages are worked on as they come. The broker forgets
the request when the connection is lost: over a new one it is made again. It sends heartbeats while
it has nothing: without them the request is taken for lost as well. (nats-py's own pull
subscriptions hold a batch back until it is full or out of time, and may stay silent after a
restart: nats.py#504.)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as CoreSubscription
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig
from nats.js.errors import NotFoundError

from ..runtime import beside
from ..runtime.clock import Runtime
from ..runtime.logs import log
from .port import BusError

EXPIRES_S = 20.0
HEARTBEAT_S = 1.0
#: Without a word for this long the request is made again.
SILENCE_S = 3 * HEARTBEAT_S
RETRY_S = 0.5
#: An event that nobody could take is delivered again after this long.
AGAIN_S = 1.0
HEARTBEAT = "100"
#: No messages, or not as many as asked for in time.
ENDED = ("404", "408")
_NANOS = 1_000_000_000


class Puller:
    """One member of a durable consumer.

    Args:
        client: gives the connection once it is there.
        config: of the consumer; it is made if it is missing.
        deliver: what to do with a message; it is confirmed when that returns.
        batch: messages under way at a time.
    """

    def __init__(
        self,
        client: Callable[[], Awaitable[Client]],
        stream: str,
        config: ConsumerConfig,
        deliver: Callable[[Msg], Awaitable[None]],
        batch: int,
        runtime: Runtime,
    ) -> None:
        self._client = client
        self._stream = stream
        self._config = config
        self._consumer = config.durable_name or ""
        self._deliver = deliver
        self._batch = batch
        self._runtime = runtime
        self._under_way: dict[str, tuple[Msg, asyncio.Task[None]]] = {}
        self._expected = 0  # of the request that stands
        self._refused = False  # nobody answers for the consumer
        self._heard = asyncio.Event()
        self._pulling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Pull from now on."""
        self._pulling = beside.begin(self._run())

    def reconnected(self) -> None:
        """The connection is a new one: no request stands."""
        self._expected = 0
        self._heard.set()

    async def lag(self) -> int:
        """Return what the consumer has not confirmed."""
        try:
            async with asyncio.timeout(SILENCE_S):
                client = await self._client()
                info = await client.jetstream().consumer_info(self._stream, self._consumer)
        except (NatsError, TimeoutError, OSError) as error:
            raise BusError(str(error)) from error
        return int(info.num_pending or 0) + int(info.num_ack_pending or 0)

    async def close(self) -> None:
        """Stop pulling; what is under way is delivered again to somebody else."""
        left = dict(self._under_way)
        await beside.end(self._pulling, *(task for _, task in left.values()))
        for message, _ in left.values():
            await self._settle(message.nak())

    async def _run(self) -> None:
        while True:
            subscription: CoreSubscription | None = None
            try:
                client = await self._client()
                await self._make_consumer(client)
                inbox = client.new_inbox()
                subscription = await client.subscribe(inbox, cb=self._receive)
                await self._pull(client, inbox)
            except (NatsError, TimeoutError, OSError) as error:
                log.warning("the subscription begins again", error=str(error))
            finally:
                if subscription:
                    await _leave(subscription)
            await self._runtime.clock.sleep(RETRY_S)

    async def _make_consumer(self, client: Client) -> None:
        stream = client.jetstream()
        try:
            await stream.consumer_info(self._stream, self._consumer)
        except NotFoundError:
            await stream.add_consumer(self._stream, self._config)

    async def _pull(self, client: Client, inbox: str) -> None:
        """Keep one request standing; returns when the consumer is to be looked for again."""
        address = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        self._expected, self._refused, silent = 0, False, 0
        while not self._refused:
            free = self._batch - len(self._under_way)
            if self._expected <= 0 and free > 0:
                request = {
                    "batch": free,
                    "expires": int(EXPIRES_S * _NANOS),
                    "idle_heartbeat": int(HEARTBEAT_S * _NANOS),
                }
                self._expected = free
                await client.publish(address, json.dumps(request).encode(), inbox)
            self._heard.clear()
            try:
                async with asyncio.timeout(SILENCE_S):
                    await self._heard.wait()
                silent = 0
            except TimeoutError:
                if self._under_way and free <= 0:
                    continue  # we are busy ourselves
                self._expected, silent = 0, silent + 1
                if silent > 1:
                    return

    async def _receive(self, message: Msg) -> None:
        self._heard.set()
        status = (message.headers or {}).get("Status")
        if status is None:
            self._expected -= 1
            self._begin(message)
        elif status in ENDED:
            self._expected = 0
        elif status != HEARTBEAT:
            self._refused = True

    def _begin(self, message: Msg) -> None:
        task = beside.begin(self._confirm(message))
        self._under_way[message.reply] = (message, task)

        def ended(_: asyncio.Task[None]) -> None:
            self._under_way.pop(message.reply, None)
            self._heard.set()

        task.add_done_callback(ended)

    async def _confirm(self, message: Msg) -> None:
        try:
            await self._deliver(message)
        except Exception as error:  # noqa: BLE001  # whatever it was, it is delivered again
            log.warning("an event could not be taken", error=type(error).__name__)
            await self._settle(message.nak(delay=AGAIN_S))
        else:
            await self._settle(message.ack())

    async def _settle(self, word: Awaitable[None]) -> None:
        try:
            await word
        except (NatsError, OSError) as error:  # it is delivered again, in time
            log.debug("the broker was not told", error=str(error))


async def _leave(subscription: CoreSubscription) -> None:
    try:
        await subscription.unsubscribe()
    except NatsError:
        return  # the connection is gone, and the subscription with it
