"""One connection to Redis or Valkey that everybody shares.

Commands that wait go out together, as one pipeline: so what many publish at once costs one fsync.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ..runtime import beside
from .port import BusError

CONNECT_TIMEOUT_S = 1.0
TIMEOUT_S = 5.0
#: How long the broker may take to have a batch on its disk, before the connection's timeout.
SYNC_TIMEOUT_MS = 4000
#: Commands in one pipeline.
BATCH = 256

Word = str | bytes | int


class RedisLink:
    """The connection for commands that are answered at once."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._client = self.another(TIMEOUT_S)
        self._waiting: deque[tuple[tuple[Word, ...], bool, asyncio.Future[Any]]] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def send(self, *command: Word, durable: bool = False) -> Any:
        """Return the answer to *command*; if *durable*, once what it wrote is on the disk.

        Raises:
            BusError: it was refused, or nobody knows.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, durable, answer))
        if self._sending is None or self._sending.done():
            self._sending = beside.begin(self._send_all())
        return await answer

    def another(self, timeout_s: float) -> Redis:
        """Return a connection for its user alone, which is made when it is used.

        It repeats nothing by itself, and leaves answers as they come: bytes, numbers, lists.
        """
        client = Redis.from_url(
            self._url,
            client_name=self._name or None,
            single_connection_client=True,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        client.response_callbacks.clear()
        return client

    async def close(self) -> None:
        """Close the connection; nobody waits for an answer any more."""
        await beside.end(self._sending)
        await self._client.aclose()

    async def _send_all(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            durable = any(durable for _, durable, _ in batch)
            try:
                answers = await self._execute([command for command, _, _ in batch], durable)
            except (RedisError, OSError) as error:
                answers = [error] * (len(batch) + durable)
            unsynced = _why_not_synced(answers.pop()) if durable else None
            for (_, kept, waiter), answer in zip(batch, answers, strict=True):
                _settle(waiter, (unsynced if kept else None) or answer)

    async def _execute(self, commands: Sequence[tuple[Word, ...]], durable: bool) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        if durable:
            pipeline.execute_command("WAITAOF", 1, 0, SYNC_TIMEOUT_MS)
        return list(await pipeline.execute(raise_on_error=False))


def _why_not_synced(answer: Any) -> Exception | None:
    """Return what is wrong with an answer to WAITAOF: how many servers have it on their disk."""
    if isinstance(answer, Exception):
        return answer
    return None if answer[0] else BusError("the broker does not have it on its disk in time")


def _settle(waiter: asyncio.Future[Any], answer: Any) -> None:
    if waiter.done():  # whoever waited is gone
        return
    if isinstance(answer, Exception):
        waiter.set_exception(BusError(f"{type(answer).__name__}: {answer}"))
    else:
        waiter.set_result(answer)
