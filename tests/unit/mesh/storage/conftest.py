"""A SQLite store whose disk the test holds in its hands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.runtime.clock import Runtime
from mesh.storage.migrate import Migration
from mesh.storage.sqlite import SqliteStore
from tests.support.runtime import FakeClock

from .disk import Disk

SCHEMA = Migration(
    "0001_nodes.sql",
    "CREATE TABLE nodes (name TEXT PRIMARY KEY,"
    " parent TEXT REFERENCES nodes (name) DEFERRABLE INITIALLY DEFERRED,"
    " size BIGINT NOT NULL DEFAULT 0 CHECK (size >= 0))",
)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def store(tmp_path: Path, disk: Disk) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "nodes.db", Runtime(FakeClock(), offload=disk), [SCHEMA])
    yield store
    disk.release()
    await store.close()
