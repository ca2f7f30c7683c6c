"""Two services are upgraded and taken back, one after the other, under load; one once more."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from replay.progress import Progress
from tests.e2e.changed import configure, replace
from tests.e2e.system import ROOT, System, running
from tests.soak.databases import Databases
from tests.soak.patience import until
from tests.soak.run import Load, orders_under

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
HOLDS_UP = "payment"  # every saga waits for it, however fast the machine


def test_old_and_new_work_side_by_side_and_finish_what_either_began(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = tmp_path / "schema"
    shutil.copytree(ROOT / "services" / "inventory" / "schema", schema)
    (schema / "0099_shelf.sql").write_text(SHELF)
    path = configure(tmp_path / "system", {})
    variables = {"MESH_CONFIG": str(path), "NEXT_SCHEMA": str(schema)}
    with running(tmp_path / "data", **variables) as system, capsys.disabled():
        upgraded = partial(upgrade, path.parent, system)
        load = Load(seed=1, first_day=True)
        outcome = asyncio.run(orders_under(system, load, upgraded, Progress()))
        sagas = versions(system.data)
        placed = len(outcome.driver.acknowledged)
        print(f"\n{placed} orders, by version and whether another process took over: {sagas}")
    assert list(outcome.faults()) == []
    assert sagas.keys() >= {(1, True), (2, True)}


async def upgrade(folder: Path, system: System) -> None:
    """Take the steps, each while sagas are under way."""
    async with Databases(system) as databases:
        for service, versions, how in STEPS:
            configure(folder, versions)
            with ExitStack() as held:
                if how == signal.SIGKILL:  # some of what runs now are to be left to another
                    held.enter_context(system.frozen(HOLDS_UP))
                    await until(partial(_enough_run, databases, 1 if versions else 2))
                await asyncio.to_thread(replace, system, service, how)


async def _enough_run(databases: Databases, version: int) -> bool:
    """Whether enough sagas of a version are under way."""
    query = f"SELECT COUNT(*) FROM mesh_sagas WHERE state IN (1, 2, 4) AND version = {version}"
    ((count,),) = await databases.rows("orchestrator", query)
    return int(count) >= IN_FLIGHT


def versions(data: Path) -> dict[tuple[int, bool], int]:
    """How many sagas there are of each version, by whether another process took them over."""
    query = "SELECT version, epoch > 0, COUNT(*) FROM mesh_sagas GROUP BY 1, 2"
    with closing(sqlite3.connect(f"file:{data}/orchestrator.db?mode=ro", uri=True)) as database:
        return {(version, bool(taken)): count for version, taken, count in database.execute(query)}
