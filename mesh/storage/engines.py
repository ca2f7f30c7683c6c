"""Which engine a service's database is on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..runtime.clock import Runtime
from .migrate import Migration
from .port import StorageError, Store


async def open_store(
    name: str, url: str, folder: Path, runtime: Runtime, schema: Sequence[Migration]
) -> Store:
    """Open the database of the service called *name*: at *url*, or a file in *folder*.

    Only the engine that is wanted is imported.

    Raises:
        StorageError: it cannot be opened, or its driver is not installed.
    """
    if not url:
        try:
            from .sqlite import SqliteStore
        except ImportError as error:
            raise _missing("sqlite", error) from error
        return SqliteStore(folder / f"{name}.db", runtime, schema)
    try:
        from .postgres.store import PostgresStore
    except ImportError as error:
        raise _missing("postgres", error) from error
    return await PostgresStore.open(url, name, runtime, schema)


def _missing(extra: str, error: ImportError) -> StorageError:
    return StorageError(f"{error.name} is not installed: pip install 'proxyless-mesh[{extra}]'")
