"""Works on the table `nodes`, for the tests of the SQLite store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mesh.storage.port import Store, Tx, Work


def add(name: str, parent: str | None = None) -> Work[str]:
    async def work(tx: Tx) -> str:
        await tx.execute("INSERT INTO nodes (name, parent) VALUES ($1, $2)", name, parent)
        return name

    return work


def run(*statements: str) -> Work[None]:
    async def work(tx: Tx) -> None:
        for sql in statements:
            await tx.execute(sql)

    return work


async def names(store: Store) -> list[str]:
    async def work(tx: Tx) -> list[str]:
        return [name for (name,) in await tx.execute("SELECT name FROM nodes ORDER BY name")]

    return await store.read(work)


async def tables(store: Store) -> list[str]:
    async def work(tx: Tx) -> list[str]:
        rows = await tx.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        return [name for (name,) in rows]

    return await store.read(work)


async def outcomes(store: Store, works: Iterable[Work[object]]) -> list[object]:
    """Write all *works* at once; return what each returned or raised."""
    return await asyncio.gather(*map(store.write, works), return_exceptions=True)
