"""A process of the vault whose coins are put and taken through a bank, which lies outside."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

from google.protobuf.wrappers_pb2 import Int64Value

from mesh.call import Handler
from mesh.effects import Effects
from mesh.errors import Refused
from mesh.runtime.clock import Runtime, SystemClock
from mesh.scope import current_traceparent, scope
from mesh.service import Context, Effect
from mesh.storage.port import Store, Tx

from .vault import PUT, TAKE, add, note, rows


class Clock(SystemClock):
    """Sleeps are over at once, and remembered."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        await asyncio.sleep(0)


@dataclass
class Bank:
    """What lies outside: idempotent by key, and at times hard to reach."""

    applied: dict[str, int] = field(default_factory=dict)
    calls: list[tuple[str, int]] = field(default_factory=list)
    #: What goes wrong with the next calls: "lost request", "lost reply", "hangs", "hangs after".
    trouble: list[str] = field(default_factory=list)
    declines: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    inherited: list[tuple[str, float, str]] = field(default_factory=list)

    async def move(self, ctx: Context[Any], request: Int64Value) -> str:
        """Move money; a no is an answer."""
        self.calls.append((ctx.key, request.value))
        self.inherited.append(
            (scope.get().correlation_id, scope.get().deadline, current_traceparent())
        )
        self.reached.set()
        trouble = self.trouble.pop(0) if self.trouble else ""
        if trouble == "lost request":
            raise ConnectionError
        if trouble == "hangs":
            await self.go_on.wait()
        if not self.declines:
            self.applied.setdefault(ctx.key, request.value)
        if trouble == "hangs after":
            await self.go_on.wait()
        if trouble == "lost reply":
            raise TimeoutError
        return "declined" if self.declines else "moved"


class Till:
    """One process: a vault whose coins are put and taken through a bank."""

    def __init__(self, store: Store, bank: Bank, clock: Clock) -> None:
        runtime = Runtime(clock, Random(1))
        self.store = store
        self.settled = 0
        self.effects = Effects(store, runtime, lambda call: Context(None, store, runtime, call))
        self.put: Handler = self.effects.handler(Effect(PUT, self._intend, bank.move, self._put))
        self.take: Handler = self.effects.handler(Effect(TAKE, self._intend, bank.move, self._take))

    async def _intend(self, tx: Tx, request: Int64Value) -> None:
        await note(tx, f"intends {request.value} for {tx.principal.name}")
        if request.value > 100:
            raise Refused("too much", reason="LIMIT")

    async def _put(self, tx: Tx, request: Int64Value, result: str) -> Int64Value:
        return await self._settle(tx, request.value, result)

    async def _take(self, tx: Tx, request: Int64Value, result: str) -> Int64Value:
        return await self._settle(tx, -request.value, result)

    async def _settle(self, tx: Tx, amount: int, result: str) -> Int64Value:
        self.settled += 1
        await note(tx, f"{result} {amount} for {tx.principal.name}")
        held = await add(tx, amount)
        if result == "declined":
            await tx.rollback()
            await note(tx, f"declined {amount}")
            raise Refused("the bank says no", reason="DECLINED", keep=True)
        return Int64Value(value=held)


async def open_effects(store: Store) -> int:
    return len(await rows(store, "SELECT key FROM mesh_effects"))


async def until_settled(store: Store) -> None:
    while True:
        changed = store.changed()
        if not await open_effects(store):
            return
        await changed


async def until_called(bank: Bank, times: int) -> None:
    while len(bank.calls) < times:
        bank.reached.clear()
        await bank.reached.wait()
