"""A second undo under another key, and keys that are to stay without effect for ever."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.errors import KeyInFlight, Refused
from mesh.execution import with_context
from mesh.metadata import VOID

from .bank import Bank, Clock, Till
from .test_execution import Vault
from .vault import PUT, TAKE, call, coins, number, open_vault

VOIDING = {VOID: "1"}


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[Vault]:
    store = open_vault(tmp_path)
    yield Vault(store)
    await store.close()


@pytest.fixture
async def till(tmp_path: Path, bank: Bank) -> AsyncIterator[Till]:
    (tmp_path / "till").mkdir()
    store = open_vault(tmp_path / "till")
    till = Till(store, bank, Clock())
    yield till
    await till.effects.stop()
    await store.close()


async def test_what_was_undone_is_not_undone_under_another_key(vault: Vault) -> None:
    await vault.put(call(PUT, 3, "k"))
    for key in ("k/undo", "k/undo/again1", "k/undo"):
        await vault.take(call(TAKE, 3, key, undo_of="k"))
    assert await coins(vault.store) == 0


async def test_what_was_undone_still_has_its_answer(vault: Vault) -> None:
    await vault.put(call(PUT, 3, "k"))
    await vault.take(call(TAKE, 3, "k/undo", undo_of="k"))
    assert number(await vault.put(call(PUT, 3, "k"))) == 3
    assert await coins(vault.store) == 0


async def test_after_an_undo_that_was_refused_another_one_may_be_made(till: Till) -> None:
    await till.put(call(PUT, 3, "k"))
    with pytest.raises(Refused, match="LIMIT"):
        await till.take(call(TAKE, 300, "k/undo", undo_of="k"))
    await till.take(call(TAKE, 3, "k/undo/again1", undo_of="k"))
    assert await coins(till.store) == 0


async def test_an_undo_waits_for_another_one_of_the_same_do(till: Till, bank: Bank) -> None:
    await till.put(call(PUT, 3, "k"))
    bank.reached.clear()
    bank.trouble = ["hangs"]
    first = asyncio.ensure_future(till.take(call(TAKE, 3, "k/undo", undo_of="k")))
    await bank.reached.wait()
    with pytest.raises(KeyInFlight):
        await till.take(call(TAKE, 3, "k/undo/again1", undo_of="k"))
    bank.go_on.set()
    await first
    await till.take(call(TAKE, 3, "k/undo/again1", undo_of="k"))
    assert bank.applied == {"k": 3, "k/undo": 3}
    assert await coins(till.store) == 0


@pytest.mark.parametrize("declined", [False, True])
async def test_an_effect_that_undoes_remembers_it_over_a_crash(
    till: Till, bank: Bank, declined: bool
) -> None:
    await till.put(call(PUT, 3, "k"))
    bank.reached.clear()
    bank.trouble, bank.declines = ["hangs"], declined
    first = asyncio.ensure_future(till.take(call(TAKE, 3, "k/undo", undo_of="k")))
    await bank.reached.wait()
    await till.effects.stop()
    await asyncio.gather(first, return_exceptions=True)

    after = Till(till.store, bank, Clock())
    assert await after.effects.resume() == 1
    # The next undo waits for the one that was resumed.
    for _ in range(500):
        try:
            await after.take(call(TAKE, 3, "k/undo/again1", undo_of="k"))
            break
        except KeyInFlight:
            bank.declines = bank.declines and bank.calls.count(("k/undo", 3)) < 2
            await asyncio.sleep(0.01)
    else:
        pytest.fail("the first undo does not end")
    assert await coins(after.store) == 0
    assert ("k/undo/again1" in bank.applied) == declined
    await after.effects.stop()


async def test_a_voided_key_never_takes_effect(vault: Vault, till: Till, bank: Bank) -> None:
    for put in (vault.put, till.put):
        for metadata in (VOIDING, VOIDING, {}):
            with pytest.raises(Refused) as refusal:
                await put(call(PUT, 3, "k", metadata=metadata))
            assert refusal.value.reason == "VOIDED"
    assert await coins(vault.store) == 0
    assert bank.calls == []


async def test_voiding_what_took_effect_gets_its_answer(vault: Vault, till: Till) -> None:
    for put in (vault.put, till.put):
        first = await put(call(PUT, 3, "l"))
        assert await put(call(PUT, 3, "l", metadata=VOIDING)) == first


async def test_voiding_what_was_refused_gets_its_refusal(vault: Vault) -> None:
    for metadata in ({}, VOIDING):
        with pytest.raises(Refused, match="FULL"):
            await vault.put(call(PUT, 11, "k", metadata=metadata))


async def test_voiding_an_effect_under_way_brings_it_to_its_end(till: Till, bank: Bank) -> None:
    bank.trouble = ["hangs"]
    put = asyncio.ensure_future(till.put(call(PUT, 3, "k")))
    await bank.reached.wait()
    void = asyncio.ensure_future(till.put(call(PUT, 3, "k", metadata=VOIDING)))
    bank.go_on.set()
    assert number(await void) == number(await put) == 3


async def test_without_a_key_nothing_is_voided_and_nothing_done(vault: Vault) -> None:
    with pytest.raises(Refused, match="VOIDED"):
        await vault.put(call(PUT, 3, metadata=VOIDING))
    assert await coins(vault.store) == 0


async def test_who_keeps_no_keys_says_so_and_does_nothing() -> None:
    async def function(ctx: object, request: object) -> object:
        raise AssertionError("called")

    handler = with_context(function, lambda call: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(Refused, match="KEYLESS"):
        await handler(call(PUT, 3, "k", metadata=VOIDING))
