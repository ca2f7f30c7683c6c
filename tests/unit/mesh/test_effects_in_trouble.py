"""Effects that nothing but people can help: their code is gone, or wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import Int64Value

from mesh.call import Handler
from mesh.errors import KeyInFlight
from mesh.execution import in_transaction
from mesh.storage.port import Store, Tx

from .bank import Bank, Clock, Till
from .vault import PUT, TAKE, call, coins, number, rows


async def leave_one_open(store: Store, bank: Bank) -> None:
    """Crash while the bank is asked to put 3 under the key "k"."""
    bank.trouble = ["hangs"]
    till = Till(store, bank, Clock())
    put = asyncio.ensure_future(till.put(call(PUT, 3, "k")))
    await bank.reached.wait()
    await till.effects.stop()
    await asyncio.gather(put, return_exceptions=True)


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What the log says, a line each."""
    return [json.loads(record.message) for record in caplog.records if record.name == "mesh"]


def newer(store: Store, bank: Bank) -> Till:
    """A version in which Put is no effect any more."""
    till = Till(store, bank, Clock())
    del till.effects._effects[PUT.path]
    return till


async def test_an_open_effect_without_code_is_told_and_stays(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    bank = Bank()
    await leave_one_open(store, bank)
    till = newer(store, bank)
    assert await till.effects.resume() == 0
    assert till.effects.orphans == {PUT.path: 1}
    (line,) = told(caplog)
    assert (line["level"], line["method"], line["effects"]) == ("error", PUT.path, 1)
    assert len(await rows(store, "SELECT key FROM mesh_effects")) == 1
    assert bank.applied == {}


async def test_even_if_its_contract_is_gone_too(store: Store) -> None:
    await leave_one_open(store, Bank())
    await store.write(lambda tx: tx.execute("UPDATE mesh_effects SET method = '/gone.v1.A/B'"))
    till = Till(store, Bank(), Clock())
    assert await till.effects.resume() == 0
    assert till.effects.orphans == {"/gone.v1.A/B": 1}


async def test_its_undo_is_neither_done_nor_void_until_the_code_is_back(store: Store) -> None:
    bank = Bank()
    await leave_one_open(store, bank)
    till = newer(store, bank)
    for _ in range(2):
        with pytest.raises(KeyInFlight):
            await till.take(call(TAKE, 3, "k/undo", undo_of="k"))
    older = Till(store, bank, Clock())
    await older.effects.resume()
    assert number(await older.take(call(TAKE, 3, "k/undo", undo_of="k"))) == 0
    assert bank.applied == {"k": 3, "k/undo": 3}
    await older.effects.stop()


async def test_what_was_an_effect_does_not_answer_for_it_as_a_transaction(store: Store) -> None:
    """Neither that it is void, nor by doing it: the old version may have done it outside."""

    async def put(tx: Tx, request: Int64Value) -> Int64Value:
        raise AssertionError

    await leave_one_open(store, Bank())
    handler: Handler = in_transaction(put, store)
    with pytest.raises(KeyInFlight):
        await handler(call(PUT, 3, "k"))
    assert await coins(store) == 0


async def test_a_bug_is_shown_with_where_it_is_and_not_each_time(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    till, bugs = Till(store, Bank(), Clock()), 12
    act = till.effects._effects[PUT.path].act
    assert act is not None

    async def wrong(ctx: Any, request: Int64Value) -> Any:
        nonlocal bugs
        if bugs:
            bugs -= 1
            raise KeyError("x")
        return await act(ctx, request)

    till.effects._effects[PUT.path].act = wrong
    await till.put(call(PUT, 3, "k"))
    lines = told(caplog)
    assert [line["level"] for line in lines] == ["error"] * 12
    shown = [line for line in lines if "exception" in line]
    assert [line["attempt"] for line in shown] == [1, 11]
    assert all('raise KeyError("x")' in line["exception"] for line in shown)


async def test_an_outside_that_is_away_is_no_bug(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    bank = Bank(trouble=["lost request", "lost reply"])
    await Till(store, bank, Clock()).put(call(PUT, 3, "k"))
    assert [(one["level"], "exception" in one) for one in told(caplog)] == [("warning", False)] * 2
