"""Reading streams so that what is left early ends at once.

`async for` alone leaves an abandoned generator to the garbage collector, and with it the permit
of a breaker, the end of a span and the cancellation of a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from ..errors import MeshError
from ..runtime.cancelling import is_stopped


class Reading:
    """``async with Reading(replies)``: closes *replies* whichever way the block ends."""

    def __init__(self, replies: AsyncIterator[Any]) -> None:
        self._replies = replies

    async def __aenter__(self) -> AsyncIterator[Any]:
        return self._replies

    async def __aexit__(self, *_: object) -> None:
        close = getattr(self._replies, "aclose", None)
        if close is not None:
            await close()


class Requests:
    """The requests that a transport sends; if they fail, the call is cancelled.

    Their failure is the caller's own: ``async with`` them, it is raised in place of what the
    cancelled call ends with.
    """

    def __init__(self, requests: AsyncIterator[Any]) -> None:
        self._requests = requests
        self._failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for request in self._requests:
                yield request
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller hears it
            self._failure = error
            raise asyncio.CancelledError from None

    async def __aenter__(self) -> Requests:
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._failure and isinstance(error, asyncio.CancelledError) and not is_stopped(error):
            raise self._failure from None


async def nothing() -> AsyncIterator[Any]:
    """Yield no messages: what a client that does not stream has beside its request."""
    messages: tuple[Any, ...] = ()
    for message in messages:
        yield message


async def only(replies: AsyncIterator[Any]) -> Any:
    """Return the one message of *replies*, of a method whose server does not stream.

    They are read to their end: one that is left before has not succeeded, it was cancelled.

    Raises:
        MeshError: there is none, or more than one.
    """
    async with Reading(replies):
        found = [reply async for reply in replies]
    if len(found) != 1:
        raise MeshError(f"{len(found)} replies where the contract has one")
    return found[0]
