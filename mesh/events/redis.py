"""The bus port on Redis Streams (https://valkey.io/topics/streams-intro).

The broker is Valkey, or Redis from 7.2 on. Each topic is a stream, each group a consumer group of
it that begins at the first event. There must be an append-only file: an event is published once it
is synced there. Streams are in the broker's memory, so they are cut: see `KEEP`. One server, or a
primary with replicas; not a cluster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..runtime.clock import Runtime
from .cloudevents import to_headers
from .port import Deliver, Event
from .redis_group import ACK_WAIT_S, PAYLOAD, RedisSubscription, follow
from .redis_link import RedisLink, Word
from .redis_scripts import PUBLISH, TRIM

#: Events that a topic keeps though every group has confirmed them, for groups to come.
KEEP = 1_000_000
#: How often a topic is cut, in events published by this process.
TRIM_EVERY = 1000
#: How long the broker refuses to store an event twice, by its id.
DUPLICATES_S = 120


class RedisBus:
    """Connections to a Redis or Valkey server; may be used before it is there.

    Args:
        url: ``redis://HOST:PORT``, ``rediss://`` with TLS; with credentials in it or none.
        name: how the server's CLIENT LIST calls these connections.
        keep: events of a topic, beyond which those that every group has confirmed are dropped.
        ack_wait_s: an event that was not confirmed after this long is delivered again.
    """

    def __init__(
        self,
        url: str,
        runtime: Runtime,
        *,
        name: str = "",
        keep: int = KEEP,
        ack_wait_s: float = ACK_WAIT_S,
    ) -> None:
        self._runtime = runtime
        self._keep = keep
        self._ack_wait_s = ack_wait_s
        self._link = RedisLink(url, name)
        self._published: Counter[str] = Counter()

    async def publish(self, event: Event) -> None:
        """Append *event* to its topic's stream; it is on disk when this returns."""
        fields: list[Word] = [part for pair in to_headers(event).items() for part in pair]
        stream, once = _stream(event.topic), f"mesh:published:{event.event_id}"
        await self._link.send(
            *("EVAL", PUBLISH, 2, stream, once, DUPLICATES_S),
            *(*fields, PAYLOAD, event.payload),
            durable=True,
        )
        self._published[stream] += 1
        if self._published[stream] % TRIM_EVERY == 0:
            await self._link.send("EVAL", TRIM, 1, stream, self._keep)

    async def subscribe(
        self, group: str, topics: Sequence[str], deliver: Deliver
    ) -> RedisSubscription:
        """Make *group* and read as it, as soon as the broker is there."""
        streams = [_stream(topic) for topic in topics]
        subscription = RedisSubscription(
            self._link, group, streams, deliver, self._runtime, self._ack_wait_s
        )
        subscription.start()
        return subscription

    async def forget(self, group: str) -> None:
        """Delete *group* from every stream."""
        await follow(self._link, group, [])

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()


def _stream(topic: str) -> str:
    return f"mesh:events:{topic}"
