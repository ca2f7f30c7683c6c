"""Two orders for the last item on the shelf, at once, while nodes die."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from mesh.testing.cluster import Faults
from mesh.testing.loop import run_virtual
from tests.saga.shop import SCENARIOS, STOCK, Books, Shop
from tests.saga.test_crash_points import KillAt

#: Each takes all there is.
GREEDY = replace(SCENARIOS[0], quantity=STOCK)
PRICE = STOCK * 255


async def both(folder: Path, faults: Faults) -> tuple[Books, Books]:
    """Place both orders at once; return the books of each."""
    async with Shop(folder, faults) as shop:
        await asyncio.gather(shop.place(GREEDY, "o-1"), shop.place(GREEDY, "o-2"))
        return await shop.books("o-1"), await shop.books("o-2")


def check(one: Books, other: Books) -> None:
    """One has it, and paid; the other has nothing, and paid nothing."""
    assert sorted([one.order, other.order]) == ["CANCELLED", "CONFIRMED"]
    assert sorted([one.shipment, other.shipment]) == ["", "RELEASED"]
    assert one.stock == (0, 0, STOCK)
    assert one.at_provider == one.in_ledger == PRICE
    assert one.unfinished == 0
    assert [s.refusal.reason for s in one.sagas if s.refusal.reason] == ["OUT_OF_STOCK"]


def test_one_of_them_gets_it_whoever_dies(tmp_path: Path) -> None:
    calm = Faults()
    check(*run_virtual(both(tmp_path / "calm", calm)))
    for number in range(1, len(calm.points) + 1):
        check(*run_virtual(both(tmp_path / str(number), KillAt(number))))
