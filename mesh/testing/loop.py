"""An event loop of its own: virtual time, a seeded order, and processes that die at any await.

Nothing waits: when nothing is ready, time jumps to the next timer. With a `Random`, which of the
ready callbacks runs next is drawn from it, so that every order that could happen does in some
seed. Each callback belongs to the process that made it; those of a dead one never run, and
nothing of it is collected while the loop is used, since that would run its ``finally`` blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import itertools
import sys
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextvars import Context, copy_context
from random import Random
from typing import Any, TypeVar, cast

from .process import Handle, Process, Task, running_as

T = TypeVar("T")

#: More callbacks than any run makes that comes to an end.
STEPS_MAX = 5_000_000
#: So often a loop begins with looking for garbage in the whole process.
LOOK_EVERYWHERE_LOOPS = 200


class DeadlockError(RuntimeError):
    """Nothing is ready and no timer is set: nobody will ever wake up."""


class LivelockError(RuntimeError):
    """It goes on and on."""


class SimulatedLoop:
    """As much of an event loop as coroutines need that wait for nothing real.

    Args:
        random: draws which ready callback is next; None takes them in turn.
    """

    def __init__(self, random: Random | None = None) -> None:
        _set_older_aside()
        self._random = random
        self._now_s = 0.0
        self._ready: list[Handle] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = itertools.count()
        self._tasks: list[Task] = []
        self._tasks_kept = 1000
        self._grave: list[Any] = []
        self._closed = False
        self.steps = 0
        #: What callbacks raised, and generators that could not be closed.
        self.errors: list[BaseException] = []

    # --- what asyncio asks of a loop

    def time(self) -> float:
        """Return the virtual time, in seconds from the loop's start."""
        return self._now_s

    def get_debug(self) -> bool:
        """Return False."""
        return False

    def is_running(self) -> bool:
        """Return True: it is used from within only."""
        return True

    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        """Run *callback* when its turn comes."""
        handle = Handle(callback, args, _or_current(context), self._now_s)
        if not self._closed:
            self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        """Run *callback* in *delay* seconds."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        """Run *callback* at the time *when*."""
        handle = Handle(callback, args, _or_current(context), when)
        if not self._closed:
            heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=cast("asyncio.AbstractEventLoop", self))

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: str = "", context: Context | None = None
    ) -> asyncio.Task[T]:
        """Run *coro*, as the process that is running unless *context* says another."""
        if context is not None and running_as not in context:
            context.run(running_as.set, running_as.get())
        task = Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        if len(self._tasks) > self._tasks_kept:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._tasks_kept = 2 * len(self._tasks) + 1000
        return cast("asyncio.Task[T]", task)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what went wrong where nobody could be told."""
        error = context.get("exception")
        if error is not None and not self._closed:
            self.errors.append(error)

    # --- running

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run *main* to its end, whatever else there is to do.

        Raises:
            DeadlockError: nothing is left to do, and it has not ended.
            LivelockError: it does not end.
        """
        with self._running():
            task = self.create_task(main)
            while not task.done():
                self._step()
            return task.result()

    def go_on(self, process: Process) -> None:
        """Let *process* do what it had to do while it was stopped."""
        self._ready += process.stopped or ()
        process.stopped = None

    def cancel_all(self) -> None:
        """Cancel what still runs, and wait for it."""
        with self._running():
            left = [task for task in self._tasks if not task.done() and not task.is_dead()]
            for task in left:
                task.cancel()
            while not all(task.done() for task in left):
                self._step()

    def close(self) -> None:
        """Drop everything that has not ended. What dropping runs finds a closed loop."""
        self._closed = True
        with self._running(), _ignoring_unraisable():
            for task in self._tasks:
                if not task.done():
                    task.drop()
            self._ready.clear()
            self._timers.clear()
            self._tasks.clear()
            self._grave.clear()
            gc.collect()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        loop = cast("asyncio.AbstractEventLoop", self)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=self._close_generator)
        asyncio._set_running_loop(loop)  # noqa: SLF001  # what every loop calls
        try:
            yield
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001
            sys.set_asyncgen_hooks(*hooks)

    def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """A generator was left before its end. As in any loop, a task closes it."""
        process = running_as.get()
        if self._closed or (process is not None and process.dead):
            self._grave.append(generator)
        else:
            self.call_soon(self.create_task, generator.aclose())

    def _step(self) -> None:
        ready = self._ready
        if not ready:
            self._advance()
        chosen = self._random.randrange(len(ready)) if self._random and len(ready) > 1 else 0
        handle = ready.pop(chosen)
        callback = handle.callback
        if callback is None:
            return
        process = handle.context.get(running_as)
        if process is not None:
            if process.stopped is not None:
                process.stopped.append(handle)
                return
            if not process.dead:
                process.fuse -= 1
                if process.fuse == 0:
                    process.burn_out()
            if process.dead:
                self._grave.append(handle)
                return
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise LivelockError(f"{STEPS_MAX:,} steps, and no end")
        try:
            handle.context.run(callback, *handle.args)
        except Exception as error:  # noqa: BLE001  # as any loop does
            self.errors.append(error)

    def _advance(self) -> None:
        """Go on to the next timer."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        if not timers:
            raise DeadlockError("nothing is ready and no timer is set")
        self._now_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= self._now_s:
            self._ready.append(heapq.heappop(timers)[2])


def _or_current(context: Context | None) -> Context:
    return copy_context() if context is None else context  # an empty one is false


_loops = itertools.count()


def _set_older_aside() -> None:
    """Let garbage be looked for in what is made from now on.

    Each loop looks for it when it is closed; in all of a large process, that took longer than the
    run. What was set aside and has become garbage meanwhile is found every so many loops.
    """
    if next(_loops) % LOOK_EVERYWHERE_LOOPS == 0:
        gc.unfreeze()
    with _ignoring_unraisable():  # what the loop before has left is found now
        gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _ignoring_unraisable() -> Iterator[None]:
    """What abandoned code does when it is dropped is nobody's concern."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # coroutines that were never awaited
            yield
    finally:
        sys.unraisablehook = hook


def run_virtual(main: Coroutine[Any, Any, T], random: Random | None = None) -> T:
    """Run *main* on a new loop; what it leaves behind is cancelled."""
    loop = SimulatedLoop(random)
    try:
        try:
            return loop.run(main)
        finally:
            loop.cancel_all()
    finally:
        loop.close()


class VirtualClock:
    """The running loop's time; the wall clock began on 1 December 2010.

    Args:
        skew_s: by how much the wall clock is wrong, now.
    """

    EPOCH_S = 1_291_161_600.0

    def __init__(self, skew_s: Callable[[], float] = lambda: 0.0) -> None:
        self._skew_s = skew_s

    def monotonic(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        """Return the loop's time as a date."""
        return self.EPOCH_S + self.monotonic() + self._skew_s()

    async def sleep(self, delay_s: float) -> None:
        """Wait, on the loop's time."""
        await asyncio.sleep(delay_s)
