"""A SQLite file: its two connections, how they are set up, and what SQL may run on them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import apsw

from .migrate import SEEN, TABLES, Migration, pending
from .port import NotStoredError, StorageError

#: A quoted text, in which a dollar is a dollar, or a parameter.
_PARAMETER = re.compile(r"""('[^']*'|"[^"]*")|\$(\d+)""")
#: What the store runs begins with this, what handlers run has it nowhere: a statement that is found
#: in the cache is not shown to the authorizer again.
_MARK = "/* by the store */ "
_FORBIDDEN = re.compile(rf"\bOR\s+ROLLBACK\b|\bDEFERRABLE\b|{re.escape(_MARK)}", re.IGNORECASE)
#: The log is copied into the database once it is this long.
CHECKPOINT_PAGES = 1000
#: If a reader in another process (a backup) made it longer, it is cut to this when it starts over.
LOG_LIMIT_BYTES = 16 * 1024 * 1024
#: How long another process (a backup) may hold the database before a transaction is turned away.
BUSY_TIMEOUT_MS = 5000
#: These are the file's, not the work's.
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
    f"journal_size_limit={LOG_LIMIT_BYTES}",
)
_BLOCK_BYTES = 1 << 16  # SQLite writes no more than twice this at once
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
        raise ValueError(f"it would reach beyond this transaction: {sql}")
    return _PARAMETER.sub(lambda found: found[1] or f"?{found[2]}", sql)


class GuardedConnection:
    """A connection that runs what handlers wrote, and by `control` what only the store may.

    With *reading* it writes nothing.
    """

    def __init__(self, path: Path, *, reading: bool = False) -> None:
        #: Commits that wrote something, and how long the log was after the last one.
        self.commits = self.log_pages = 0
        self._controlling = False
        self._connection = apsw.Connection(str(path), statementcachesize=256)
        self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        # Else most statements are planned anew whenever a parameter is bound.
        self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        for pragma in _PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        if reading:
            self._connection.execute("PRAGMA query_only=ON")
        self._connection.set_wal_hook(self._note_log)  # SQLite's own would hide its failures
        self._connection.authorizer = self._authorize

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open; some failures end it."""
        return self._connection.in_transaction

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[Any]:
        """Run one statement and return its rows."""
        return self._connection.execute(sql, params).fetchall()

    def control(self, sql: str) -> None:
        """Run what only the store may: transaction SQL, schema scripts."""
        self._controlling = True
        try:
            self._connection.execute(_MARK + sql)
        finally:
            self._controlling = False

    def checkpoint(self) -> None:
        """Copy what the log has into the database, as far as no reader needs it as it is."""
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def close(self, *, checkpoint: bool = True) -> None:
        """Close it; whatever was not committed is gone. The last one to close may *checkpoint*."""
        with contextlib.suppress(apsw.Error):
            if not checkpoint:
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection.close()

    def _note_log(self, connection: apsw.Connection, database: str, pages: int) -> int:
        self.commits += 1
        self.log_pages = pages
        return apsw.SQLITE_OK

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


#: Opens a connection: `GuardedConnection`, or what is called like it.
Connect: TypeAlias = Callable[..., GuardedConnection]


class SqliteFile:
    """One connection that writes, one that reads snapshots; both survive `open` after `close`."""

    def __init__(self, path: Path, connect: Connect = GuardedConnection) -> None:
        self._path = path
        self._connect = connect
        self._writer: GuardedConnection | None = None
        self._reader: GuardedConnection | None = None
        self._failed = False
        self.open()

    def open(self) -> None:
        """Open both connections unless they are.

        Raises:
            apsw.Error: the disk does not let us.
        """
        if self._writer:
            return
        log = Path(f"{self._path}-wal")
        if self._path.exists() and log.exists():  # a log alone is nothing to SQLite either
            write_anew(log)
        self.close(checkpoint=False)
        try:
            self._writer = self._connect(self._path)
            self._reader = self._connect(self._path, reading=True)
        except BaseException:
            self.close(checkpoint=False)
            raise
        self._failed = False

    @property
    def writer(self) -> GuardedConnection:
        """The connection that writes; `open` first."""
        assert self._writer
        return self._writer

    @property
    def reader(self) -> GuardedConnection:
        """The connection for snapshots; opened if a failure has left none."""
        if not self._reader:
            self.open()
        assert self._reader
        return self._reader

    def fail(self) -> None:
        """The disk failed under the writer. The reader goes on with what was certain before.

        What the writer did is not known, nor what of a checkpoint has got to the disk: the next
        `open` begins with the log, and until then nothing is copied from it.
        """
        self._failed = True
        if self._writer:
            self._writer.close(checkpoint=False)
            self._writer = None

    def close(self, *, checkpoint: bool = True) -> None:
        """Close both; without *checkpoint* as a crash would."""
        for connection in (self._reader, self._writer):
            if connection:
                connection.close(checkpoint=checkpoint and not self._failed)
        self._reader = self._writer = None

    def rollback(self) -> None:
        """End the writer's transaction, if its failure has not."""
        if self.writer.in_transaction:
            self.control("ROLLBACK")

    def control(self, sql: str) -> None:
        """Run on the writer what only the store may."""
        self.writer.control(sql)

    def migrate(self, migrations: Sequence[Migration]) -> None:
        """Apply the migrations that this file has not seen, each in its own transaction.

        Raises:
            StorageError: one of them fails, and nothing of it is in; or was edited since.
        """
        self.control("; ".join(TABLES))
        for step in pending(migrations, "sqlite", dict(self.writer.execute(SEEN))):
            self.control("BEGIN IMMEDIATE")
            try:
                self.control(step.script)
                for note, params in step.notes:
                    self.writer.execute(translate(note), params)
                self.control("COMMIT")
            except apsw.Error as error:
                if self.writer.in_transaction:
                    self.control("ROLLBACK")
                raise StorageError(f"{self._path}: {step.name}: {error}") from error


def write_anew(log: Path) -> None:
    """Write what *log* holds once more, to the same places, and sync it.

    After an fsync that failed Linux takes the pages for clean: they read as if they were on disk,
    and the next fsync succeeds without them (https://wiki.postgresql.org/wiki/Fsync_Errors). Were
    SQLite to recover them, and to write behind them, a power cut would take what came later too.
    A power cut while this writes does no harm: the bytes are what they were.
    """
    file = apsw.VFSFile("", str(log), [apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE, 0])
    try:
        size = file.xFileSize()
        for offset in range(0, size, _BLOCK_BYTES):
            file.xWrite(file.xRead(min(_BLOCK_BYTES, size - offset), offset), offset)
        if size:
            file.xSync(apsw.SQLITE_SYNC_NORMAL)
    finally:
        file.xClose()


def storage_error(name: str, error: BaseException, *, certain: bool = False) -> StorageError:
    """Return what the callers of the database called *name* are told of *error*.

    With *certain*, it is certain that nothing of their transaction is in.
    """
    extended = getattr(error, "extendedresult", 0)
    code = apsw.mapping_extended_result_codes.get(extended, "")
    message = f"{name}: {error}" + (f" ({code})" if code else "")
    if extended == apsw.SQLITE_IOERR_SHMSIZE:
        return NotStoredError(f"{name}: no room for its -shm file ({code})", "STORAGE_FULL")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return StorageError(message, "STORAGE_CORRUPT")
    if isinstance(error, apsw.FullError):
        return NotStoredError(message, "STORAGE_FULL")
    if isinstance(error, apsw.BusyError):
        return NotStoredError(message, "STORAGE_BUSY")
    return (NotStoredError if certain else StorageError)(message)


def make_folder(folder: Path) -> None:
    """Make *folder*, and those above it, so that no power cut takes them away again."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    above = os.open(folder.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def lock_file(path: Path) -> int:
    """Make this process the one that has the database at *path* open.

    Returns:
        A file descriptor; the lock ends when it is closed.

    Raises:
        StorageError: another process has it open.
    """
    make_folder(path.parent)
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise StorageError(f"{path}: another process has this database open") from None
    return handle
