"""Migrations, on each engine: applied once, in order, and as they are now."""

from __future__ import annotations

import pytest

from mesh.storage.migrate import Migration
from mesh.storage.port import StorageError
from tests.support.coins import COINS, coins
from tests.support.databases import Database


async def test_each_migration_is_applied_once_and_in_order(database: Database) -> None:
    seed = Migration("0002_seed.sql", "INSERT INTO coins VALUES ('seed', 1)")
    more = Migration("0003_more.sql", "UPDATE coins SET amount = amount * 2 + 1")
    for schema in ([COINS], [COINS, seed], [COINS, seed], [COINS, seed, more]):
        store = await database.open(schema)
        await store.close()
    store = await database.open([COINS, seed, more])
    assert await coins(store) == {"seed": 3}
    await store.close()


async def test_a_migration_may_have_many_statements(database: Database) -> None:
    script = "INSERT INTO coins VALUES ('a; b', 1); -- and\n INSERT INTO coins VALUES ('c', 2);\n"
    store = await database.open([COINS, Migration("0002_two.sql", script)])
    assert await coins(store) == {"a; b": 1, "c": 2}
    await store.close()


async def test_a_failing_migration_leaves_nothing_and_can_be_mended(database: Database) -> None:
    broken = Migration(
        "0002.sql", "INSERT INTO coins VALUES ('half', 1); INSERT INTO nowhere VALUES (1)"
    )
    with pytest.raises(StorageError, match=r"0002\.sql"):
        await database.open([COINS, broken])
    store = await database.open([COINS])
    assert await coins(store) == {}
    await store.close()
    store = await database.open(
        [COINS, Migration("0002.sql", "INSERT INTO coins VALUES ('whole', 1)")]
    )
    assert await coins(store) == {"whole": 1}
    await store.close()


async def test_who_edits_what_was_applied_is_told_so(database: Database) -> None:
    seed = Migration("0002_seed.sql", "INSERT INTO coins VALUES ('seed', 1)")
    await (await database.open([COINS, seed])).close()
    edited = Migration(seed.name, "INSERT INTO coins VALUES ('seed', 2)")
    with pytest.raises(StorageError, match=r"0002_seed\.sql was edited .* into a new file"):
        await database.open([COINS, edited])
    store = await database.open([COINS, seed])
    assert await coins(store) == {"seed": 1}
    await store.close()


async def test_so_is_who_edits_what_a_version_without_digests_applied(database: Database) -> None:
    await database.restore(
        "CREATE TABLE mesh_migrations (name TEXT PRIMARY KEY);"
        f"INSERT INTO mesh_migrations VALUES ('{COINS.name}'); {COINS.sql};"
    )
    await (await database.open([COINS])).close()
    with pytest.raises(StorageError, match="was edited"):
        await database.open([Migration(COINS.name, COINS.sql + " -- more")])
