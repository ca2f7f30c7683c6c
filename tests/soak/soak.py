"""Kills while orders are placed: one run."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from replay.progress import Progress
from tests.e2e.system import System, running
from tests.soak.coverage import Coverage
from tests.soak.databases import POSTGRES, Databases
from tests.soak.killer import Kill, Killer
from tests.soak.run import Load, Outcome, orders_under

STORES: Final = ("sqlite", POSTGRES)
#: On PostgreSQL several processes may share a database: two saga engines do, and either may die.
REPLICAS: Final = {POSTGRES: "orchestrator=2"}
#: Whose death may come between a mail and the note that it was sent: it is then sent once more.
MAIL_REPEATS: Final = ("notification", "mailbox", POSTGRES)


@dataclass(frozen=True)
class Options:
    """What to do. gap_s: between kills, on the average; store: one of `STORES`."""

    kills: int
    orders: Load
    gap_s: float = 2.5
    store: str = STORES[0]


@dataclass(frozen=True)
class Soaked:
    """What was killed, and what came of it."""

    options: Options
    killer: Killer
    outcome: Outcome

    def faults(self) -> Iterable[str]:
        """What is wrong, a sentence each; nothing is expected."""
        yield from self.outcome.faults()
        twice, most = self.outcome.mails.twice, self.killed(*MAIL_REPEATS)
        if twice > most:
            yield f"{twice} mails are copies, after {most} kills that may each leave one"

    def killed(self, *names: str) -> int:
        """How often one of these was killed."""
        return sum(victim in names for kill in self.killer.kills for victim in kill.victims)


def soak(data: Path, options: Options, progress: Progress, before: Coverage) -> Soaked:
    """Run it on a new system in the folder *data*; its file kills.log tells what was killed.

    before: what runs before this one have interrupted; what they have not is aimed at.
    """
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o711)  # as root, a PostgreSQL server is somebody else, who must get there
    replicas = REPLICAS.get(options.store, "")
    with running(data, STORE=options.store, MESH_REPLICAS=replicas) as system:
        return asyncio.run(_soak(system, options, progress, before))


async def _soak(system: System, options: Options, progress: Progress, before: Coverage) -> Soaked:
    rng = random.Random(f"kills/{options.orders.seed}")
    with (system.data / "kills.log").open("w") as log:
        async with Databases(system) as databases:
            killer = Killer(system, databases, rng, options.gap_s, before)

            async def kill() -> None:
                with progress.task("kills", options.kills) as done:

                    def tell(kill: Kill) -> None:
                        print(json.dumps(kill.to_json()), file=log, flush=True)
                        done()

                    await killer.run(options.kills, tell)

            outcome = await orders_under(system, options.orders, kill, progress)
    return Soaked(options, killer, outcome)
