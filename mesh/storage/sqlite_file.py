"""A SQLite file: its two connections, how they are set up, and what SQL may run on them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import apsw

from .migrate import MIGRATIONS_TABLE, Migration, pending
from .port import StorageError

#: A quoted text, in which a dollar is a dollar, or a parameter.
_PARAMETER = re.compile(r"""('[^']*'|"[^"]*")|\$(\d+)""")
_FORBIDDEN = re.compile(r"\bOR\s+ROLLBACK\b|\bDEFERRABLE\b", re.IGNORECASE)
#: After these nothing is known of the file: it is opened anew.
FILE_ERRORS = (
    apsw.IOError,
    apsw.FullError,
    apsw.CorruptError,
    apsw.CantOpenError,
    apsw.NotADBError,
    apsw.ReadOnlyError,
    apsw.BusyError,
)
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "recursive_triggers=ON",  # so that REPLACE does not delete behind a trigger's back
)
_STORE_ONLY = {
    apsw.SQLITE_TRANSACTION,
    apsw.SQLITE_SAVEPOINT,
    apsw.SQLITE_PRAGMA,
    apsw.SQLITE_ATTACH,
    apsw.SQLITE_DETACH,
}


@lru_cache(maxsize=4096)
def translate(sql: str) -> str:
    """Return *sql* with ``$n`` as ``?n``: SQLite would bind ``$2, $1`` in order of appearance.

    Raises:
        ValueError: the statement could end its neighbours' transaction.
    """
    if _FORBIDDEN.search(sql):
        raise ValueError(f"OR ROLLBACK and DEFERRABLE would reach beyond this transaction: {sql}")
    return _PARAMETER.sub(lambda found: found[1] or f"?{found[2]}", sql)


class GuardedConnection:
    """A connection that runs what handlers wrote, and by `control` what only the store may."""

    def __init__(self, path: Path) -> None:
        self._controlling = False
        self._connection = apsw.Connection(str(path), statementcachesize=256)
        self._connection.set_busy_timeout(5000)
        for pragma in _PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.authorizer = self._authorize

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open; some failures end it."""
        return self._connection.in_transaction

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[Any]:
        """Run one statement and return its rows."""
        return self._connection.execute(sql, params).fetchall()

    def control(self, sql: str) -> None:
        """Run what only the store may: transaction SQL, schema scripts.

        Never from the statement cache, whose hits skip the authorizer.
        """
        self._controlling = True
        try:
            self._connection.execute(sql, can_cache=False)
        finally:
            self._controlling = False

    def close(self) -> None:
        """Close it; whatever was not committed is gone."""
        with contextlib.suppress(apsw.Error):
            self._connection.close()

    def _authorize(
        self,
        action: int,
        first: str | None,
        second: str | None,
        database: str | None,
        trigger: str | None,
    ) -> int:
        if action in _STORE_ONLY and not self._controlling:
            return apsw.SQLITE_DENY
        return apsw.SQLITE_OK


class SqliteFile:
    """One connection that writes, one that reads snapshots; both survive `open` after `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closed = True
        self.open()

    def open(self) -> None:
        """Open both connections unless they are."""
        if not self._closed:
            return
        self.writer = GuardedConnection(self._path)
        self.reader = GuardedConnection(self._path)
        self.reader.control("PRAGMA query_only=ON")
        self._closed = False

    def close(self) -> None:
        """Close both."""
        self._closed = True
        self.reader.close()
        self.writer.close()

    def control(self, sql: str) -> None:
        """Run on the writer what only the store may."""
        self.writer.control(sql)

    def migrate(self, migrations: Sequence[Migration]) -> None:
        """Apply the migrations that this file has not seen, each in its own transaction.

        Raises:
            StorageError: one of them fails; nothing of it is in.
        """
        self.control(MIGRATIONS_TABLE)
        seen = {name for (name,) in self.writer.execute("SELECT name FROM mesh_migrations")}
        for migration in pending(migrations, "sqlite", seen):
            self.control("BEGIN IMMEDIATE")
            try:
                self.control(migration.sql)
                self.writer.execute("INSERT INTO mesh_migrations VALUES (?1)", (migration.name,))
                self.control("COMMIT")
            except apsw.Error as error:
                if self.writer.in_transaction:
                    self.control("ROLLBACK")
                raise StorageError(f"{self._path}: {migration.name}: {error}") from error


def lock_file(path: Path) -> int:
    """Make this process the one that has the database at *path* open.

    Returns:
        A file descriptor; the lock ends when it is closed.

    Raises:
        StorageError: another process has it open.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise StorageError(f"{path}: another process has this database open") from None
    return handle
