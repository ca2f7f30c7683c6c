"""`python -m tests.soak`, or `make soak KILLS=1000`: kills, and the books afterwards."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from replay.progress import Progress
from tests.soak import record, report
from tests.soak.run import Load
from tests.soak.soak import STORES, Options, soak

OK, WRONG, NOT_ALL, INTERRUPTED = 0, 1, 3, 130


def main() -> int:
    """Run it, and return the exit status."""
    given = parser().parse_args()
    orders = Load(given.seed, given.concurrency)
    options = Options(given.kills, orders, given.gap_s, given.store)
    folder = given.data or Path(tempfile.mkdtemp(prefix="soak-"))
    runs = record.read(given.out) if given.out else []
    print(f"databases and logs: {folder}", file=sys.stderr)
    try:
        soaked = soak(folder, options, Progress(), record.coverage_of(runs))
    except KeyboardInterrupt:
        print("interrupted: the system is down, its files stay", file=sys.stderr)
        return INTERRUPTED
    found = list(soaked.faults())
    if soaked.outcome.settled_s > given.settle_s:
        found.append(f"sagas ended {soaked.outcome.settled_s:.1f} s after the last restart")
    runs.append(record.run_of(soaked, found))
    if given.out:
        record.write(given.out, runs)
    report.show(runs, Console())
    if found:
        return WRONG
    return NOT_ALL if record.coverage_of(runs).missing else OK


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    made = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="Start the system, place real orders round after round, kill its processes"
        " with -9 at random instants, and add up the books from the database files.",
        epilog="Exit status: 0 nothing was lost, doubled or left over, 1 something was, 3 nothing"
        " was, and some step was never interrupted: more kills are needed.",
    )
    add = made.add_argument
    add("--kills", type=int, default=200, metavar="N", help="(%(default)s)")
    add("--seed", type=int, default=1, metavar="N", help="what is killed and ordered (%(default)s)")
    add("--gap-s", type=float, default=2.5, metavar="S", help="between kills (%(default)s)")
    add("--concurrency", type=int, default=32, metavar="N", help="customers (%(default)s)")
    add(
        "--settle-s", type=float, default=30.0, metavar="S", help="allowed at the end (%(default)s)"
    )
    add("--store", choices=STORES, default=STORES[0], help="where databases are (%(default)s)")
    add("--data", type=Path, metavar="DIR", help="databases and logs (a new temporary folder)")
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="keep the figures there, beside those of runs before",
    )
    return made


if __name__ == "__main__":
    sys.exit(main())
