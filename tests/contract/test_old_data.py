"""What older versions left is brought forward by the migrations, on each engine, and stays."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mesh.service import Service
from mesh.storage.migrate import Migration, migrations, own_migrations
from tests.support.databases import Database
from tests.support.old_data import FILES, dump, tables

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    name: entry["module"]
    for name, entry in tomllib.loads((ROOT / "mesh.toml").read_text())["service"].items()
}


def service_called(name: str) -> Service[Any]:
    service: Service[Any] = import_module(MODULES[name]).service
    return service


def schema_of(name: str) -> list[Migration]:
    schema = service_called(name).schema
    return [*own_migrations(), *(migrations(schema) if schema else ())]


@pytest.mark.parametrize("dumped", FILES, ids=lambda file: file.stem)
async def test_what_an_older_version_left_is_all_there(database: Database, dumped: Path) -> None:
    name, _, version = dumped.stem.rpartition("_")
    await database.restore(dump(name, int(version)))
    left = dict(tables(dump(name, int(version))))
    seen = {row["name"] for row in left.pop("mesh_migrations")}

    store = await database.open(schema_of(name))
    await store.close()
    applied = {row[0] for row in await database.rows("SELECT name FROM mesh_migrations")}
    assert applied == {m.name for m in schema_of(name) if m.engine in ("", database.engine)}
    assert applied > seen
    for table, rows in left.items():
        columns = await columns_of(database, table)
        if kept := [column for column in (rows[0] if rows else ()) if column in columns]:
            found = await database.rows(f"SELECT {', '.join(kept)} FROM {table}")
            was = [tuple(row[column] for column in kept) for row in rows]
            assert sorted(found, key=repr) == sorted(was, key=repr), table


async def columns_of(database: Database, table: str) -> set[str]:
    query = {
        "sqlite": "SELECT name FROM pragma_table_info('{}')",
        "postgres": "SELECT column_name FROM information_schema.columns WHERE table_name = '{}'",
    }
    return {row[0] for row in await database.rows(query[database.engine].format(table))}


@pytest.mark.parametrize("name", MODULES)
def test_whoever_migrates_has_old_data(name: str) -> None:
    """Who adds a second migration adds a dump from before it."""
    schema = service_called(name).schema
    if schema and len(migrations(schema)) > 1:
        assert [file for file in FILES if file.stem.startswith(f"{name}_")]
