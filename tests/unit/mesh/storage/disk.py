"""A stand-in for the thread in which COMMIT syncs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Disk:
    """Counts COMMITs; holds them while it is `held`; fails those that have an entry in `failures`.

    An entry is what is raised and whether the COMMIT happens all the same.
    """

    def __init__(self) -> None:
        self.commits = 0
        self.failures: list[tuple[Exception, bool]] = []
        self.syncing = asyncio.Event()
        self._go_on = asyncio.Event()
        self._go_on.set()

    def hold(self) -> None:
        """Let COMMITs wait from now on."""
        self.syncing.clear()
        self._go_on.clear()

    def release(self) -> None:
        """Let them go on."""
        self._go_on.set()

    async def __call__(self, commit: Callable[[], Any]) -> Any:
        """Stand for `Runtime.offload`."""
        self.commits += 1
        self.syncing.set()
        await self._go_on.wait()
        error, happens = self.failures.pop(0) if self.failures else (None, True)
        result = commit() if happens else None
        if error:
            raise error
        return result
