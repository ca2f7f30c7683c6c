"""Effects that are undone, before they were done, after, and meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from mesh.errors import Refused

from .bank import Bank, Clock, Till
from .vault import PUT, TAKE, call, coins, log, number


async def test_an_undo_takes_back_its_do_once(till: Till, bank: Bank) -> None:
    await till.put(call(PUT, 3, "k"))
    for _ in range(2):
        assert number(await till.take(call(TAKE, 3, "k/undo", undo_of="k"))) == 0
    assert bank.calls == [("k", 3), ("k/undo", 3)]


async def test_an_undo_before_its_do_voids_it_and_reaches_nobody(till: Till, bank: Bank) -> None:
    for _ in range(2):
        await till.take(call(TAKE, 3, "k/undo", undo_of="k"))
    with pytest.raises(Refused) as refusal:
        await till.put(call(PUT, 3, "k"))
    assert refusal.value.reason == "VOIDED"
    assert bank.calls == []
    assert await coins(till.store) == 0


@pytest.mark.parametrize("amount", [3, 101], ids=["by the outside", "at the intent"])
async def test_an_undo_of_what_was_refused_reaches_nobody(
    till: Till, bank: Bank, amount: int
) -> None:
    bank.declines = True
    with pytest.raises(Refused):
        await till.put(call(PUT, amount, "k"))
    reached = len(bank.calls)
    bank.declines = False
    await till.take(call(TAKE, amount, "k/undo", undo_of="k"))
    assert len(bank.calls) == reached
    assert await coins(till.store) == 0


@pytest.mark.parametrize("crashed", [False, True])
async def test_an_undo_of_an_open_effect_first_brings_it_to_its_end(
    till: Till, bank: Bank, clock: Clock, crashed: bool
) -> None:
    bank.trouble = ["hangs", "lost request"]
    put = asyncio.ensure_future(till.put(call(PUT, 3, "k")))
    await bank.reached.wait()
    if crashed:
        await till.effects.stop()
        await asyncio.gather(put, return_exceptions=True)
        till = Till(till.store, bank, clock)
    undo = asyncio.ensure_future(till.take(call(TAKE, 3, "k/undo", undo_of="k")))
    bank.go_on.set()
    assert number(await undo) == 0
    assert (await log(till.store))[1:] == [
        *("moved 3 for alice", "intends 3 for alice", "moved -3 for alice")
    ]
    assert bank.applied == {"k": 3, "k/undo": 3}
    assert bank.calls[-1] == ("k/undo", 3)
    assert number(await till.put(call(PUT, 3, "k"))) == 3
    await till.effects.stop()
