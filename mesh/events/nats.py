"""The bus port on NATS JetStream (https://docs.nats.io/nats-concepts/jetstream).

One stream holds every event. Each group has a durable consumer for each of its topics, which begins
at the first event: one consumer for all could be given a further topic later, but passes over what
it has behind it of that (nats-server#7268). The connection is made in the background and again
whenever it is lost; in between, publishing fails.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import quote

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, Header, StreamConfig
from nats.js.errors import NotFoundError

from ..runtime import beside
from ..runtime.clock import Runtime
from ..runtime.logs import log
from .cloudevents import from_headers, to_headers
from .nats_pull import Puller
from .port import BusError, Deliver, Event

STREAM = "mesh"
MSG_ID = Header.MSG_ID.value
SUBJECTS = "mesh.events"
#: How long a publisher waits for the first connection.
CONNECT_WAIT_S = 1.0
PUBLISH_TIMEOUT_S = 5.0
#: How long the broker refuses to store an event twice, by its id.
DUPLICATES_S = 120.0
RECONNECT_S = 0.5
#: A connection on which two pings were not answered is lost.
PING_S = 5
ACK_WAIT_S = 30.0
#: Events of a group under way at a time, of all topics.
BATCH = 256

logging.getLogger("nats").setLevel(logging.CRITICAL)  # we say ourselves what happens


class NatsBus:
    """A connection to a NATS server or cluster; may be used before it is there.

    Args:
        url: ``nats://HOST:PORT``, with credentials in it or none.
        token: shown if the URL has no credentials.
        name: how the server's monitoring calls this connection.
        replicas: copies of the stream; 3 or 5 in a cluster.
        ack_wait_s: an event that was not confirmed after this long is delivered again.
    """

    def __init__(
        self,
        url: str,
        runtime: Runtime,
        *,
        token: str = "",
        name: str = "",
        replicas: int = 1,
        ack_wait_s: float = ACK_WAIT_S,
    ) -> None:
        self._url = url
        self._token = token if "@" not in url else ""
        self._name = name
        self._runtime = runtime
        self._replicas = replicas
        self._ack_wait_s = ack_wait_s
        self._client: Client | None = None
        self._ready = asyncio.Event()
        self._connecting: asyncio.Task[None] | None = None
        self._asked: set[asyncio.Timeout] = set()
        self._pullers: weakref.WeakSet[Puller] = weakref.WeakSet()

    async def publish(self, event: Event) -> None:
        """Store *event* in the stream; it is on disk when this returns."""
        try:
            async with asyncio.timeout(CONNECT_WAIT_S):
                client = await self.client()
        except TimeoutError:
            raise BusError("the broker is out of reach") from None
        if not client.is_connected:
            raise BusError("the connection to the broker is lost")
        try:
            async with self._while_connected():
                await client.jetstream().publish(
                    f"{SUBJECTS}.{event.topic}",
                    event.payload,
                    timeout=PUBLISH_TIMEOUT_S,
                    headers={MSG_ID: event.event_id, **to_headers(event)},
                )
        except TimeoutError:
            raise BusError("the broker does not answer") from None
        except (NatsError, OSError) as error:
            if isinstance(error, NatsError) and "no response from stream" in str(error):
                self._begin_again()
            raise BusError(f"{type(error).__name__}: {error}") from error

    async def subscribe(
        self, group: str, topics: Sequence[str], deliver: Deliver
    ) -> NatsSubscription:
        """Make *group*'s durable consumers and pull from them, as soon as the broker is there."""

        async def deliver_message(message: Msg) -> None:
            await deliver(from_headers(message.headers or {}, message.data))

        batch = max(1, BATCH // max(1, len(topics)))
        pullers = [
            Puller(
                self.client,
                STREAM,
                self._consumer(group, topic),
                deliver_message,
                batch,
                self._runtime,
            )
            for topic in topics
        ]
        for puller in pullers:
            self._pullers.add(puller)
            puller.start()
        return NatsSubscription(pullers)

    def _consumer(self, group: str, topic: str) -> ConsumerConfig:
        return ConsumerConfig(
            durable_name=_durable(group, topic),
            filter_subject=f"{SUBJECTS}.{topic}",
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait_s,
            max_ack_pending=-1,
        )

    async def forget(self, group: str) -> None:
        """Delete *group*'s durable consumers."""
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                stream = (await self.client()).jetstream()
                found: list[str] = []
                while page := await stream.consumers_info(STREAM, offset=len(found)):
                    found += [one.name for one in page]
                for name in found:
                    if name.startswith(_durable(group, "")):
                        with suppress(NotFoundError):
                            await stream.delete_consumer(STREAM, name)
        except (NatsError, TimeoutError, OSError) as error:
            raise BusError(f"{type(error).__name__}: {error}") from error

    async def client(self) -> Client:
        """Return the connection once it is there and the stream is."""
        client = self._connected()
        await self._ready.wait()
        return client

    async def close(self) -> None:
        """Close the connection."""
        await beside.end(self._connecting)
        if self._client:
            await self._client.close()

    def _connected(self) -> Client:
        """Return the connection, which may not be there yet."""
        if self._client is None:
            self._client = Client()
            self._begin_again()
        return self._client

    def _begin_again(self) -> None:
        """Connect if need be, and make the stream if need be, in the background."""
        self._ready.clear()
        if self._connecting is None or self._connecting.done():
            self._connecting = beside.begin(self._prepare())

    async def _prepare(self) -> None:
        client = self._client
        assert client is not None  # _connected made it
        while not self._ready.is_set():
            try:
                if not client.is_connected and not client.is_reconnecting:
                    await client.connect(
                        self._url,
                        name=self._name or None,
                        token=self._token or None,
                        allow_reconnect=True,
                        max_reconnect_attempts=-1,
                        reconnect_time_wait=RECONNECT_S,  # type: ignore[arg-type]  # fractions too
                        ping_interval=PING_S,
                        error_cb=_silent,
                        disconnected_cb=self._lost,
                        reconnected_cb=self._found,
                    )
                await self._make_stream(client)
                self._ready.set()
            except (NatsError, TimeoutError, OSError) as error:
                log.warning("the broker is out of reach", url=_shown(self._url), error=str(error))
                await self._runtime.clock.sleep(RECONNECT_S)

    @asynccontextmanager
    async def _while_connected(self) -> AsyncIterator[None]:
        """Run a block until the connection is lost: TimeoutError, since no answer comes then."""
        async with asyncio.timeout(None) as limit:
            self._asked.add(limit)
            try:
                yield
            finally:
                self._asked.discard(limit)

    async def _lost(self) -> None:
        now = asyncio.get_running_loop().time()
        for limit in self._asked:
            limit.reschedule(now)

    async def _found(self) -> None:
        for puller in self._pullers:
            puller.reconnected()

    async def _make_stream(self, client: Client) -> None:
        stream = client.jetstream()
        try:
            await stream.stream_info(STREAM)
        except NotFoundError:
            await stream.add_stream(
                StreamConfig(
                    name=STREAM,
                    subjects=[f"{SUBJECTS}.>"],
                    num_replicas=self._replicas,
                    duplicate_window=DUPLICATES_S,
                )
            )


class NatsSubscription:
    """A group's hold on its topics: a member of each one's consumer."""

    def __init__(self, pullers: Sequence[Puller]) -> None:
        self._pullers = pullers

    async def lag(self) -> int:
        """Return what the consumers have not confirmed."""
        return sum([await puller.lag() for puller in self._pullers])

    async def close(self) -> None:
        """Stop pulling; what is under way is delivered again to somebody else."""
        await asyncio.gather(*(puller.close() for puller in self._pullers))


def _durable(group: str, topic: str) -> str:
    """Return the name of a consumer, which must have no dots: GROUP@TOPIC."""
    return f"{quote(group, safe='').replace('.', '%2E')}@{topic.replace('.', '-')}"


async def _silent(_: Exception) -> None:
    """Nothing: who waits for the connection says what it waits for."""


def _shown(url: str) -> str:
    """Return *url* without credentials."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
