"""Effects: whatever happens between intent, outside call and answer, there is one answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import Int64Value
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan

from mesh.call import Call
from mesh.effects import BACKOFF
from mesh.errors import AlreadyExists, Refused
from mesh.metadata import CORRELATION_ID, TRACEPARENT
from mesh.scope import Scope, parse_traceparent, scope
from mesh.storage.port import Tx

from .bank import Bank, Clock, Till, open_effects, until_called, until_settled
from .vault import BOB, PUT, call, coins, log, note, number

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


# --- without trouble ----------------------------------------------------------------------------


async def test_intent_then_outside_then_answer(till: Till, bank: Bank) -> None:
    assert number(await till.put(call(PUT, 3, "k"))) == 3
    assert bank.calls == [("k", 3)]
    assert await log(till.store) == ["intends 3 for alice", "moved 3 for alice"]
    assert await open_effects(till.store) == 0


async def test_the_intent_is_durable_before_the_outside_hears_of_it(till: Till, bank: Bank) -> None:
    bank.trouble = ["hangs"]
    put = asyncio.ensure_future(till.put(call(PUT, 3, "k")))
    await bank.reached.wait()
    assert await log(till.store) == ["intends 3 for alice"]
    assert await open_effects(till.store) == 1
    bank.go_on.set()
    await put


async def test_a_repeated_call_gets_the_answer_and_reaches_nobody(till: Till, bank: Bank) -> None:
    for _ in range(3):
        assert number(await till.put(call(PUT, 3, "k"))) == 3
    assert len(bank.calls) == till.settled == 1


async def test_a_key_is_for_one_request(till: Till, bank: Bank) -> None:
    bank.trouble = ["hangs"]
    put = asyncio.ensure_future(till.put(call(PUT, 3, "k")))
    await bank.reached.wait()
    for _ in range(2):  # while it is open, and afterwards
        with pytest.raises(AlreadyExists, match="another request"):
            await till.put(call(PUT, 4, "k"))
        bank.go_on.set()
        await put
    assert bank.applied == {"k": 3}


async def test_without_a_key_it_gets_one(till: Till, bank: Bank) -> None:
    await till.put(call(PUT, 3))
    await till.put(call(PUT, 3))
    assert len(bank.applied) == 2
    assert await coins(till.store) == 6


# --- refusals -----------------------------------------------------------------------------------


async def test_a_refused_intent_reaches_nobody_and_is_remembered(till: Till, bank: Bank) -> None:
    for _ in range(2):
        with pytest.raises(Refused, match="too much"):
            await till.put(call(PUT, 101, "k"))
    assert bank.calls == []
    assert await log(till.store) == []
    assert await open_effects(till.store) == 0


async def test_a_no_of_the_outside_is_kept_with_what_settling_wrote(till: Till, bank: Bank) -> None:
    bank.declines = True
    for _ in range(2):
        with pytest.raises(Refused, match="the bank says no"):
            await till.put(call(PUT, 3, "k"))
    assert len(bank.calls) == 1
    assert await coins(till.store) == 0
    assert await log(till.store) == ["intends 3 for alice", "declined 3"]
    assert await open_effects(till.store) == 0


# --- an outside that is hard to reach -----------------------------------------------------------


@pytest.mark.parametrize("trouble", ["lost request", "lost reply"])
async def test_it_is_tried_again_with_the_same_key_until_there_is_an_answer(
    till: Till, bank: Bank, clock: Clock, trouble: str
) -> None:
    bank.trouble = [trouble] * 5
    assert number(await till.put(call(PUT, 3, "k"))) == 3
    assert bank.calls == [("k", 3)] * 6
    assert bank.applied == {"k": 3}
    assert till.settled == 1
    ceilings = [BACKOFF.ceiling_s(n) for n in range(1, 6)]
    assert len(clock.slept) == 5
    assert all(0 <= slept <= most for slept, most in zip(clock.slept, ceilings, strict=True))


async def test_settling_is_tried_again_too(till: Till, bank: Bank) -> None:
    effect = till.effects._effects[PUT.path]
    settle, fails = effect.record, [ValueError("a bug"), TypeError("another")]
    assert settle is not None

    async def fragile(tx: Tx, request: Int64Value, result: str) -> Any:
        await note(tx, "half done")
        if fails:
            raise fails.pop()
        return await settle(tx, request, result)

    effect.record = fragile
    assert number(await till.put(call(PUT, 3, "k"))) == 3
    assert (await log(till.store))[1:] == ["half done", "moved 3 for alice"]


async def test_concurrent_callers_share_one_flight(till: Till, bank: Bank) -> None:
    bank.trouble = ["hangs"]
    puts = [asyncio.ensure_future(till.put(call(PUT, 3, "k"))) for _ in range(5)]
    await bank.reached.wait()
    bank.go_on.set()
    assert {number(reply) for reply in await asyncio.gather(*puts)} == {3}
    assert len(bank.calls) == till.settled == 1


async def test_two_callers_with_one_key_are_two_effects(till: Till, bank: Bank) -> None:
    await asyncio.gather(till.put(call(PUT, 3, "k")), till.put(call(PUT, 3, "k", principal=BOB)))
    assert till.settled == 2


async def test_when_its_caller_leaves_an_effect_goes_on(till: Till, bank: Bank) -> None:
    bank.trouble = ["hangs"]
    put = asyncio.ensure_future(till.put(call(PUT, 3, "k")))
    await bank.reached.wait()
    put.cancel()
    await asyncio.gather(put, return_exceptions=True)
    assert put.cancelled()
    bank.go_on.set()
    await until_settled(till.store)
    assert await coins(till.store) == 3
    assert number(await till.put(call(PUT, 3, "k"))) == 3
    assert len(bank.calls) == 1


# --- crashes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["hangs", "hangs after"])
@pytest.mark.parametrize("declines", [False, True])
async def test_a_crash_around_the_outside_call_leaves_one_answer(
    till: Till, bank: Bank, clock: Clock, point: str, declines: bool
) -> None:
    bank.trouble, bank.declines = [point], declines
    put = asyncio.ensure_future(till.put(call(PUT, 3, "k")))
    await bank.reached.wait()
    await till.effects.stop()
    await asyncio.gather(put, return_exceptions=True)
    assert await open_effects(till.store) == 1

    after = Till(till.store, bank, clock)
    assert await after.effects.resume() == 1
    for _ in range(2):
        if declines:
            with pytest.raises(Refused, match="the bank says no"):
                await after.put(call(PUT, 3, "k"))
        else:
            assert number(await after.put(call(PUT, 3, "k"))) == 3
    assert bank.calls == [("k", 3)] * 2
    assert bank.applied == ({} if declines else {"k": 3})
    assert await coins(till.store) == (0 if declines else 3)
    assert after.settled == 1
    assert await after.effects.resume() == 0
    await after.effects.stop()


async def test_a_resumed_effect_ends_though_nobody_asks_again(
    till: Till, bank: Bank, clock: Clock
) -> None:
    bank.trouble = ["hangs"]
    put = asyncio.ensure_future(till.put(call(PUT, 3, "k")))
    await bank.reached.wait()
    await till.effects.stop()
    await asyncio.gather(put, return_exceptions=True)
    after = Till(till.store, bank, clock)
    await after.effects.resume()
    await until_settled(till.store)
    assert await coins(till.store) == 3
    await after.effects.stop()


async def test_two_processes_on_one_database_settle_once(
    till: Till, bank: Bank, clock: Clock
) -> None:
    bank.trouble = ["hangs after", "hangs after"]
    other = Till(till.store, bank, clock)
    puts = [asyncio.ensure_future(one.put(call(PUT, 3, "k"))) for one in (till, other)]
    await until_called(bank, 2)
    bank.go_on.set()
    assert {number(reply) for reply in await asyncio.gather(*puts)} == {3}
    assert till.settled + other.settled == 1
    assert await coins(till.store) == 3
    await other.effects.stop()


# --- what it inherits ---------------------------------------------------------------------------


async def begin(till: Till, arriving: Call, correlation_id: str, parent: str) -> asyncio.Task[Any]:
    """Serve *arriving* in a scope of its own, as the server's layers would."""

    async def served() -> Any:
        scope.set(Scope(correlation_id=correlation_id, deadline=12.5))
        span = parse_traceparent(parent)
        assert span
        with trace.use_span(NonRecordingSpan(span)):
            return await till.put(arriving)

    return asyncio.create_task(served())


@pytest.mark.parametrize("metadata", [{}, {CORRELATION_ID: "not / valid", TRACEPARENT: "neither"}])
async def test_correlation_and_trace_go_outside_the_deadline_does_not(
    till: Till, bank: Bank, metadata: dict[str, str]
) -> None:
    """What the server's layers made of the metadata counts, not the metadata."""
    await (await begin(till, call(PUT, 3, "k", metadata=metadata), "c-1", PARENT))
    assert bank.inherited == [("c-1", float("inf"), PARENT)]


async def test_they_survive_a_crash(till: Till, bank: Bank, clock: Clock) -> None:
    bank.trouble = ["hangs"]
    put = await begin(till, call(PUT, 3, "k"), "c-1", PARENT)
    await bank.reached.wait()
    await till.effects.stop()
    await asyncio.gather(put, return_exceptions=True)
    after = Till(till.store, bank, clock)
    await after.effects.resume()
    await until_called(bank, 2)
    assert bank.inherited[1] == ("c-1", float("inf"), PARENT)
    await after.effects.stop()
