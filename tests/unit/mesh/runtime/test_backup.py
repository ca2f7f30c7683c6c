"""A backup is of one instant; a restore is whole, or it is done again."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw
import pytest

from mesh.runtime import backup, presence, restore, seal_keys
from mesh.runtime.backup import BackupError
from mesh.runtime.clock import Runtime
from mesh.runtime.config import Config
from mesh.runtime.table import ConfigError
from mesh.storage.migrate import Migration, own_migrations
from mesh.storage.port import Tx, Work
from mesh.storage.sqlite import SqliteStore
from tests.support.things import ThingEvent

COUNTS = Migration("0001_counts.sql", "CREATE TABLE counts (number BIGINT, filler TEXT)")
NAMES = ("first", "second", "third")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three databases, each of which has counted to 1 and published an event."""
    data = tmp_path / "data"

    async def fill() -> None:
        for name in NAMES:
            store = open_store(data, name)
            await store.write(count(1))
            await store.write(lambda tx: tx.publish(ThingEvent(thing_id="a")))
            await store.write(lambda tx: tx.execute("UPDATE mesh_outbox SET published_at = 1"))
            await store.close()

    asyncio.run(fill())
    return data


def open_store(data: Path, name: str) -> SqliteStore:
    return SqliteStore(data / f"{name}.db", Runtime(), [*own_migrations(), COUNTS])


def paths(data: Path) -> dict[str, Path]:
    return {name: data / f"{name}.db" for name in NAMES}


def count(number: int) -> Work[None]:
    async def work(tx: Tx) -> None:
        await tx.execute("INSERT INTO counts VALUES ($1, printf('%.2000c', 'x'))", number)

    return work


def ask(path: Path, question: str) -> Any:
    with closing(apsw.Connection(str(path))) as database:
        return database.execute(question).get


def counted(folder: Path) -> list[int]:
    """How far each database has counted."""
    return [ask(path, "SELECT MAX(number) FROM counts") for path in paths(folder).values()]


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


# --- backup ---------------------------------------------------------------------------------------


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


# --- restore --------------------------------------------------------------------------------------


@pytest.fixture
def one(data: Path, tmp_path: Path) -> Path:
    """A backup from when all had counted to 1; by now they have counted to 2."""
    backup.take(paths(data), tmp_path / "one")

    async def go_on() -> None:
        for name in NAMES:
            store = open_store(data, name)
            await store.write(count(2))
            store.abandon()  # so that there is a log beside the file

    asyncio.run(go_on())
    return tmp_path / "one"


def test_everything_is_as_it_was_and_what_was_there_is_aside(data: Path, one: Path) -> None:
    (data / "nats").mkdir()
    found, aside = restore.restore(one, data, NAMES)
    assert found.copies.keys() == set(NAMES)
    assert counted(data) == [1, 1, 1]
    assert aside is not None
    assert counted(aside) == [2, 2, 2]
    assert (aside / "nats").is_dir()
    assert not (data / "nats").exists()
    assert ask(data / "first.db", "SELECT COUNT(*) FROM mesh_outbox WHERE published_at > 0") == 0
    assert counted(one) == [1, 1, 1]  # and can be restored again
    presence.check_restored(data)


def test_the_key_is_in_no_backup_and_stays_where_it_is(data: Path, one: Path) -> None:
    keys = seal_keys.load(Config(services={}, data_dir=data))
    assert not (one / seal_keys.FILE).exists()
    _, aside = restore.restore(one, data, NAMES)
    assert seal_keys.load(Config(services={}, data_dir=data)) == keys
    assert aside is not None
    assert not (aside / seal_keys.FILE).exists()


def test_into_an_empty_folder(tmp_path: Path, one: Path) -> None:
    _, aside = restore.restore(one, tmp_path / "new" / "data", NAMES)
    assert aside is None
    assert counted(tmp_path / "new" / "data") == [1, 1, 1]


STEPS = [
    "mesh.runtime.backup.write_durably",
    "mesh.runtime.restore._move_aside",
    "pathlib.Path.replace",
    "shutil.rmtree",
    "pathlib.Path.unlink",
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("calls", range(1, 5))
def test_interrupted_anywhere_nothing_starts_on_half_of_it(
    step: str, calls: int, data: Path, one: Path
) -> None:
    if not fails_at(step, calls, lambda: restore.restore(one, data, NAMES)):
        return
    try:
        presence.check_restored(data)
    except ConfigError as error:
        assert f"mesh restore {one}" in str(error)
    else:
        assert counted(data) in ([1, 1, 1], [2, 2, 2])
    restore.restore(one, data, NAMES)
    presence.check_restored(data)
    assert counted(data) == [1, 1, 1]


def fails_at(step: str, calls: int, act: Callable[[], object]) -> bool:
    """Interrupt *act* when *step* is called for the so-manieth time; whether it came to that."""
    module, _, name = step.rpartition(".")
    owner: Any = {
        "mesh.runtime.backup": backup,
        "mesh.runtime.restore": restore,
        "pathlib.Path": Path,
        "shutil": shutil,
    }[module]
    real, left = getattr(owner, name), [calls]

    def step_or_stop(*args: Any, **more: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return real(*args, **more)

    with patch.object(owner, name, step_or_stop):
        try:
            act()
        except KeyboardInterrupt:
            return True
    return False


def test_what_is_no_backup_or_a_damaged_one_is_refused(data: Path, one: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(BackupError, match=match):
            restore.restore(one, data, NAMES)
        assert counted(data) == [2, 2, 2]

    with pytest.raises(BackupError, match=r"it has first, third, which mesh\.toml does not name"):
        restore.restore(one, data, ["second"])
    with (one / "second.db").open("r+b") as file:
        file.seek(5000)
        file.write(b"?")
    refused("second.db is damaged")
    (one / "second.db").unlink()
    refused("second.db is missing")
    (one / backup.MANIFEST).write_text(json.dumps({"made_at": 1}))
    refused("KeyError")
    (one / backup.MANIFEST).unlink()
    refused("is no backup, or not a whole one")


def test_while_anything_runs_it_is_refused(data: Path, one: Path) -> None:
    async def run_one() -> None:
        store = open_store(data, "second")
        with pytest.raises(BackupError, match=r"second\.db: another process .* stop it first"):
            restore.restore(one, data, NAMES)
        await store.close()

    asyncio.run(run_one())
    lock = presence.claim(data)
    assert lock
    with pytest.raises(BackupError, match="the system runs on"):
        restore.restore(one, data, NAMES)
