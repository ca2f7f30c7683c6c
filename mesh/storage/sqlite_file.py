"""A SQLite file: its two connections, how they are set up, and what SQL may run on them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import apsw

from .migrate import MIGRATIONS_TABLE, Migration

_PARAMETER = re.compile(r"\$(\d+)")
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
    return _PARAMETER.sub(r"?\1", sql)


class SqliteFile:
    """One connection that writes, one that reads snapshots; both survive `open` after `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._controlling = False
        self._closed = True
        self.open()

    def open(self) -> None:
        """Open both connections unless they are."""
        if not self._closed:
            return
        self.writer = _connect(self._path)
        self.reader = _connect(self._path)
        self.reader.execute("PRAGMA query_only=ON")
        self.writer.authorizer = self._authorize
        self._closed = False

    def close(self) -> None:
        """Close both; whatever was not committed is gone."""
        self._closed = True
        for connection in (self.reader, self.writer):
            with contextlib.suppress(apsw.Error):
                connection.close()

    def control(self, sql: str) -> None:
        """Run what only the store may: transaction SQL, schema scripts.

        Never from the statement cache, whose hits skip the authorizer.
        """
        self._controlling = True
        try:
            self.writer.execute(sql, can_cache=False)
        finally:
            self._controlling = False

    def migrate(self, migrations: Sequence[Migration]) -> None:
        """Apply the migrations that this file has not seen, each in its own transaction."""
        self.control(MIGRATIONS_TABLE)
        seen = {name for (name,) in self.writer.execute("SELECT name FROM mesh_migrations")}
        for migration in migrations:
            if migration.name in seen:
                continue
            self.control("BEGIN IMMEDIATE")
            try:
                self.control(migration.sql)
                self.writer.execute("INSERT INTO mesh_migrations VALUES (?1)", (migration.name,))
            except BaseException:
                self.control("ROLLBACK")
                raise
            self.control("COMMIT")

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


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), statementcachesize=256)
    connection.set_busy_timeout(5000)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection
