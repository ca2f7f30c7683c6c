"""A restore is whole, or it is done again."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from mesh.runtime import backup, presence, restore, seal_keys
from mesh.runtime.backup import BackupError
from mesh.runtime.config import Config
from mesh.runtime.table import ConfigError

from .counts import NAMES, ask, count, counted, open_store, paths


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
