"""Many seeds, on all cores."""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeAlias

from .schedule import Happens, everything
from .simulation import Result, Simulation, run_seed

#: A change of the system, made by a function at the top level of a module; see `Report.failures`.
Change: TypeAlias = Callable[[], AbstractContextManager[object]]

#: Seeds that a process runs before it reports.
CHUNK = 4
#: Failures that are kept, of however many there are.
FAILURES_MAX = 20


@dataclass
class Report:
    """What became of many seeds."""

    seeds: int = 0
    failed: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    met: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[Result] = field(default_factory=list)

    @property
    def seeds_per_cpu_s(self) -> float:
        """How many seeds a core runs in a second."""
        return self.seeds / self.cpu_s if self.cpu_s else 0.0

    def figures(self) -> dict[str, object]:
        """Return what is worth keeping."""
        return {
            "seeds": self.seeds,
            "failed": self.failed,
            "failed_seeds": [failure.seed for failure in self.failures],
            "cpu_s": round(self.cpu_s, 1),
            "seeds_per_cpu_s": round(self.seeds_per_cpu_s, 2),
            "simulated_h": round(self.virtual_s / 3600, 1),
            "steps": self.steps,
            "faults": dict(self.faults.most_common()),
            "met": {f"{kind} / {method}": n for (kind, method), n in sorted(self.met.items())},
        }

    def add(self, other: Report) -> None:
        """Count *other* in."""
        self.seeds += other.seeds
        self.failed += other.failed
        self.steps += other.steps
        self.virtual_s += other.virtual_s
        self.cpu_s += other.cpu_s
        self.faults.update(other.faults)
        self.met.update(other.met)
        self.failures = sorted([*self.failures, *other.failures], key=lambda f: f.seed)
        del self.failures[FAILURES_MAX:]

    def note(self, result: Result) -> None:
        """Count one seed in."""
        self.seeds += 1
        self.steps += result.steps
        self.virtual_s += result.virtual_s
        self.faults.update(fault.kind for fault in result.faults)
        self.met.update(result.met)
        if result.problems:
            self.failed += 1
            self.failures.append(result)


def simulate(
    simulation: type[Simulation],
    seeds: Iterable[int],
    *,
    jobs: int = 0,
    happens: Happens = everything,
    change: Change = contextlib.nullcontext,
    stop: Callable[[Report], bool] = lambda report: False,
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Run *seeds*.

    Args:
        simulation: of what. The processes import it by the name of its module.
        seeds: which runs.
        jobs: processes; 0: one a core; 1: this one.
        happens: which faults do.
        change: is in force meanwhile: a bug, to see that it is found.
        stop: whether to leave out what has not begun.
        progress: is told, now and then, how far it is.
    """
    work = (_Work(simulation, chunk, happens, change) for chunk in _chunks(seeds))
    report, jobs = Report(), jobs or os.cpu_count() or 1
    for part in map(_run, work) if jobs == 1 else _spread(work, jobs):
        report.add(part)
        progress(report)
        if stop(report):
            break
    return report


def _chunks(seeds: Iterable[int]) -> Iterator[tuple[int, ...]]:
    left = iter(seeds)
    while chunk := tuple(itertools.islice(left, CHUNK)):
        yield chunk


@dataclass(frozen=True)
class _Work:
    simulation: type[Simulation]
    seeds: tuple[int, ...]
    happens: Happens
    change: Change


def _run(work: _Work) -> Report:
    """Run some seeds, in this process."""
    report, began = Report(), time.process_time()
    with work.change(), silence():
        for seed in work.seeds:
            report.note(run_seed(work.simulation, seed, work.happens))
    report.cpu_s = time.process_time() - began
    return report


def _spread(work: Iterator[_Work], jobs: int) -> Iterator[Report]:
    """Run *work* in *jobs* processes; yield the reports as they come."""
    os.environ.setdefault("PYTHONHASHSEED", "0")  # of the processes; this one has begun
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, _begin)
    running: set[Future[Report]] = set()
    try:
        while True:
            room = 2 * jobs - len(running)
            running |= {pool.submit(_run, some) for some in itertools.islice(work, room)}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Start a process: the terminal's Ctrl-C is for the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Let the mesh log nothing: nobody reads what a thousand systems have to say."""
    log = logging.getLogger("mesh")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
