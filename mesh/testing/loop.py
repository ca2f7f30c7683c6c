"""An event loop whose time is virtual: it jumps to the next timer instead of waiting."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class DeadlockError(RuntimeError):
    """Nothing is ready and no timer is set: nobody will ever wake up."""


class _VirtualSelector(selectors.SelectSelector):
    """Never waits; tells the loop how far its clock is to jump."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise DeadlockError
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs coroutines that wait for nothing real. Hours pass in milliseconds."""

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time, in seconds from the loop's start."""
        return self._virtual.now


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run *main* on a new virtual loop; what it leaves behind is cancelled."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class VirtualClock:
    """The running loop's time; the wall clock began on 1 December 2010."""

    EPOCH_S = 1_291_161_600.0

    def monotonic(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        """Return the loop's time as a date."""
        return self.EPOCH_S + self.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Wait, on the loop's time."""
        await asyncio.sleep(delay_s)
