"""`python -m mesh.testing MODULE:CLASS`: run a simulation under many seeds."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .campaign import Report, silence, simulate
from .report import explain, name_of
from .schedule import CLIENT, only
from .shrink import shrink
from .simulation import Simulation, run_seed

#: More failures than this tell nothing new.
FAILURES_SHOWN = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds; return 1 if one fails."""
    options = _parse(arguments)
    simulation = _load(options.simulation, "a mesh.testing.simulation.Simulation")
    if not (isinstance(simulation, type) and issubclass(simulation, Simulation)):
        sys.exit(f"{options.simulation} is no mesh.testing.simulation.Simulation")
    change: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    if options.change:
        change = _load(options.change, "a function that returns a context manager")
    if options.only:
        return _replay(simulation, options, change)
    seeds = range(options.start, options.start + options.seeds)
    report = Report()
    try:
        with _progress(len(seeds)) as show:

            def note(far: Report) -> None:
                nonlocal report
                report = far
                show(far)

            simulate(simulation, seeds, jobs=options.jobs, change=change, progress=note)
    except KeyboardInterrupt:
        print(f"\nstopped after {report.seeds} of {len(seeds)} seeds", file=sys.stderr)
        _summarise(simulation, report, options)
        return 130
    _summarise(simulation, report, options)
    with change(), silence():
        for failed in report.failures[:FAILURES_SHOWN]:
            print(f"\nseed {failed.seed} fails; looking for the least that makes it", flush=True)
            print(
                explain(simulation, failed, shrink(simulation, failed), options.change), flush=True
            )
    return 1 if report.failed else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m mesh.testing",
        description="Run a whole system from seeds, with everything going wrong that can.",
    )
    parser.add_argument("simulation", metavar="MODULE:CLASS", help="what is simulated")
    parser.add_argument("--seeds", type=_count, default=1000, help="how many (default: 1000)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--jobs", type=_count, default=0, help="processes (default: one a core)")
    parser.add_argument("--only", default="", help="of the first seed, only these faults: ID;ID;…")
    parser.add_argument("--change", default="", metavar="MODULE:FUNCTION", help="a bug to put in")
    parser.add_argument("--coverage", action="store_true", help="show which faults met which calls")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _load(name: str, what: str) -> Any:
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        sys.exit(f"{name}: {error}. Name {what} as MODULE:NAME.")


def _replay(
    simulation: type[Simulation],
    options: argparse.Namespace,
    change: Callable[[], AbstractContextManager[Any]],
) -> int:
    """Run one seed with some of its faults, and tell the story."""
    with change(), silence():
        result = run_seed(simulation, options.start, only(options.only.split(";")), told=True)
    print("\n".join([*result.story, "", *result.problems]))
    return 1 if result.problems else 0


def _summarise(simulation: type[Simulation], report: Report, options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=name_of(simulation), show_header=False)
    for label, value in (
        ("seeds", f"{report.seeds:,}"),
        ("failed", f"{report.failed:,}"),
        ("seeds a second and core", f"{report.seeds_per_cpu_s:.1f}"),
        ("simulated time", f"{report.virtual_s / 3600:,.1f} h"),
        ("steps", f"{report.steps:,}"),
        *((kind, f"{n:,}") for kind, n in report.faults.most_common() if kind != CLIENT),
    ):
        table.add_row(label, value)
    console = Console()
    console.print(table)
    if options.coverage:
        for kind in sorted({kind for kind, _ in report.met}):
            met = {method: n for (k, method), n in report.met.items() if k == kind}
            console.print(f"{kind}: {', '.join(f'{m} {n}' for m, n in sorted(met.items()))}")
    if options.json:
        options.json.write_text(json.dumps(report.figures(), indent=2) + "\n")


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[Report], None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f}/s a core, {task.fields[failed]} failed"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("seeds", total=total, rate=0.0, failed=0)

        def show(report: Report) -> None:
            bar.update(
                task,
                completed=report.seeds,
                rate=report.seeds_per_cpu_s,
                failed=report.failed,
            )

        yield show


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets must have one order, to repeat a run
        command = [sys.executable, "-m", "mesh.testing", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606
    sys.exit(main())
