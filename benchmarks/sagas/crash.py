"""kill -9 with thousands of sagas under way, and how long it takes until all of them have ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from benchmarks.sagas import journals
from benchmarks.sagas.contestants import Ground
from benchmarks.sagas.contract import STEPS
from benchmarks.sagas.processes import ProcessError
from replay.progress import Progress

TARGET_S = 60.0
AT_ONCE = 200
LOOK_S = 0.2
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Outcome:
    """What became of them."""

    in_flight: int
    recovered_s: float
    sagas: int
    completed: int
    applied: int

    @property
    def whole(self) -> bool:
        """Whether every saga has completed and every step was applied once."""
        return self.completed == self.sagas and self.applied == self.sagas * STEPS


async def measure(ground: Ground, number: int, progress: Progress) -> Outcome:
    """Start sagas until *number* are under way, kill their process, start it again, and wait.

    The echo keeps each call's key, so that it can say how often each step was applied.
    """
    _, address = await ground.echo("durable")
    database = ground.folder / "crash.db"
    arguments = ("--echo", address, "--database", str(database), "--no-wait")
    doomed = await ground.worker("ours", "crash", *arguments)
    with progress.task("starting", number) as done:
        shown = 0
        while (under_way := journals.unfinished(database)) < number:
            await doomed.ask(sagas=min(number - under_way, AT_ONCE * 5), at_once=AT_ONCE)
            for _ in range(min(under_way, number) - shown):
                done()
            shown = max(shown, under_way)
    await doomed.kill()
    in_flight = left = journals.unfinished(database)
    began = time.monotonic()
    await ground.worker("ours", "crash", *arguments)
    with progress.task("ending", in_flight) as done:
        while left:
            if time.monotonic() - began > PATIENCE_S:
                raise ProcessError(f"{left} sagas have not ended after {PATIENCE_S:.0f} s")
            await asyncio.sleep(LOOK_S)
            now = journals.unfinished(database)
            for _ in range(left - now):
                done()
            left = now
    return Outcome(
        in_flight=in_flight,
        recovered_s=time.monotonic() - began,
        sagas=journals.sagas(database),
        completed=journals.completed(database),
        applied=journals.applied(ground.folder / "echo-durable" / "echo.db"),
    )
