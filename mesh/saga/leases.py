"""Which engine runs which saga, when several share one database.

An engine has one lease, however many sagas it runs, and renews it by one small write. A saga
names its owner. Once the owner's lease has expired, or was given up, any engine may claim the
saga, and raises its epoch: the fencing token that every write of a saga is made under, so that
an owner which only was slow finds out before it acts. Times are the database's.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from typing import TypeAlias

from ..storage.port import Store, Tx

#: An engine that has not renewed its lease for so long is taken for dead.
LEASE_S = 15.0
#: How often it is renewed.
RENEW_S = 5.0

#: A saga, and the epoch under which it was claimed.
Claim: TypeAlias = tuple[str, int]

# A lease that ends later than any now can was given before the clock was set back.
_ALIVE = f"expires_at > $1 AND expires_at <= $1 + {2 * LEASE_S}"
_UNFINISHED = "state IN (1, 2, 4)"


class LeaseLostError(Exception):
    """Somebody took the engine for dead; its sagas may be others' by now."""


class Leases:
    """The engines of one database, as one of them sees it.

    Args:
        store: the database.
        known: the (name, version) of each saga that the engine can run.
    """

    def __init__(self, store: Store, known: Collection[tuple[str, int]]) -> None:
        self._store = store
        self._known = [value for pair in known for value in pair]

    async def enter(self, engine_id: str, instance: str) -> None:
        """Begin a lease, and end that of the last life of *instance* ("": it is not known)."""

        async def work(tx: Tx) -> None:
            await tx.execute(
                "DELETE FROM mesh_saga_engines WHERE instance = $1 AND instance <> ''", instance
            )
            await tx.execute(
                "INSERT INTO mesh_saga_engines (engine_id, instance, expires_at)"
                " VALUES ($1, $2, $3)",
                engine_id,
                instance,
                tx.now() + LEASE_S,
            )

        await self._store.write(work)

    async def renew(self, engine_id: str) -> None:
        """Go on living.

        Raises:
            LeaseLostError: somebody took the engine for dead.
        """
        await self._store.write(lambda tx: _renew(tx, engine_id))

    async def leave(self, engine_id: str) -> None:
        """End the lease: what the engine has is for others at once."""

        async def work(tx: Tx) -> None:
            await tx.execute("DELETE FROM mesh_saga_engines WHERE engine_id = $1", engine_id)

        await self._store.write(work)

    async def claim(self, engine_id: str, limit: int) -> list[Claim]:
        """Renew the lease, and take over at most *limit* sagas that nobody runs.

        Raises:
            LeaseLostError: somebody took the engine for dead.
        """
        if limit <= 0 or not self._known or not await self._store.read(self._any_orphan):
            return []

        async def work(tx: Tx) -> list[Claim]:
            await _renew(tx, engine_id)
            await tx.execute(f"DELETE FROM mesh_saga_engines WHERE NOT ({_ALIVE})", tx.now())
            rows = await tx.execute(
                "UPDATE mesh_sagas SET owner = $1, epoch = epoch + 1 WHERE saga_id IN ("
                f"SELECT saga_id FROM mesh_sagas WHERE {_UNFINISHED}"
                " AND owner NOT IN (SELECT engine_id FROM mesh_saga_engines)"
                f" AND ({self._can_run(3)}) ORDER BY owner DESC, saga_id LIMIT $2)"
                " RETURNING saga_id, epoch",
                engine_id,
                limit,
                *self._known,
            )
            return sorted((row[0], row[1]) for row in rows)

        return await self._store.write(work)

    async def _any_orphan(self, tx: Tx) -> bool:
        rows = await tx.execute(
            f"SELECT 1 FROM mesh_sagas WHERE {_UNFINISHED} AND owner NOT IN"
            f" (SELECT engine_id FROM mesh_saga_engines WHERE {_ALIVE})"
            f" AND ({self._can_run(2)}) LIMIT 1",
            tx.now(),
            *self._known,
        )
        return bool(rows)

    async def let_go(self, engine_id: str, held: Container[str]) -> int:
        """Give up the sagas that *engine_id* owns and does not hold; return how many.

        They are those whose start was stored although the store, or the caller, gave up on it.
        """

        async def find(tx: Tx) -> Sequence[str]:
            rows = await tx.execute(
                f"SELECT saga_id FROM mesh_sagas WHERE {_UNFINISHED} AND owner = $1", engine_id
            )
            return [row[0] for row in rows if row[0] not in held]

        strays = await self._store.read(find)
        if not strays:
            return 0

        async def work(tx: Tx) -> None:
            for saga_id in strays:
                await tx.execute(
                    "UPDATE mesh_sagas SET owner = '' WHERE saga_id = $1 AND owner = $2",
                    saga_id,
                    engine_id,
                )

        await self._store.write(work)
        return len(strays)

    def _can_run(self, first: int) -> str:
        """Return the condition that the engine knows a saga; its parameters begin at *first*.

        Written as equations, it would have SQLite look through all sagas of that name, however
        long ago they have ended, instead of through the unfinished ones.
        """
        places = range(first, first + len(self._known), 2)
        pairs = ", ".join(f"(${n}, CAST(${n + 1} AS BIGINT))" for n in places)
        return f"(name, version) IN (VALUES {pairs})"


async def _renew(tx: Tx, engine_id: str) -> None:
    rows = await tx.execute(
        "UPDATE mesh_saga_engines SET expires_at = $2 WHERE engine_id = $1 RETURNING engine_id",
        engine_id,
        tx.now() + LEASE_S,
    )
    if not rows:
        raise LeaseLostError(engine_id)
