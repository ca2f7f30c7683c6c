"""Reading streams so that what is left early ends at once.

`async for` alone leaves an abandoned generator to the garbage collector, and with it the permit
of a breaker, the end of a span and the cancellation of a call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ..errors import MeshError


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
