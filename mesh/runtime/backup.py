"""A backup of a running system: every database as it was at one and the same instant.

A transaction of a service waits for nothing but its database. So all databases can be locked for
writing at once, and no transaction waits for another in a circle: while they are, nothing commits
anywhere, a snapshot is opened on each, and the locks are let go. The snapshots are copied after
that, while the system goes on.

What was under way at that instant is in the backup as a power cut would have left it, and heals in
the same way: sagas go on from their journal, under their keys.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw

MANIFEST = "backup.json"
#: Writes wait for no longer than this. Services turn them away after 5 s.
PAUSE_MAX_S = 2.0
#: A database that is written to all the time has gaps between its groups; they are short.
POLL_S = 0.0005
#: How often it is tried, and how long the system has to catch up in between.
ATTEMPTS = 5
ATTEMPT_EVERY_S = 2.0
#: Copied between two notes of progress.
STEP_PAGES = 2048

#: Told how much of which database is copied, as (name, pages, of).
Note = Callable[[str, int, int], None]


class BackupError(Exception):
    """There is no backup, or it cannot be used; the message says why."""


@dataclass(frozen=True)
class Copy:
    """One database in a backup."""

    file: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Backup:
    """What a backup's manifest says. `made_at` is in seconds since the epoch."""

    made_at: float
    pause_s: float
    copies: Mapping[str, Copy]


def take(databases: Mapping[str, Path], target: Path, note: Note = lambda *_: None) -> Backup:
    """Copy *databases*, by name, into the new folder *target*.

    Raises:
        BackupError: there is nothing to copy, *target* is there, or a database is never free.
    """
    there = {name: path for name, path in databases.items() if path.exists()}
    if not there:
        raise BackupError("there is no database yet")
    try:
        target.mkdir(parents=True)
    except FileExistsError:
        raise BackupError(f"{target} is there already: name a new folder") from None
    try:
        with contextlib.ExitStack() as stack:
            sources = [stack.enter_context(_Source.of(*one)) for one in there.items()]
            made_at, pause_s = _snapshot(sources)
            copies = {source.name: source.copy(target, note) for source in sources}
        backup = Backup(made_at, round(pause_s, 4), copies)
        write_durably(target / MANIFEST, json.dumps(asdict(backup), indent=1).encode())
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return backup


def read(source: Path) -> Backup:
    """Return what is in the backup at *source*.

    Raises:
        BackupError: it is none, or not a whole one.
    """
    try:
        found = json.loads((source / MANIFEST).read_text())
        copies = {name: Copy(**copy) for name, copy in found["copies"].items()}
        return Backup(found["made_at"], found["pause_s"], copies)
    except FileNotFoundError:
        raise BackupError(f"{source} is no backup, or not a whole one: no {MANIFEST}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{source / MANIFEST}: {error!r}") from None


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file, whole or not at all."""
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(content)
        sync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def sync(handle: int) -> None:
    """Have an open file on disk."""
    os.fsync(handle)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class _Source:
    """A database: a connection that locks it, one that holds a snapshot of it."""

    name: str
    lock: apsw.Connection
    snapshot: apsw.Connection

    @classmethod
    @contextlib.contextmanager
    def of(cls, name: str, path: Path) -> Iterator[_Source]:
        """Open both."""
        flags = apsw.SQLITE_OPEN_READWRITE
        with contextlib.ExitStack() as stack:
            lock, snapshot = (
                stack.enter_context(contextlib.closing(apsw.Connection(str(path), flags)))
                for _ in range(2)
            )
            for connection in (lock, snapshot):
                connection.execute("SELECT 1 FROM sqlite_schema").fetchall()  # not while it waits
            yield cls(name, lock, snapshot)

    def copy(self, target: Path, note: Note) -> Copy:
        """Copy the snapshot into *target*, check the copy, and let the snapshot go."""
        path = target / f"{self.name}.db"
        try:
            self._copy(path, note)
        except apsw.Error as error:
            raise BackupError(f"{self.name}: {error}") from error
        with path.open("rb") as file:
            sync(file.fileno())
        return Copy(path.name, path.stat().st_size, digest(path))

    def _copy(self, path: Path, note: Note) -> None:
        with contextlib.closing(apsw.Connection(str(path))) as copy:
            copy.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
            with copy.backup("main", self.snapshot, "main") as copying:
                while not copying.done:
                    copying.step(STEP_PAGES)
                    note(self.name, copying.page_count - copying.remaining, copying.page_count)
            self.snapshot.execute("ROLLBACK")
            copy.execute("PRAGMA journal_mode = DELETE")  # one file; the service makes it WAL again
            if (found := copy.pragma("integrity_check")) != "ok":
                raise BackupError(f"{self.name} is damaged: {found}")


def _snapshot(sources: Sequence[_Source]) -> tuple[float, float]:
    """Open all snapshots at one instant; return which, and for how many seconds writes waited."""
    for attempt in range(1, ATTEMPTS + 1):
        began = time.monotonic()
        try:
            with _locked(sources, began + PAUSE_MAX_S):
                for source in sources:
                    source.snapshot.execute("BEGIN; SELECT 1 FROM sqlite_schema").fetchall()
                return time.time(), time.monotonic() - began
        except apsw.BusyError:
            if attempt == ATTEMPTS:
                break
            time.sleep(ATTEMPT_EVERY_S)
    raise BackupError(
        f"in {ATTEMPTS} attempts of {PAUSE_MAX_S:.0f} s the databases were never free at once:"
        " try again when there is less to do"
    )


@contextlib.contextmanager
def _locked(sources: Sequence[_Source], ends: float) -> Iterator[None]:
    """Hold every database's write lock: nothing is committed anywhere."""

    def wait(_: int) -> bool:
        time.sleep(POLL_S)
        return time.monotonic() < ends

    with contextlib.ExitStack() as stack:
        for source in sources:
            source.lock.set_busy_handler(wait)
            source.lock.execute("BEGIN IMMEDIATE")
            stack.callback(source.lock.execute, "ROLLBACK")
        yield
