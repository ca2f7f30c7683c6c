"""The disk that forgets, forgets what it may and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import apsw
import pytest

from tests.disk.disk import SECTOR_BYTES, Disk, Link, Sync, SyncFolder, Truncate, Write

LUCKS = range(200)
OLD, NEW = b"o" * 2 * SECTOR_BYTES, b"n" * 2 * SECTOR_BYTES


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with Disk.in_use(tmp_path) as disk:
        yield disk


def left(disk: Disk, folder: Path) -> list[dict[str, bytes]]:
    """What is left after a power cut now, by as many lucks."""
    found = []
    for luck in LUCKS:
        disk.cut(len(disk.log), folder, Random(luck))
        files = folder.glob("*")
        found.append({f.name: f.read_bytes() for f in files if not f.name.endswith("-shm")})
    return found


def test_what_is_synced_stays(disk: Disk, tmp_path: Path) -> None:
    file = disk.link("a")
    disk.log += [SyncFolder(), Write(file, 0, NEW), Sync(file)]
    assert left(disk, tmp_path / "cut") == [{"a": NEW}] * len(LUCKS)


def test_of_what_is_not_synced_any_sector_may_be_new_old_or_torn(
    disk: Disk, tmp_path: Path
) -> None:
    file = disk.link("a")
    disk.log += [SyncFolder(), Write(file, 0, OLD), Sync(file), Write(file, 0, NEW)]
    found = {files["a"] for files in left(disk, tmp_path / "cut")}
    old, new = OLD[:SECTOR_BYTES], NEW[:SECTOR_BYTES]
    assert found > {old + old, old + new, new + old, new + new}
    assert all(len(content) == len(OLD) for content in found)


def test_a_later_write_may_survive_an_earlier_one(disk: Disk, tmp_path: Path) -> None:
    file = disk.link("a")
    disk.log += [SyncFolder(), Write(file, 0, OLD), Write(file, len(OLD), NEW)]
    assert bytes(len(OLD)) + NEW in {files["a"] for files in left(disk, tmp_path / "cut")}


def test_a_name_is_durable_once_its_folder_is_synced(disk: Disk, tmp_path: Path) -> None:
    file = disk.link("a")
    disk.log += [Write(file, 0, NEW), Sync(file)]
    found = left(disk, tmp_path / "cut")
    assert {} in found
    assert {"a": NEW} in found
    disk.log.append(SyncFolder())
    assert {} not in left(disk, tmp_path / "cut")


def test_a_truncation_and_a_deletion_may_not_have_been(disk: Disk, tmp_path: Path) -> None:
    file = disk.link("a")
    disk.log += [SyncFolder(), Write(file, 0, NEW), Sync(file), Truncate(file, 0), Link("a", None)]
    found = left(disk, tmp_path / "cut")
    assert all(files in found for files in ({}, {"a": b""}, {"a": NEW}))


def test_after_a_sync_that_failed_the_next_one_does_not_help(disk: Disk, tmp_path: Path) -> None:
    file = disk.link("a")
    disk.log += [SyncFolder(), Write(file, 0, NEW), Sync(file, failed=True), Sync(file)]
    assert b"" in {files["a"] for files in left(disk, tmp_path / "cut")}


def test_it_sees_what_sqlite_does(disk: Disk, tmp_path: Path) -> None:
    with closing(apsw.Connection(str(tmp_path / "a.db"))) as database:
        database.pragma("journal_mode", "wal")
        database.execute("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    kinds = [type(operation) for operation in disk.log]
    assert {Link, Write, Sync, SyncFolder, Truncate} == set(kinds)
    assert {link.name for link in disk.log if isinstance(link, Link)} == {
        "a.db",
        "a.db-journal",
        "a.db-wal",
    }
    disk.cut(len(disk.log), tmp_path / "cut", Random(1))
    assert (tmp_path / "cut" / "a.db").read_bytes() == (tmp_path / "a.db").read_bytes()
