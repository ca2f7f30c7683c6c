"""Two services are upgraded and taken back, one after the other, under load; one once more."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e import december
from tests.e2e.books import check, read_books
from tests.e2e.changed import configure, replace
from tests.e2e.system import ROOT, System, running
from tests.support.waiting import eventually

NEXT = {"orchestrator": "tests.e2e.next.orchestrator", "inventory": "tests.e2e.next.inventory"}
SHELF = "ALTER TABLE stock ADD COLUMN shelf TEXT NOT NULL DEFAULT 'A'"
#: Which service has which version next, and how the last one ends: one that drains leaves little
#: to take over. The first also runs on what the next has migrated; the sagas of a version
#: that it does not know wait for that to come back.
STEPS: tuple[tuple[str, Mapping[str, str], signal.Signals], ...] = (
    ("orchestrator", NEXT, signal.SIGKILL),
    ("inventory", NEXT, signal.SIGTERM),
    ("orchestrator", {}, signal.SIGKILL),
    ("inventory", {}, signal.SIGTERM),
    ("orchestrator", NEXT, signal.SIGTERM),
)
IN_FLIGHT = 20


def upgrades(folder: Path, system: System) -> Iterator[str]:
    """Take the steps, each while sagas are under way."""
    for service, versions, how in STEPS:
        if how == signal.SIGKILL:  # some of what runs now are to be left to another
            version = 1 if versions else 2
            eventually(
                lambda version=version: unfinished(system.data, version) >= IN_FLIGHT,  # type: ignore[misc]
                within_s=december.REPLAY_S,
            )
        configure(folder, versions)
        replace(system, service, how)
        yield f"{service} {'next' if versions else 'back'}"


def test_old_and_new_work_side_by_side_and_finish_what_either_began(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = tmp_path / "schema"
    shutil.copytree(ROOT / "services" / "inventory" / "schema", schema)
    (schema / "0099_shelf.sql").write_text(SHELF)
    path = configure(tmp_path / "system", {})
    variables = {"MESH_CONFIG": str(path), "NEXT_SCHEMA": str(schema)}
    with running(tmp_path / "data", **variables) as system:
        replay = system.start(december.replay_command(*december.FAILING), tmp_path / "replay.log")
        try:
            done = [*upgrades(path.parent, system)]
        finally:  # not all of the month is needed
            replay.kill()
            replay.wait()
        eventually(lambda: not unfinished(system.data), within_s=december.REPLAY_S)
    check(read_books(tmp_path / "data"))
    sagas = versions(tmp_path / "data")
    with capsys.disabled():
        print(f"\n{', '.join(done)}; sagas (version, taken over): {sagas}")
    # Of either version some were begun by one process and finished by another.
    assert sagas.keys() >= {(1, True), (2, True)}


def versions(data: Path) -> dict[tuple[int, bool], int]:
    """How many sagas there are of each version, by whether another process took them over."""
    rows = _rows(data, "SELECT version, epoch > 0, COUNT(*) FROM mesh_sagas GROUP BY 1, 2")
    return {(version, bool(taken)): count for version, taken, count in rows}


def unfinished(data: Path, version: int = 0) -> int:
    """How many sagas of a version, or of any, are under way or wait for somebody who knows them."""
    unfinished = "SELECT COUNT(*) FROM mesh_sagas WHERE state IN (1, 2, 4)"
    of_it = f" AND version = {version}" if version else ""
    ((count,),) = _rows(data, unfinished + of_it)
    return int(count)


def _rows(data: Path, query: str) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(f"file:{data}/orchestrator.db?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()
