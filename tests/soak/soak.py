"""Kills while orders are placed: one run."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from replay.progress import Progress
from tests.e2e.system import System, running
from tests.soak.coverage import Coverage
from tests.soak.killer import Kill, Killer
from tests.soak.run import Load, Outcome, orders_under


@dataclass(frozen=True)
class Options:
    """What to do. gap_s: between kills, on the average."""

    kills: int
    orders: Load
    gap_s: float = 2.5


@dataclass(frozen=True)
class Soaked:
    """What was killed, and what came of it."""

    options: Options
    killer: Killer
    outcome: Outcome

    def faults(self) -> Iterable[str]:
        """What is wrong, a sentence each; nothing is expected."""
        return self.outcome.faults()


def soak(data: Path, options: Options, progress: Progress, before: Coverage) -> Soaked:
    """Run it on a new system in the folder *data*; its file kills.log tells what was killed.

    before: what runs before this one have interrupted; what they have not is aimed at.
    """
    with running(data) as system:
        return asyncio.run(_soak(system, options, progress, before))


async def _soak(system: System, options: Options, progress: Progress, before: Coverage) -> Soaked:
    rng = random.Random(f"kills/{options.orders.seed}")
    killer = Killer(system, rng, options.gap_s, before)
    with (system.data / "kills.log").open("w") as log:

        async def kill() -> None:
            with progress.task("kills", options.kills) as done:

                def tell(kill: Kill) -> None:
                    print(json.dumps(kill.to_json()), file=log, flush=True)
                    done()

                await killer.run(options.kills, tell)

        outcome = await orders_under(system, options.orders, kill, progress)
    return Soaked(options, killer, outcome)
