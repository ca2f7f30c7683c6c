"""Waiting for the next commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


class Changes:
    """Those who wait for the next commit."""

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def wait(self) -> Awaitable[None]:
        """Return what resolves at the next one."""
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._next)

    def tell(self) -> None:
        """There was one."""
        if self._next and not self._next.done():
            self._next.set_result(None)
