"""`make bench-sagas`: our sagas, DBOS's and Temporal's, and the same calls with none of it."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.sagas import crash, finished, report
from benchmarks.sagas.compare import TRIALS, compare
from benchmarks.sagas.contestants import CONTESTANTS, Ground
from benchmarks.sagas.processes import ROOT, ProcessError
from replay.progress import Progress

#: Databases are on the disk of the checkout; /tmp may be in memory, where a sync costs nothing.
SCRATCH = ROOT / ".cache" / "bench-sagas"
ROUNDS, TURN_S = 20, 1.0
QUICK_ROUNDS, QUICK_TURN_S = 2, 0.3


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    made = argparse.ArgumentParser(prog="make bench-sagas ARGS=…", description=__doc__)
    made.add_argument("--quick", action="store_true", help="a minute: few and short turns")
    made.add_argument("--rounds", type=int, help=f"default {ROUNDS}, with --quick {QUICK_ROUNDS}")
    made.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="who has this in the name"
    )
    made.add_argument("--keep", action="store_true", help="write benchmarks/results/sagas*.json")
    instead = made.add_mutually_exclusive_group()
    instead.add_argument(
        "--finished", type=int, metavar="N", help="instead: a journal of N finished sagas"
    )
    instead.add_argument(
        "--crash", type=int, metavar="N", help="instead: kill -9 with N sagas under way"
    )
    return made


async def everybody(ground: Ground, options: argparse.Namespace) -> dict[str, Any]:
    """Compare all, or those whose names have a text."""
    wanted = [n for n in CONTESTANTS if not options.only or any(t in n for t in options.only)]
    progress = Progress()
    with progress.task("starting", len(wanted)) as done:
        contestants = {}
        for name in wanted:
            contestants[name] = await CONTESTANTS[name](ground)
            done()
    with progress.task("turns", (options.rounds + TRIALS) * len(contestants)) as done:
        turns = await compare(contestants, options.rounds, options.turn_s, done)
    figures = report.compared(turns, report.TARGETS)
    report.show(turns, contestants, figures)
    return {"contestants": report.rows(turns, contestants), "throughput": figures}


async def on_a_full_journal(ground: Ground, options: argparse.Namespace) -> dict[str, Any]:
    """Compare ourselves with ourselves."""
    contestants, turns = await finished.measure(
        ground, options.finished, options.rounds, options.turn_s, Progress()
    )
    targets = [(finished.FULL, finished.EMPTY, finished.TARGET)]
    figures = report.compared(turns, targets)
    report.show(turns, contestants, figures)
    rows = report.rows(turns, contestants)
    return {"finished": options.finished, "contestants": rows, "throughput": figures}


async def after_a_kill(ground: Ground, options: argparse.Namespace) -> dict[str, Any]:
    """Kill, and see all of them end."""
    outcome = await crash.measure(ground, options.crash, Progress())
    met = "met" if outcome.recovered_s <= crash.TARGET_S else "missed"
    print(
        f"{outcome.in_flight:,} sagas in flight at kill -9; all had ended"
        f" {outcome.recovered_s:.1f} s after the process was started again"
        f" (target {crash.TARGET_S:.0f} s: {met})\n"
        f"{outcome.completed:,} of {outcome.sagas:,} completed; their steps took effect"
        f" {outcome.applied:,} times, {'each once' if outcome.whole else 'NOT each once'}"
    )
    if not outcome.whole:
        raise ProcessError("steps were lost or made twice")
    return {**asdict(outcome), "target_s": crash.TARGET_S}


async def run(options: argparse.Namespace, folder: Path) -> None:
    """Measure what the options say; end every process."""
    name, measure = _chosen(options)
    before = machine(folder)
    async with AsyncExitStack() as opened:
        found = await measure(Ground(folder, opened), options)
    if options.keep:
        rounds = {} if options.crash else {"rounds": options.rounds, "turn_s": options.turn_s}
        report.keep(name, {**before, **rounds, **found})


def _chosen(
    options: argparse.Namespace,
) -> tuple[str, Callable[[Ground, argparse.Namespace], Awaitable[dict[str, Any]]]]:
    if options.finished:
        return "sagas-finished", on_a_full_journal
    if options.crash:
        return "sagas-crash", after_a_kill
    return "sagas", everybody


def main() -> int:
    """Run it; return the exit status."""
    options = parser().parse_args()
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.turn_s = QUICK_TURN_S if options.quick else TURN_S
    SCRATCH.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=SCRATCH))
    folder.chmod(0o711)  # as root, PostgreSQL is somebody else
    try:
        asyncio.run(run(options, folder))
    except ProcessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
