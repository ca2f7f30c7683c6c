"""A PostgreSQL that takes no writes: after a failover, or because an administrator says so."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mesh.storage.port import NotStoredError
from mesh.storage.postgres import database
from mesh.storage.postgres.store import PostgresStore
from tests.contract.postgres_nodes import add, failing, names, open_store
from tests.support.postgres import FAST, PostgresServer, postgres


@pytest.fixture
async def server() -> AsyncIterator[PostgresServer]:
    with postgres(*FAST, "-c", "wal_retrieve_retry_interval=100ms") as server:
        yield server


@pytest.fixture
async def store(server: PostgresServer) -> AsyncIterator[PostgresStore]:
    store = await open_store(await server.fresh("failures"))
    await store.write(add("before"))
    yield store
    await store.close()


async def test_a_database_that_is_read_only_refuses_writes_and_reads_go_on(
    server: PostgresServer, store: PostgresStore
) -> None:
    await server.let_be_read_only(True)
    with pytest.raises(NotStoredError, match="read-only transaction"):
        await store.write(add("refused"))
    assert isinstance(failing(store), NotStoredError)
    assert await names(store) == ["before"]
    await server.let_be_read_only(False)
    await store.write(add("after"))
    assert failing(store) is None
    assert await names(store) == ["after", "before"]


async def test_a_standby_is_not_connected_to(
    server: PostgresServer, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a service would stay with it after a failover, and read what is old."""
    monkeypatch.setattr(database, "PATIENCE_S", 0.2)
    standby = server.data / "cluster" / "standby.signal"
    server.stop()
    standby.touch()
    server.start()
    with pytest.raises(NotStoredError, match="primary"):
        await store.write(add("refused"))
    with pytest.raises(NotStoredError, match="primary"):
        await names(store)
    server.stop()
    standby.unlink()
    server.start()
    await store.write(add("after"))
    assert await names(store) == ["after", "before"]
