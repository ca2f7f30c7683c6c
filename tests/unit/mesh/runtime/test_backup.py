"""A backup is of one instant."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from mesh.runtime import backup
from mesh.runtime.backup import BackupError
from mesh.storage.sqlite import SqliteStore

from .counts import NAMES, ask, count, counted, open_store, paths


@contextmanager
def counting(data: Path) -> Iterator[None]:
    """Count on, all the time: a number in the first database, then in the second, then …"""
    stop = threading.Event()

    async def go_on() -> None:
        stores = [open_store(data, name) for name in NAMES]

        async def beside(store: SqliteStore) -> None:
            while not stop.is_set():
                await store.write(count(0))

        others = [asyncio.create_task(beside(store)) for store in stores]  # it is never idle
        number = 1
        while not stop.is_set():
            number += 1
            for store in stores:
                await store.write(count(number))
        await asyncio.gather(*others)
        for store in stores:
            await store.close()

    thread = threading.Thread(target=asyncio.run, args=(go_on(),))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_it_is_of_one_instant_however_busy_the_databases_are(data: Path, tmp_path: Path) -> None:
    with counting(data):
        made = [backup.take(paths(data), tmp_path / f"{n}") for n in range(20)]
    for number in range(20):
        first, second, third = counted(tmp_path / f"{number}")
        assert first >= second >= third >= first - 1
    assert max(one.pause_s for one in made) < backup.PAUSE_MAX_S
    assert counted(tmp_path / "19") > counted(tmp_path / "0")


def test_copies_made_one_after_the_other_are_not(data: Path, tmp_path: Path) -> None:
    first, third = 1, 1
    with counting(data):
        for number in range(1000):
            for name, path in paths(data).items():
                backup.take({name: path}, tmp_path / f"{number}" / name)
            at = [tmp_path / f"{number}" / name / f"{name}.db" for name in NAMES]
            first, _, third = [ask(path, "SELECT MAX(number) FROM counts") for path in at]
            if first < third:
                break
    assert first < third


def test_a_database_that_is_never_free_is_given_up(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "PAUSE_MAX_S", 0.01)
    monkeypatch.setattr(backup, "ATTEMPT_EVERY_S", 0.01)
    with closing(apsw.Connection(str(data / "third.db"))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackupError, match="never free at once"):
            backup.take(paths(data), tmp_path / "one")
        assert not (tmp_path / "one").exists()
        ask(data / "first.db", "BEGIN IMMEDIATE")  # its lock was let go
    backup.take(paths(data), tmp_path / "one")


def test_what_is_there_is_not_written_over(data: Path, tmp_path: Path) -> None:
    backup.take(paths(data), tmp_path / "one")
    with pytest.raises(BackupError, match="one is there already"):
        backup.take(paths(data), tmp_path / "one")
    assert backup.read(tmp_path / "one").copies.keys() == set(NAMES)


def test_without_a_database_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no database yet"):
        backup.take(paths(tmp_path), tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_interrupted_it_leaves_nothing(data: Path, tmp_path: Path) -> None:
    def interrupt(name: str, pages: int, of: int) -> None:
        if name == "second":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup.take(paths(data), tmp_path / "one", interrupt)
    assert not (tmp_path / "one").exists()


def test_a_damaged_database_is_no_backup(data: Path, tmp_path: Path) -> None:
    page = ask(data / "second.db", "SELECT rootpage FROM sqlite_schema WHERE name = 'counts'")
    with (data / "second.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(BackupError, match=r"second\b.* (damaged|malformed)"):
        backup.take(paths(data), tmp_path / "one")
    assert not (tmp_path / "one").exists()
