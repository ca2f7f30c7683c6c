"""Coins that have owners: what the tests of stores write and read."""

from __future__ import annotations

from mesh.storage.migrate import Migration
from mesh.storage.port import Store, Tx, Work

COINS = Migration(
    "0001_coins.sql",
    "CREATE TABLE coins (owner TEXT PRIMARY KEY, amount BIGINT NOT NULL CHECK (amount >= 0))",
)


def put(owner: str, amount: int = 1) -> Work[None]:
    async def work(tx: Tx) -> None:
        await tx.execute("INSERT INTO coins VALUES ($1, $2)", owner, amount)

    return work


def take(owner: str, amount: int) -> Work[int]:
    """Read, decide, write: what goes wrong where transactions see each other half done."""

    async def work(tx: Tx) -> int:
        ((held,),) = await tx.execute("SELECT amount FROM coins WHERE owner = $1", owner)
        if held < amount:
            raise NotEnoughError(held)
        await tx.execute("UPDATE coins SET amount = $2 WHERE owner = $1", owner, held - amount)
        return int(held - amount)

    return work


class NotEnoughError(Exception):
    """A rule of the domain."""


async def coins(store: Store) -> dict[str, int]:
    async def work(tx: Tx) -> dict[str, int]:
        return dict(await tx.execute("SELECT owner, amount FROM coins ORDER BY owner"))

    return await store.read(work)
