"""Networks that deliver late: what keys, stored refusals and the barrier are for."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mesh.errors import MeshError, Unavailable
from mesh.saga.steps import DEADLINE_S
from mesh.testing.cluster import Faults
from mesh.testing.loop import VirtualClock
from mesh.testing.network import Message
from tests.saga.shop import Books, Scenario, Shop

Send = Callable[[], Awaitable[Any]]


class Late(Faults):
    """Does something to call number *number* and hands it over again once all is decided."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self._calls = 0
        self._late: Send | None = None

    @property
    def reached(self) -> bool:
        """Whether there was such a call."""
        return self._late is not None

    def _is_it(self, message: Message, send: Send) -> bool:
        self._calls += bool(message.caller)  # the customer's are not counted
        if message.caller and self._calls == self._number:
            self._late = send
            return True
        return False

    async def arrive(self) -> None:
        """Deliver the late message. Nobody waits for its answer any more."""
        if self._late:
            with contextlib.suppress(MeshError):
                await self._late()


class Overtaken(Late):
    """The call is held back, its target out of reach until the saga has given up waiting.

    So the undo arrives first, and the do after everything is over.
    """

    HEALS_AFTER_S = DEADLINE_S + 60.0

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._cut_off = ""
        self._heals_at = 0.0

    async def deliver(self, message: Message, send: Send) -> Any:
        now = VirtualClock().monotonic()
        if self._is_it(message, send):
            self._cut_off, self._heals_at = message.target, now + self.HEALS_AFTER_S
        if message.target == self._cut_off and now < self._heals_at:
            raise Unavailable("cut off")
        return await send()


class Repeated(Late):
    """The call is delivered, and delivered once more when everything is over."""

    async def deliver(self, message: Message, send: Send) -> Any:
        self._is_it(message, send)
        return await send()


async def run_late(folder: Path, scenario: Scenario, faults: Late, restock: int = 0) -> Books:
    """Place an order, let the late message arrive, return the books."""
    async with Shop(folder, faults) as shop:
        await shop.place(scenario)
        if restock:
            await shop.restock(restock)
        await faults.arrive()
        return await shop.books()
