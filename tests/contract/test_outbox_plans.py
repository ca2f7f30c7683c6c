"""How databases find what is to be published: not by reading all that an aggregate ever had."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from mesh.events import outbox
from mesh.events.outbox import _HEADS
from mesh.runtime.clock import Runtime
from mesh.storage.migrate import own_migrations
from mesh.storage.port import Store, Tx
from mesh.storage.postgres.database import SESSION
from mesh.storage.postgres.store import PostgresStore
from mesh.storage.sqlite import SqliteStore
from tests.support.postgres import PostgresServer
from tests.support.things import ThingEvent

HOT, CALM = 40, 5


async def fill(store: Store) -> None:
    """One hot aggregate, half of it published, and calm ones."""

    async def work(tx: Tx) -> None:
        for number in range(HOT):
            await tx.publish(ThingEvent(thing_id="hot", number=number))
        for number in range(CALM):
            await tx.publish(ThingEvent(thing_id=f"calm {number}", number=number))

    await store.write(work)
    for _ in range(HOT // 2):
        await store.write(publish_hot)
    heads = await store.read(lambda tx: outbox.heads(tx, "things", 100))
    assert {head.aggregate: head.version for head in heads} == {
        "hot": HOT // 2 + 1,
        **{f"calm {number}": 1 for number in range(CALM)},
    }
    assert len(heads) == 1 + CALM


async def publish_hot(tx: Tx) -> None:
    heads = await outbox.heads(tx, "things", 100)
    await outbox.mark_published(tx, [head for head in heads if head.aggregate == "hot"])


async def test_sqlite_looks_up_the_first_of_each_aggregate(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "things.db", Runtime(), own_migrations())
    await fill(store)
    await store.close()
    with closing(sqlite3.connect(tmp_path / "things.db")) as file:
        plan = file.execute(f"EXPLAIN QUERY PLAN {_HEADS}".replace("$1", "9")).fetchall()
    (first,) = [line for *_, line in plan if " first " in line]
    assert "SEARCH" in first
    assert "INDEX mesh_outbox_heads (topic=? AND aggregate=?)" in first


@pytest.mark.parametrize("analyzed", [False, True])
async def test_postgres_does_so_too(postgres_server: PostgresServer, analyzed: bool) -> None:
    url = await postgres_server.fresh("things")
    store = await PostgresStore.open(url, "things", Runtime(), own_migrations())
    await fill(store)
    await store.close()
    connection = await asyncpg.connect(url, server_settings=SESSION)
    try:
        if analyzed:
            await connection.execute("ANALYZE mesh_outbox")
        plan = await connection.fetch(f"EXPLAIN {_HEADS}".replace("$1", "9"))
    finally:
        await connection.close()
    lines = [line for (line,) in plan]
    assert not [line for line in lines if "Join" in line]
    (first,) = [number for number, line in enumerate(lines) if "mesh_outbox first" in line]
    assert "mesh_outbox_heads" in lines[first]
    assert "topic = event.topic" in lines[first + 1]
