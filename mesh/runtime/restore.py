"""Put a backup in the place of a system's data. What was there is moved aside, not deleted.

Everything is copied and checked first, beside the data. Then, under a marker that keeps every
service from starting on half of it, what is there is moved aside and the copies into its place. A
restore that is interrupted is done again.

Whatever else the system keeps in its data directory is from after the backup, such as the bus's
streams: it is moved aside too. The bus begins anew, and every service publishes its events to it
once more; who had them already takes no notice.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import apsw

from ..storage.port import StorageError
from ..storage.sqlite_file import lock_file, make_folder
from . import backup, presence, seal_keys
from .backup import Backup, BackupError

STAGING = "restoring"
ASIDE = "before-restore-"


def restore(source: Path, data_dir: Path, services: Collection[str]) -> tuple[Backup, Path | None]:
    """Put the backup at *source* in place; return it, and where the old data is, if there was any.

    Raises:
        BackupError: the backup is damaged or another system's, or something runs on *data_dir*.
    """
    found = backup.read(source)
    if strange := sorted(found.copies.keys() - set(services)):
        raise BackupError(f"it has {', '.join(strange)}, which mesh.toml does not name")
    make_folder(data_dir)
    with _alone(data_dir, services):
        staging = _stage(source, found, data_dir / STAGING)
        marker = presence.restore_marker(data_dir)
        backup.write_durably(marker, f"{source.resolve()}\n".encode())
        aside = _move_aside(data_dir, staging)
        for copy in found.copies.values():
            (staging / copy.file).replace(data_dir / copy.file)
        shutil.rmtree(staging)
        backup.sync_folder(data_dir)
        marker.unlink()
        backup.sync_folder(data_dir)
    return found, aside


@contextlib.contextmanager
def _alone(data_dir: Path, services: Collection[str]) -> Iterator[None]:
    """Let nobody else run on the data."""
    with contextlib.ExitStack() as stack:
        held = presence.claim(data_dir)
        if held is None:
            raise BackupError(f"the system runs on {data_dir}: stop it first")
        stack.callback(os.close, held)
        for name in services:
            try:
                stack.callback(os.close, lock_file(data_dir / f"{name}.db"))
            except StorageError as error:
                raise BackupError(f"{error}: stop it first") from None
        yield


def _stage(source: Path, found: Backup, staging: Path) -> Path:
    """Copy the databases to where they only need to be renamed, and make them ready."""
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    for copy in found.copies.values():
        path = staging / copy.file
        try:
            shutil.copyfile(source / copy.file, path)
        except FileNotFoundError:
            raise BackupError(f"{source / copy.file} is missing") from None
        if backup.digest(path) != copy.sha256:
            raise BackupError(f"{source / copy.file} is damaged: it is not what was backed up")
        _publish_again(path)
        with path.open("rb") as file:
            backup.sync(file.fileno())
    backup.sync_folder(staging)
    return staging


def _publish_again(path: Path) -> None:
    """Have the service publish what the bus of that time had."""
    with contextlib.closing(apsw.Connection(str(path))) as database:
        if database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'mesh_outbox'").fetchall():
            database.execute("UPDATE mesh_outbox SET published_at = NULL")


def _move_aside(data_dir: Path, staging: Path) -> Path | None:
    """Move everything away but locks, the keys, and what earlier restores moved."""
    stays = ("lock", presence.restore_marker(data_dir).name, staging.name, seal_keys.FILE)
    old = [
        entry
        for entry in sorted(data_dir.iterdir())
        if entry.name not in stays
        and not entry.name.startswith(ASIDE)
        and not entry.name.endswith(".lock")
    ]
    if not old:
        return None
    aside = data_dir / f"{ASIDE}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    aside.mkdir(exist_ok=True)
    for entry in old:
        entry.replace(aside / entry.name)
    backup.sync_folder(aside)
    return aside
