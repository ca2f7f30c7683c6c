"""Layers without an event loop: a coroutine that never suspends is run by driving it once.

Layers await the injected clock and the handler inside them, nothing else. On a clock that blocks,
around a handler that blocks, none of them ever suspends: so the same layers serve sync code, for
about a microsecond.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

#: Goes on with calls whose callers do not wait: never more than these at a time.
_POOL = ThreadPoolExecutor(max_workers=8, thread_name_prefix="mesh-sync")


class SuspendedError(RuntimeError):
    """A layer awaits something that only an event loop could bring."""

    def __init__(self, awaited: object) -> None:
        super().__init__(
            f"a layer of a sync stack awaits {awaited!r}: it may await only its clock and the"
            " handler inside it"
        )


def drive(awaitable: Awaitable[Any]) -> Any:
    """Run *awaitable* to its end in this thread; return its result or raise what it raises.

    Raises:
        SuspendedError: it suspends.
    """
    steps = awaitable.__await__()
    try:
        awaited = next(steps)
    except StopIteration as stop:
        return stop.value
    close = getattr(steps, "close", None)
    if close is not None:
        close()
    raise SuspendedError(awaited)


def iterate(messages: AsyncIterator[Any]) -> Iterator[Any]:
    """Yield *messages*; leaving them early closes them."""
    try:
        while True:
            try:
                message = drive(messages.__anext__())
            except StopAsyncIteration:
                return
            yield message
    finally:
        close = getattr(messages, "aclose", None)
        if close is not None:
            drive(close())


async def blocking(messages: Iterable[Any]) -> AsyncIterator[Any]:
    """Yield *messages*, each of which may block this thread."""
    for message in messages:
        yield message


def in_background(step: Callable[[], object]) -> None:
    """Run *step*, which may block, in a thread that nobody waits for."""
    _POOL.submit(step)
