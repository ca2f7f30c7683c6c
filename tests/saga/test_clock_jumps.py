"""The wall clock of one service, or of all, jumps an hour, back or forth, while orders are placed.

Time on the wall is for people. What waits, waits as long as it was meant to; no saga is given up
because of it, and nobody waits an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.testing.cluster import Faults, Point
from mesh.testing.loop import run_virtual
from mesh.testing.network import Message
from tests.e2e.books import check
from tests.saga.orders import WITH_SLOW, close, fates, order_everything, states
from tests.saga.shop import SERVICES, Shop

HOUR_S = 3600.0
#: Orders take a few seconds in a system whose messages take so long; a saga may take 600.
MESSAGE_S, SOON_S = 0.5, 60.0


class Jump(Faults):
    """The clock of *who* jumps when so many messages have been sent; then *who* may die."""

    def __init__(self, who: str, by_s: float, messages: int, *, dies: bool) -> None:
        super().__init__()
        self._who = who
        self._by_s = by_s
        self._messages = messages
        self._dies = dies

    def skew_s(self, node: str) -> float:
        return self._by_s if self._messages <= 0 and self._who in (node, "all") else 0.0

    def kills(self, point: Point) -> bool:
        dies = self._dies and self._messages <= 0 and point.node == self._who
        self._dies = self._dies and not dies
        return dies

    async def deliver(self, message: Message, send: Callable[[], Awaitable[Any]]) -> Any:
        self._messages -= 1
        await asyncio.sleep(MESSAGE_S)
        return await send()


async def order_around(jump: Jump, folder: Path) -> float:
    """Order everything; return how long that took."""
    async with Shop(folder, jump) as shop:
        clock = shop.cluster.runtime.clock
        began = clock.monotonic()
        await order_everything(shop, WITH_SLOW)
        took_s = clock.monotonic() - began
        await close(shop)
        return took_s


@pytest.mark.parametrize(("messages", "dies"), [(5, False), (40, False), (40, True)])
@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S], ids=["forth", "back"])
@pytest.mark.parametrize("who", [*SERVICES, "all"])
def test_orders_do_not_notice(
    who: str, by_s: float, messages: int, dies: bool, tmp_path: Path
) -> None:
    took_s = run_virtual(order_around(Jump(who, by_s, messages, dies=dies), tmp_path))
    books, decided = states(tmp_path)
    check(books)
    if dies and who == "orchestrator" and by_s > 0:  # to the next life it was away for an hour
        decided = {name: state for name, state in decided.items() if state != "CANCELLED"}
        assert decided.items() <= fates(WITH_SLOW).items()
    else:
        assert decided == fates(WITH_SLOW)
    assert took_s < SOON_S
