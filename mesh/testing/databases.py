"""The databases of a cluster: kept in memory, and copied from ones that are set up already."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from ..saga.records import TERMINAL
from ..service import Service
from ..storage.migrate import Migration, migrations, own_migrations
from ..storage.sqlite_file import GuardedConnection, SqliteFile

#: The states in which a saga stays.
ENDED = ", ".join(str(int(state)) for state in TERMINAL)
#: A commit counts as so many pages of the log.
PAGES_PER_COMMIT = 4
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


class Databases:
    """Databases that outlive a run: emptied before the next one, with their connections open.

    To open one, and to prepare its statements anew, takes longer than most of what is asked of it.
    Whoever dies leaves a connection behind as a crash does: what was not committed is gone.
    """

    def __init__(self) -> None:
        self._folders = contextlib.ExitStack()
        self.folder = self._folders.enter_context(memory_folder())
        self._kept: dict[Path, _Kept] = {}

    def lay_out(self, services: Mapping[str, Service[Any]]) -> None:
        """Have an empty database of each service."""
        for name, service in services.items():
            path, schema = self.folder / f"{name}.db", schema_of(service)
            kept = self._kept.get(path)
            if kept and kept.schema == schema:
                kept.empty()
                continue
            if kept:
                kept.close()
            for file in self.folder.glob(f"{path.name}*"):
                file.unlink()
            self._kept[path] = _Kept(path, schema)

    def connect(self, path: Path, *, reading: bool = False) -> GuardedConnection:
        """Return a connection that nobody uses."""
        idle = self._kept[path].idle[reading]
        return idle.pop() if idle else _KeptConnection(path, idle, reading=reading)


class _Kept:
    """One database and its idle connections, by whether they only read."""

    def __init__(self, path: Path, schema: tuple[Migration, ...]) -> None:
        path.write_bytes(_empty(schema))
        self.schema = schema
        self.idle: dict[bool, list[_KeptConnection]] = {False: [], True: []}
        self._eraser = apsw.Connection(str(path))
        self._eraser.execute("PRAGMA synchronous=OFF")
        self._eraser.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)  # what guards its rows as well
        tables = self._run("SELECT name FROM sqlite_master WHERE type = 'table'")
        self._rows = {name: self._run(f"SELECT * FROM {name}") for (name,) in tables}  # noqa: S608

    def empty(self) -> None:
        """Have what a new one has in it, and no log."""
        with self._eraser:
            for table, rows in self._rows.items():
                self._run(f"DELETE FROM {table}")  # noqa: S608
                for row in rows:
                    values = ", ".join("?" * len(row))
                    self._run(f"INSERT INTO {table} VALUES ({values})", row)  # noqa: S608
        self._eraser.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _run(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._eraser.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close all that is open."""
        for connection in (*self.idle[False], *self.idle[True]):
            connection.shut()
        self._eraser.close()


class _KeptConnection(GuardedConnection):
    """A connection that is idle once it is closed."""

    def __init__(self, path: Path, idle: list[_KeptConnection], *, reading: bool) -> None:
        super().__init__(path, reading=reading)
        self._idle = idle

    def close(self, *, checkpoint: bool = True) -> None:
        """Let the next one have it."""
        if self.in_transaction:
            self.control("ROLLBACK")
        self.commits = self.log_pages = 0
        self._idle.append(self)

    def shut(self) -> None:
        """Close it."""
        super().close()

    def checkpoint(self) -> None:
        """Copy the log."""
        super().checkpoint()
        self.log_pages = 0

    def _note_log(self, connection: apsw.Connection, database: str, pages: int) -> int:
        # How many pages there are depends on what other runs have left.
        return super()._note_log(connection, database, self.log_pages + PAGES_PER_COMMIT)


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
