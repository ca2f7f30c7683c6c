"""`make bench-events`: events while their broker is killed; none lost, none twice, in order."""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.events.flow import Flow, Outcome, StalledError
from benchmarks.machine import machine
from benchmarks.sagas.report import keep
from replay.progress import Progress
from tests.support.brokers import BROKERS, REAL

ROOT = Path(__file__).resolve().parents[2]
#: On the disk of the checkout; /tmp may be in memory, where a sync costs nothing.
SCRATCH = ROOT / ".cache" / "bench-events"
EVENTS, COUNTERS, KILLS = 100_000, 2_000, 20


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    made = argparse.ArgumentParser(prog="make bench-events ARGS=…", description=__doc__)
    made.add_argument("--events", type=int, default=EVENTS)
    made.add_argument("--counters", type=int, default=COUNTERS, help="aggregates they are about")
    made.add_argument("--kills", type=int, default=KILLS, help="kill -9 of the broker")
    made.add_argument("--bus", choices=REAL, default="nats")
    made.add_argument("--seed", type=int, default=1, help="chooses when to kill")
    made.add_argument("--keep", action="store_true", help="write benchmarks/results/events.json")
    return made


async def measure(options: argparse.Namespace, folder: Path) -> Outcome:
    """Run it once."""
    broker = BROKERS[options.bus](folder)
    await broker.start()
    try:
        flow = Flow(folder, broker, options.counters, options.seed)
        with Progress().task(f"events over {options.bus}", options.events) as done:
            return await flow.run(options.events, options.kills, done)
    finally:
        await broker.stop()


def main() -> int:
    """Run it; return the exit status: 1 if an event was lost, applied twice or out of order."""
    options = parser().parse_args()
    logging.getLogger("mesh").setLevel(logging.ERROR)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=SCRATCH))
    facts = machine(folder)
    try:
        outcome = asyncio.run(measure(options, folder))
    except StalledError as error:
        print(f"error: {error}; what there is stays in {folder}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    show(outcome)
    if options.keep:
        chosen = {name: value for name, value in vars(options).items() if name != "keep"}
        name = "events" if options.bus == "nats" else f"events-{options.bus}"
        keep(name, {**facts, **chosen, **asdict(outcome)})
    if not outcome.whole:
        print(f"error: what there is stays in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


def show(outcome: Outcome) -> None:
    """Print what became of the events."""
    print(
        f"{outcome.events:,} events, {outcome.kills} kills of the broker: {outcome.lost} lost,"
        f" {outcome.twice} applied twice, {outcome.disordered} out of order"
    )
    print(
        f"{outcome.seconds:.0f} s, {outcome.events / outcome.seconds:,.0f} events/s;"
        f" {outcome.delivered - outcome.events:,} delivered again"
    )
    if outcome.kills:
        print(
            f"at a kill {statistics.median(outcome.waiting):,.0f} events waited for the broker;"
            f" once it was back the next was applied after"
            f" {statistics.median(outcome.resumed_s):.1f} s"
            f" ({max(outcome.resumed_s):.1f} s at most)"
        )


if __name__ == "__main__":
    sys.exit(main())
