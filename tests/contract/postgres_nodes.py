"""A table in a PostgreSQL database, for tests of what becomes of writes."""

from __future__ import annotations

from mesh.runtime.clock import Runtime
from mesh.storage.migrate import Migration
from mesh.storage.port import StorageError, Tx, Work
from mesh.storage.postgres.store import PostgresStore

TABLES = Migration(
    "0001_nodes.sql",
    """
    CREATE TABLE nodes (
      name   TEXT PRIMARY KEY,
      parent TEXT REFERENCES nodes (name) DEFERRABLE INITIALLY DEFERRED
    );
    CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER last_words AFTER INSERT ON nodes DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW WHEN (NEW.name = 'dies at COMMIT') EXECUTE FUNCTION die();
    """,
)


async def open_store(url: str) -> PostgresStore:
    return await PostgresStore.open(url, "failures", Runtime(), [TABLES])


def add(name: str, parent: str | None = None) -> Work[str]:
    async def work(tx: Tx) -> str:
        await tx.execute("INSERT INTO nodes (name, parent) VALUES ($1, $2)", name, parent)
        return name

    return work


async def names(store: PostgresStore) -> list[str]:
    async def work(tx: Tx) -> list[str]:
        return [row[0] for row in await tx.execute("SELECT name FROM nodes ORDER BY name")]

    return await store.read(work)


def failing(store: PostgresStore) -> StorageError | None:
    return store.failing
