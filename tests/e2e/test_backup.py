"""A system is backed up while it works, and is restored elsewhere with its sagas in flight."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mesh.runtime import backup
from tests.e2e import december
from tests.e2e.books import check, check_same, read_books
from tests.e2e.system import System, running
from tests.support.waiting import eventually

ORDERS = ("--limit=300", *december.FAILING)
#: Sagas in flight when a backup is asked for.
IN_FLIGHT = 20


def test_the_books_of_a_backup_add_up_and_nothing_asked_again_is_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, data = tmp_path / "backup", tmp_path / "restored"
    with running(tmp_path / "data") as system:
        replay = system.start(december.replay_command(*ORDERS), tmp_path / "replay.log")
        try:
            with system.frozen("payment"):
                system.wait_in_flight(IN_FLIGHT)
            # As `mesh backup` does, but at once: a command takes a while to start.
            made = backup.take(databases(system), source)
            assert replay.wait(december.REPLAY_S) == 0, (tmp_path / "replay.log").read_text()
        finally:
            replay.kill()
            replay.wait()
        refused = restore(system, source, check=False)
        assert "stop it first" in refused
    everything = read_books(tmp_path / "data")
    check(everything)

    unfinished = unfinished_sagas(source)
    with capsys.disabled():
        print(f"\n{unfinished} sagas under way; writes waited for {made.pause_s * 1000:.0f} ms")
    assert unfinished
    for name in ("orchestrator", "payment"):  # whose cards were being charged
        assert b"tok_" not in (source / f"{name}.db").read_bytes()
    data.mkdir()
    shutil.copy2(tmp_path / "data" / "seal.key", data)  # it is in no backup
    system.environment = {**system.environment, "MESH_DATA_DIR": str(data)}
    restore(system, source)
    with running(data) as restored:
        eventually(lambda: not restored.sagas_running(), within_s=december.REPLAY_S)
        books = read_books(data)
        check(books)
        assert 0 < len(books.orders) < len(everything.orders)
        december.replay(restored, *ORDERS)  # customers order again what they hear nothing of
    check_same(read_books(data), everything)


def databases(system: System) -> dict[str, Path]:
    return {name: system.data / f"{name}.db" for name in system.config.services}


def restore(system: System, source: Path, *, check: bool = True) -> str:
    """Run `mesh restore`; return what it says."""
    command = (sys.executable, "-m", "mesh", "restore", str(source))
    done = system.run(*command, check=check)
    return done.stdout + done.stderr


def unfinished_sagas(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "orchestrator.db")) as database:
        query = "SELECT COUNT(*) FROM mesh_sagas WHERE state IN (1, 2, 4)"
        return int(database.execute(query).fetchone()[0])
