"""Throughput on a journal of a million finished sagas, against one that is empty."""

from __future__ import annotations

import math
from pathlib import Path

from benchmarks.sagas.compare import Turn, compare
from benchmarks.sagas.contestants import SYNCED, Contestant, Ground
from benchmarks.sagas.journals import BATCH, multiply
from replay.progress import Progress

EMPTY, FULL = "empty journal", "finished sagas in it"
TARGET = 0.9
AT_ONCE = 50


async def measure(
    ground: Ground, number: int, rounds: int, turn_s: float, progress: Progress
) -> tuple[dict[str, Contestant], dict[str, list[Turn]]]:
    """Return what both did, each in its turn."""
    echo, address = await ground.echo("mesh")
    full = ground.folder / "full.db"
    await _one_saga(ground, address, full)
    with progress.task("finished", math.ceil(number / BATCH)) as done:
        multiply(full, number, done)
    contestants = {}
    for name, database in ((EMPTY, ground.folder / "empty.db"), (FULL, full)):
        worker = await ground.worker(
            "ours", database.stem, "--echo", address, "--database", str(database)
        )
        contestants[name] = Contestant(AT_ONCE, SYNCED, (worker,), (echo,))
    with progress.task("turns", (rounds + 2) * len(contestants)) as done:
        return contestants, await compare(contestants, rounds, turn_s, done)


async def _one_saga(ground: Ground, echo: str, database: Path) -> None:
    """Make a journal with one finished saga."""
    worker = await ground.worker("ours", "one", "--echo", echo, "--database", str(database))
    await worker.ask(sagas=1, at_once=1)
    await worker.stop()
