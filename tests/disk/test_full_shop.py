"""A disk without room for a minute, at each service in turn, while orders are placed."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from mesh.metadata import UNDO_OF
from mesh.testing.cluster import Faults
from mesh.testing.loop import run_virtual
from mesh.testing.network import CallMessage, Message
from tests.disk.disk import Disk
from tests.e2e.books import check
from tests.saga.orders import DECIDED, close, order_everything, states
from tests.saga.shop import SERVICES, Shop

#: For so long there is no room. A saga gives up its steps after 600 s, its undos never.
FULL_S, UNDO_FULL_S = 60.0, 1800.0


class FullDisk(Faults):
    """No room for a service's database, from its n-th write on; if n is 0, from its first undo."""

    def __init__(self, service: str, writes: int) -> None:
        super().__init__()
        self.turned_away = 0
        self._service = service
        self._writes = writes or math.inf
        self._full_s = FULL_S if writes else UNDO_FULL_S
        self._until = math.inf
        self._now: Callable[[], float] = lambda: 0.0

    async def run(self, disk: Disk, folder: Path) -> None:
        """Order everything on this disk."""
        async with Shop(folder, self) as shop:
            self._now = shop.cluster.runtime.clock.monotonic
            disk.before_write = self._write
            await order_everything(shop)
            await close(shop)

    async def deliver(self, message: Message, send: Callable[[], Awaitable[Any]]) -> Any:
        undoing = isinstance(message, CallMessage) and UNDO_OF in message.call.metadata
        if self._writes == math.inf and undoing and message.target == self._service:
            self._writes = 1
        return await send()

    def _write(self, file: str) -> None:
        if not file.startswith(f"{self._service}.db"):
            return
        self._writes -= 1
        if self._writes == 0:
            self._until = self._now() + self._full_s
        if self._writes <= 0 and self._now() < self._until:
            self.turned_away += 1
            raise apsw.exception_for(apsw.SQLITE_FULL)


WRITING = [service for service in SERVICES if service != "user"]


@pytest.mark.parametrize(
    ("service", "writes"),
    [
        *((service, writes) for service in WRITING for writes in (1, 10)),
        *((service, 0) for service in ("order", "inventory", "payment")),
    ],
)
def test_orders_wait_for_room_and_nothing_is_lost(
    service: str, writes: int, turn: int, tmp_path: Path
) -> None:
    full = FullDisk(service, writes + turn if writes else 0)
    with Disk.in_use(tmp_path) as disk:
        run_virtual(full.run(disk, tmp_path))
    books, decided = states(tmp_path)
    check(books)
    assert decided == DECIDED
    assert full.turned_away > 5
