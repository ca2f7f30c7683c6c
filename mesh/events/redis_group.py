"""Reading streams as a member of a consumer group, for ever, whatever happens to the broker.

To the broker all members of a group are one consumer: each entry goes to whoever reads first, and
one that nobody confirmed within the group's patience goes to whoever claims it. So a member that
dies leaves nothing behind, not even its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..runtime import beside
from ..runtime.clock import Runtime
from ..runtime.logs import log
from .cloudevents import from_headers
from .port import BusError, Deliver
from .redis_link import RedisLink, Word
from .redis_scripts import FOLLOW

#: The field of an entry that holds the message; the others are its headers.
PAYLOAD = b"data"
#: The name that all members share.
MEMBER = "mesh"
#: Events under way at a time.
BATCH = 256
#: How long one read waits for events; also how often abandoned ones are looked for.
BLOCK_S = 1.0
#: A broker that is silent for this much longer is taken for lost.
SILENCE_S = 2.0
RETRY_S = 0.5
ACK_WAIT_S = 30.0
#: An event that nobody could take is delivered again after this long.
AGAIN_S = 1.0

#: An entry's id, and its fields: name, value, name, …
Entry = tuple[bytes, Sequence[bytes]]


async def follow(link: RedisLink, group: str, streams: Sequence[str]) -> None:
    """Have *group* at the first event of each of *streams*, unless it is there, and nowhere else.

    Raises:
        BusError: it is not, or the first events of a stream are gone.
    """
    await link.send("EVAL", FOLLOW, 1 + len(streams), f"mesh:followed:{group}", *streams, group)


class RedisSubscription:
    """One member of a consumer group.

    Args:
        link: to the broker; reading gets a connection of its own.
        ack_wait_s: what was not confirmed for this long is anyone's.
    """

    def __init__(
        self,
        link: RedisLink,
        group: str,
        streams: Sequence[str],
        deliver: Deliver,
        runtime: Runtime,
        ack_wait_s: float,
    ) -> None:
        self._link = link
        self._group = group
        self._streams = streams
        self._deliver = deliver
        self._runtime = runtime
        self._ack_wait_ms = int(ack_wait_s * 1000)
        self._under_way: dict[tuple[str, bytes], asyncio.Task[None]] = {}
        self._ended = asyncio.Event()
        self._closing = False
        self._reading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read from now on."""
        self._reading = beside.begin(self._run())

    async def lag(self) -> int:
        """Return what the group has not confirmed."""
        total = 0
        for stream in self._streams:
            groups = [_pairs(one) for one in await self._link.send("XINFO", "GROUPS", stream)]
            ours = [one for one in groups if one[b"name"].decode() == self._group]
            if not ours or ours[0][b"lag"] is None:
                raise BusError(f"{stream}: the broker does not know what is left")
            total += ours[0][b"lag"] + ours[0][b"pending"]
        return total

    async def close(self) -> None:
        """Stop reading; what is under way is somebody else's at once."""
        self._closing = True
        self._ended.set()
        if self._reading:  # cancelled while it reads, it would take events and not know them
            await asyncio.gather(
                asyncio.wait_for(self._reading, BLOCK_S + SILENCE_S), return_exceptions=True
            )
        left = dict(self._under_way)
        await beside.end(*left.values())
        for stream, entry_id in left:
            await self._give_back(stream, entry_id, after_ms=0)

    async def _run(self) -> None:
        while not self._closing:
            connection = self._link.another(BLOCK_S + SILENCE_S)
            try:
                await follow(self._link, self._group, self._streams)
                await self._read(connection)
            except (BusError, RedisError, OSError) as error:
                log.warning("the subscription begins again", group=self._group, error=str(error))
                await self._runtime.clock.sleep(RETRY_S)
            finally:
                await connection.aclose()

    async def _read(self, connection: Redis) -> None:
        claim_at = 0.0
        new = (*self._streams, *(">" for _ in self._streams))
        while not self._closing:
            now = self._runtime.clock.monotonic()
            if now >= claim_at:
                claim_at = now + BLOCK_S
                await self._claim()
            self._ended.clear()
            free = (BATCH - len(self._under_way)) // len(self._streams)
            if free <= 0:
                await self._ended.wait()
                continue
            answer = await connection.execute_command(  # type: ignore[no-untyped-call]
                *("XREADGROUP", "GROUP", self._group, MEMBER, "COUNT", free),
                *("BLOCK", int(BLOCK_S * 1000), "STREAMS", *new),
            )
            for stream, entries in answer or ():
                self._begin(stream.decode(), entries)

    async def _claim(self) -> None:
        """Take what was not confirmed for long, whoever had it."""
        for stream in self._streams:
            free = BATCH - len(self._under_way)
            if free <= 0:
                return
            answer = await self._link.send(
                *("XAUTOCLAIM", stream, self._group, MEMBER, self._ack_wait_ms),
                *("0", "COUNT", free),
            )
            self._begin(stream, answer[1])

    def _begin(self, stream: str, entries: Sequence[Entry]) -> None:
        for entry_id, fields in entries:
            place = (stream, entry_id)
            if place in self._under_way:  # claimed from ourselves: it takes long, and goes on
                continue
            task = beside.begin(self._confirm(stream, entry_id, fields))
            self._under_way[place] = task
            task.add_done_callback(self._ending(place))

    def _ending(self, place: tuple[str, bytes]) -> Callable[[asyncio.Task[None]], None]:
        def ended(_: asyncio.Task[None]) -> None:
            self._under_way.pop(place, None)
            self._ended.set()

        return ended

    async def _confirm(self, stream: str, entry_id: bytes, fields: Sequence[bytes]) -> None:
        try:
            found = _pairs(fields)
            payload = found.pop(PAYLOAD)
            headers = {name.decode(): value.decode() for name, value in found.items()}
            await self._deliver(from_headers(headers, payload))
        except Exception as error:  # noqa: BLE001  # whatever it was, it is delivered again
            log.warning("an event could not be taken", error=type(error).__name__)
            await self._give_back(stream, entry_id, after_ms=int(AGAIN_S * 1000))
        else:
            await self._send("XACK", stream, self._group, entry_id)

    async def _give_back(self, stream: str, entry_id: bytes, after_ms: int) -> None:
        """Let *entry_id* be claimed after *after_ms*."""
        idle_ms = max(0, self._ack_wait_ms - after_ms)
        await self._send(
            *("XCLAIM", stream, self._group, MEMBER, 0, entry_id),
            *("IDLE", idle_ms, "JUSTID"),
        )

    async def _send(self, *command: Word) -> None:
        try:
            await self._link.send(*command)
        except BusError as error:  # it is delivered again, in time
            log.debug("the broker was not told", error=str(error))


def _pairs(flat: Sequence[Any]) -> dict[bytes, Any]:
    """Return a list of names and values as what it means."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
