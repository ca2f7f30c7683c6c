"""`python -m tests.soak`, or `make soak KILLS=1000`: kills, and the books afterwards."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from replay.progress import Progress
from tests.soak import report
from tests.soak.run import Load
from tests.soak.soak import Options, soak

OK, WRONG, INTERRUPTED = 0, 1, 130


def main() -> int:
    """Run it. Exit status: 0 nothing was lost or doubled, 1 something was, 130 interrupted."""
    given = _parser().parse_args()
    orders = Load(given.seed, given.concurrency)
    options = Options(given.kills, orders, given.gap_s)
    folder = given.data or Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"databases and logs: {folder}", file=sys.stderr)
    try:
        soaked = soak(folder, options, Progress())
    except KeyboardInterrupt:
        print("interrupted: the system is down, its files stay", file=sys.stderr)
        return INTERRUPTED
    found = list(soaked.faults())
    found += [f"never interrupted: {kind}" for kind in soaked.killer.coverage.missing]
    if soaked.outcome.settled_s > given.settle_s:
        found.append(f"sagas ended {soaked.outcome.settled_s:.1f} s after the last restart")
    report.show(soaked, found, Console())
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(report.to_json(soaked, found), indent=1) + "\n")
    return WRONG if found else OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="Start the system, place real orders round after round, kill its processes"
        " with -9 at random instants, and add up the books from the database files.",
        epilog="Exit status: 0 nothing was lost, doubled or left over, 1 something was.",
    )
    add = parser.add_argument
    add("--kills", type=int, default=200, metavar="N", help="(%(default)s)")
    add("--seed", type=int, default=1, metavar="N", help="what is killed and ordered (%(default)s)")
    add("--gap-s", type=float, default=2.5, metavar="S", help="between kills (%(default)s)")
    add("--concurrency", type=int, default=32, metavar="N", help="customers (%(default)s)")
    add(
        "--settle-s", type=float, default=30.0, metavar="S", help="allowed at the end (%(default)s)"
    )
    add("--data", type=Path, metavar="DIR", help="databases and logs (a new temporary folder)")
    add("--out", type=Path, metavar="FILE", help="the report as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
