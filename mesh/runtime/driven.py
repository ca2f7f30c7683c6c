"""Layers without an event loop: a coroutine that only ever pauses is run by driving it.

Layers await the injected clock and the handler inside them, nothing else. So whoever drives them
chooses how to wait: who has nothing else to do keeps its thread until the pause is over, and the
same layers serve sync code, for about a microsecond; for who does not wait, a timer or the call
goes on with them in a thread of a small pool.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Thread
from typing import Any

#: Goes on with calls whose callers do not wait. No pause ever keeps one of its threads.
_POOL = ThreadPoolExecutor(max_workers=8, thread_name_prefix="mesh-sync")


class Pause(ABC):
    """``await`` it: what driven layers may wait for."""

    def __await__(self) -> Generator[Pause, None, None]:
        """Suspend once."""
        yield self

    @abstractmethod
    def block(self) -> None:
        """Keep this thread until it is over."""

    @abstractmethod
    def then(self, step: Callable[[], object]) -> None:
        """Return at once; run *step*, in another thread, when it is over."""


class Rest(Pause):
    """``await Rest(delay_s)``: some time."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def block(self) -> None:
        """Sleep."""
        time.sleep(self._delay_s)

    def then(self, step: Callable[[], object]) -> None:
        """Set a timer."""
        timers = _timers()
        timers.call_soon_threadsafe(timers.call_later, self._delay_s, in_background, step)


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
        SuspendedError: it waits for more than a pause.
    """
    return finish(awaitable.__await__())


def finish(steps: Generator[Any, None, Any]) -> Any:
    """Do the same with the rest of what was begun."""
    while True:
        try:
            pause = pause_of(steps)
        except StopIteration as stop:
            return stop.value
        pause.block()


def pause_of(steps: Generator[Any, None, Any]) -> Pause:
    """Run *steps* to their next pause, and return that.

    Raises:
        StopIteration: they have ended.
        SuspendedError: they wait for something else.
    """
    awaited = next(steps)
    if not isinstance(awaited, Pause):
        close = getattr(steps, "close", None)
        if close is not None:
            close()
        raise SuspendedError(awaited)
    return awaited


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
    """Run *step* in a thread that nobody waits for."""
    _POOL.submit(step)


@cache
def _timers() -> asyncio.AbstractEventLoop:
    """Return an event loop that does nothing but wait, for all who rest."""
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="mesh-sync-timers", daemon=True).start()
    return loop
