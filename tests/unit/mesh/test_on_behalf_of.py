"""Every transaction of a call knows who called, and under which correlation id."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from mesh.call import Call, Principal
from mesh.effects import Effects
from mesh.execution import in_transaction, on_snapshot
from mesh.runtime.clock import Runtime
from mesh.scope import Scope, scope
from mesh.service import Context, Effect
from mesh.storage.port import Store, Tx

from .vault import ALICE, BOB, COUNT, PUT, TAKE, call

Seen = list[tuple[Principal, str]]


@pytest.fixture
def seen() -> Seen:
    return []


async def served(correlation_id: str, answer: Awaitable[Any]) -> Any:
    """Await *answer* in a scope of its own, as the server's layers would."""

    async def serve() -> Any:
        scope.set(Scope(correlation_id=correlation_id))
        return await answer

    return await asyncio.create_task(serve())


async def test_in_an_rpc(store: Store, seen: Seen) -> None:
    async def look(tx: Tx, request: Any) -> Int64Value:
        seen.append((tx.principal, tx.correlation_id))
        return Int64Value()

    put, count = in_transaction(look, store), on_snapshot(look, store)
    await served("c-1", put(call(PUT, 1, "k")))
    await served("c-2", count(call(COUNT, StringValue(), principal=BOB)))
    assert seen == [(ALICE, "c-1"), (BOB, "c-2")]


async def test_in_a_call(store: Store, seen: Seen) -> None:
    async def look(tx: Tx) -> None:
        seen.append((tx.principal, tx.correlation_id))

    ctx: Context[None] = Context(None, store, Runtime(), call(COUNT, StringValue()))

    async def serve() -> None:
        await ctx.write(look)
        await ctx.read(look)

    await served("c-1", serve())
    assert seen == [(ALICE, "c-1")] * 2


async def test_in_both_transactions_of_an_effect_and_after_a_crash(
    store: Store, seen: Seen
) -> None:
    up = asyncio.Event()
    asked = asyncio.Event()

    async def intend(tx: Tx, request: Int64Value) -> None:
        seen.append((tx.principal, tx.correlation_id))

    async def act(ctx: Context[Any], request: Int64Value) -> str:
        asked.set()
        await up.wait()
        return "done"

    async def settle(tx: Tx, request: Int64Value, answer: str) -> Int64Value:
        seen.append((tx.principal, tx.correlation_id))
        return request

    def start() -> tuple[Effects, Any]:
        runtime = Runtime()

        def context(call: Call) -> Context[Any]:
            return Context(None, store, runtime, call)

        effects = Effects(store, runtime, context)
        return effects, effects.handler(Effect(TAKE, intend, act, settle))

    effects, take = start()
    taking = asyncio.create_task(served("c-1", take(call(TAKE, 1, "k"))))
    await asked.wait()
    await effects.stop()
    await asyncio.gather(taking, return_exceptions=True)
    up.set()
    effects, take = start()
    await effects.resume()
    await served("c-2", take(call(TAKE, 1, "k")))
    assert seen == [(ALICE, "c-1")] * 2
    await served("c-3", take(call(TAKE, 1, "k2")))
    assert seen[2:] == [(ALICE, "c-3")] * 2
    await effects.stop()
