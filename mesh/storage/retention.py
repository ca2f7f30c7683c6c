"""Retention: keys, published events, finished sagas and what people did to them are forgotten.

First the watermark rises, so that what is about to be deleted is refused if it comes again; then
rows go, a few at a time with pauses, so that nobody waits for it. One process of a service does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from ..runtime import beside
from ..runtime.clock import Runtime
from ..runtime.logs import log
from . import leases, watermark
from .keys import State
from .port import Store, T, Tx, Work

#: How often it is looked for what has become old.
EVERY_S = 3600.0
#: Rows that are deleted in one transaction, and the pause after it.
BATCH = 250
PAUSE_S = 0.05
LEASE = "retention"
LEASE_S = 60.0


class _OthersError(Exception):
    """Another process of the service does it."""


class Retention:
    """Forgets what one database has held for longer than *keep_s* seconds."""

    def __init__(self, store: Store, runtime: Runtime, keep_s: float) -> None:
        if keep_s < watermark.RETENTION_MIN_S:
            raise ValueError(f"retention: at least {watermark.RETENTION_MIN_S:.0f} s")
        self._store = store
        self._runtime = runtime
        self._keep_s = keep_s
        self._holder = runtime.new_id()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep now and then, from now on."""
        self._task = beside.begin(
            beside.keep_on("retention", self._step, self._runtime.clock, EVERY_S)
        )

    async def stop(self) -> None:
        """Stop where it stands."""
        await beside.end(self._task)

    async def _step(self) -> None:
        await self.sweep()
        await self._runtime.clock.sleep(EVERY_S)

    async def sweep(self) -> int:
        """Forget everything that is old by now; return how many rows."""
        forgotten = 0
        try:
            moment = self._runtime.clock.wall() - self._keep_s
            low = await self._if_ours(functools.partial(watermark.raise_to, moment=moment))
            async with contextlib.aclosing(self._forget(low)) as batches:
                async for deleted in batches:
                    forgotten += deleted
                    await self._runtime.clock.sleep(PAUSE_S)
        except _OthersError:
            log.debug("another process forgets what is old")
        if forgotten:
            log.info("forgotten", rows=forgotten)
        return forgotten

    async def _forget(self, low: float) -> AsyncGenerator[int, None]:
        """Delete what is old, a batch at a time; yield how many rows of each."""
        scope = ("", "")
        while found := await self._store.read(functools.partial(_next_scope, after=scope)):
            scope, after = found, ""
            more = True
            while more:
                deleted, after, more = await self._if_ours(
                    functools.partial(_forget_keys_of, scope=scope, after=after, low=low)
                )
                yield deleted
        for forget in _FORGET:
            while deleted := await self._if_ours(functools.partial(forget, low=low)):
                yield deleted

    async def _if_ours(self, work: Work[T]) -> T:
        """Run *work* under the lease, which is renewed in the same transaction.

        Raises:
            _OthersError: another process has it.
        """

        async def held(tx: Tx) -> T:
            if not await leases.take(tx, LEASE, self._holder, ttl_s=LEASE_S):
                raise _OthersError
            return await work(tx)

        return await self._store.write(held)


async def delete_some(tx: Tx, table: str, column: str, value: str) -> int:
    """Delete a batch of the rows of *table* whose *column* is *value*; return how many."""
    # The names are our own.
    some = f"SELECT {tx.row_id} FROM {table} WHERE {column} = $1 LIMIT $2"  # noqa: S608
    sql = f"DELETE FROM {table} WHERE {tx.row_id} IN ({some}) RETURNING 1"  # noqa: S608
    return len(await tx.execute(sql, value, BATCH))


async def _next_scope(tx: Tx, after: tuple[str, str]) -> tuple[str, str] | None:
    rows = await tx.execute(
        "SELECT principal, method FROM mesh_keys WHERE (principal, method) > ($1, $2)"
        " ORDER BY principal, method LIMIT 1",
        *after,
    )
    return (rows[0][0], rows[0][1]) if rows else None


async def _forget_keys_of(
    tx: Tx, scope: tuple[str, str], after: str, low: float
) -> tuple[int, str, bool]:
    """Delete a batch of old keys; return how many, the last one looked at, whether to go on."""
    end = watermark.first_key(low)
    rows = await tx.execute(
        "SELECT key, state FROM mesh_keys WHERE principal = $1 AND method = $2 AND key > $3"
        " AND key < $4 ORDER BY key LIMIT $5",
        *scope,
        after,
        end,
        BATCH,
    )
    old = [key for key, state in rows if state != State.OPEN and watermark.born_at(key)]
    for key in old:
        await tx.execute(
            "DELETE FROM mesh_keys WHERE principal = $1 AND method = $2 AND key = $3", *scope, key
        )
    return len(old), rows[-1][0] if rows else after, len(rows) == BATCH


async def _forget_events(tx: Tx, low: float) -> int:
    """Delete a batch of old events that the broker has."""
    rows = await tx.execute(
        "SELECT topic, aggregate, version FROM mesh_outbox WHERE published_at IS NOT NULL"
        " AND published_at < $1 ORDER BY published_at LIMIT $2",
        low,
        BATCH,
    )
    for row in rows:
        await tx.execute(
            "DELETE FROM mesh_outbox WHERE topic = $1 AND aggregate = $2 AND version = $3", *row
        )
    return len(rows)


async def _forget_sagas(tx: Tx, low: float, state: int) -> int:
    """Delete a batch of sagas that are old, and ended long ago; their keys stay, spent.

    Those of one state are in the order of an index: nothing else is looked at.
    """
    rows = await tx.execute(
        "SELECT saga_id, name, key FROM mesh_sagas WHERE state = $1 AND saga_id < $2"
        " AND updated_at < $3 ORDER BY saga_id LIMIT $4",
        state,
        watermark.first_key(low),
        low,
        BATCH,
    )
    for saga_id, name, key in rows:
        await tx.execute(
            "INSERT INTO mesh_spent_keys (name, key) VALUES ($1, $2)"
            " ON CONFLICT (name, key) DO NOTHING",
            name,
            key,
        )
        await tx.execute("DELETE FROM mesh_saga_steps WHERE saga_id = $1", saga_id)
        await tx.execute("DELETE FROM mesh_sagas WHERE saga_id = $1", saga_id)
    return len(rows)


async def _forget_actions(tx: Tx, low: float) -> int:
    """Delete a batch of what people did long ago to sagas that are forgotten."""
    rows = await tx.execute(
        "DELETE FROM mesh_saga_actions WHERE action_id IN ("
        "SELECT action_id FROM mesh_saga_actions AS old WHERE action_id < $1"
        " AND NOT EXISTS (SELECT 1 FROM mesh_sagas WHERE mesh_sagas.saga_id = old.saga_id)"
        " ORDER BY action_id LIMIT $2) RETURNING action_id",
        watermark.first_key(low),
        BATCH,
    )
    return len(rows)


_FORGET: Sequence[Callable[..., Awaitable[int]]] = (
    _forget_events,
    functools.partial(_forget_sagas, state=3),  # COMPLETED
    functools.partial(_forget_sagas, state=5),  # FAILED
    _forget_actions,
)
