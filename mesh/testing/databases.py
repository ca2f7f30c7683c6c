"""The databases of a cluster: kept in memory, and copied from ones that are set up already."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..saga.records import TERMINAL
from ..service import Service
from ..storage.migrate import Migration, migrations, own_migrations
from ..storage.sqlite_file import SqliteFile

#: The states in which a saga stays.
ENDED = ", ".join(str(int(state)) for state in TERMINAL)
#: The database itself takes down which sagas went on after they had ended; `endings` reads it.
_WITNESS = f"""
CREATE TABLE witnessed (saga_id TEXT NOT NULL, name TEXT NOT NULL);
CREATE TRIGGER witness AFTER UPDATE OF state ON mesh_sagas
WHEN OLD.state IN ({ENDED}) AND NEW.state <> OLD.state
BEGIN INSERT INTO witnessed VALUES (OLD.saga_id, OLD.name); END;
"""  # noqa: S608


@contextlib.contextmanager
def memory_folder() -> Iterator[Path]:
    """A new folder, in memory where the system has such a place; it is deleted at the end."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def lay_out(services: Mapping[str, Service[Any]], folder: Path) -> None:
    """Put an empty database of each service into *folder*: faster than to let each set up its."""
    for name, service in services.items():
        (folder / f"{name}.db").write_bytes(_empty(schema_of(service)))


def schema_of(service: Service[Any]) -> tuple[Migration, ...]:
    """Return the migrations of *service*'s database."""
    return _schema(service.schema)


@functools.cache
def _schema(folder: Path | None) -> tuple[Migration, ...]:
    return (*own_migrations(), *(migrations(folder) if folder else []))


@functools.cache
def _empty(schema: tuple[Migration, ...]) -> bytes:
    with memory_folder() as folder:
        path = folder / "new.db"
        file = SqliteFile(path)
        file.migrate(schema)
        file.control(_WITNESS)
        file.close()
        return path.read_bytes()
