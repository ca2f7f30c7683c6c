"""The files that migrations come from, and which of them a database needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.runtime.clock import Runtime
from mesh.storage.migrate import Migration, migrations, own_migrations, pending
from mesh.storage.port import StorageError
from mesh.storage.sqlite import SqliteStore

from .conftest import SCHEMA
from .works import tables


def test_migrations_are_the_sql_files_of_a_folder_in_order(tmp_path: Path) -> None:
    for name in ("0002_b.sql", "0001_a.sql", "README.md"):
        (tmp_path / name).write_text(f"-- {name}")
    assert migrations(tmp_path) == [
        Migration("0001_a.sql", "-- 0001_a.sql"),
        Migration("0002_b.sql", "-- 0002_b.sql"),
    ]


async def test_a_migration_may_be_for_one_engine(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a (n BIGINT)")
    for engine in ("sqlite", "postgres"):
        (tmp_path / f"0002_b.{engine}.sql").write_text(f"CREATE TABLE {engine} (n BIGINT)")
    schema = migrations(tmp_path)
    assert [(m.name, m.engine) for m in schema] == [
        ("0001_a.sql", ""),
        ("0002_b.postgres.sql", "postgres"),
        ("0002_b.sqlite.sql", "sqlite"),
    ]
    assert [step.name for step in pending(schema, "postgres", {})] == [
        "0001_a.sql",
        "0002_b.postgres.sql",
    ]
    for _ in range(2):
        store = SqliteStore(tmp_path / "nodes.db", Runtime(), schema)
        assert await tables(store) == ["a", "mesh_migration_digests", "mesh_migrations", "sqlite"]
        await store.close()


def test_a_migration_for_an_engine_that_there_is_not_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0001_a.mysql.sql").touch()
    with pytest.raises(ValueError, match="'mysql' is no engine; there are sqlite, postgres"):
        migrations(tmp_path)


def test_the_meshs_own_migrations_do_not_clash_with_a_services() -> None:
    assert own_migrations()
    assert all(migration.name.startswith("mesh/") for migration in own_migrations())


async def test_a_migration_that_ends_its_transaction_is_reported_as_what_it_is(
    tmp_path: Path,
) -> None:
    script = "COMMIT; INSERT INTO nowhere VALUES (1)"
    with pytest.raises(StorageError, match=r"0002\.sql: .*nowhere"):
        SqliteStore(tmp_path / "nodes.db", Runtime(), [SCHEMA, Migration("0002.sql", script)])
