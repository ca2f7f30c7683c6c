"""What tells that a system is up: a lock on its data directory, and its processes' ids beside it.

Every process of the system holds the lock, by inheriting it from the supervisor. So it is free
only once the last of them has ended, even if the supervisor was killed and could not wait for them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path

from .table import ConfigError


def claim(data_dir: Path) -> int | None:
    """Take the lock; return what holds it until it is closed, or None if somebody has it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    lock = os.open(_lock_file(data_dir), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


def supervisor_runs(data_dir: Path) -> bool:
    """Whether the supervisor that took the lock last is there, or is just taking it."""
    pid = _lock_file(data_dir).read_text()
    return not pid or _runs(int(pid))


def write_pids(data_dir: Path, pids: Mapping[str, int]) -> None:
    """Put down the ids of the processes, by name."""
    fresh = _pids_file(data_dir).with_suffix(".new")
    fresh.write_text(json.dumps(pids, indent=1))
    fresh.replace(_pids_file(data_dir))


def forget_pids(data_dir: Path) -> None:
    """Nothing runs any more."""
    _pids_file(data_dir).unlink(missing_ok=True)


def check_restored(data_dir: Path) -> None:
    """Fail if a restore was interrupted: some of the data may be another time's.

    Raises:
        ConfigError: it was.
    """
    with contextlib.suppress(FileNotFoundError):
        source = restore_marker(data_dir).read_text().strip()
        raise ConfigError(f"a restore was interrupted: run `mesh restore {source}` again")


def restore_marker(data_dir: Path) -> Path:
    """Return the file that is there while a restore puts one time's data in another's place."""
    return data_dir / "restore-unfinished"


def running(data_dir: Path) -> dict[str, int]:
    """Return the ids of the processes that run, by name; none if nothing is up."""
    try:
        lock = os.open(_lock_file(data_dir), os.O_RDONLY | os.O_CLOEXEC)
        pids: dict[str, int] = json.loads(_pids_file(data_dir).read_text())
    except FileNotFoundError:
        return {}
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # somebody has it: what is written down holds
        return {name: pid for name, pid in pids.items() if _runs(pid)}
    finally:
        os.close(lock)
    return {}  # left behind by a supervisor that was killed


def _runs(pid: int) -> bool:
    with contextlib.suppress(PermissionError):  # somebody else's, so it does
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _lock_file(data_dir: Path) -> Path:
    return data_dir / "lock"


def _pids_file(data_dir: Path) -> Path:
    return data_dir / "pids.json"
