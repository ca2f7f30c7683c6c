"""`make bench-overload`: ten times what a service can do: what it does then, and afterwards."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import uvloop

from benchmarks.machine import machine
from benchmarks.overload.load import Load, Phase
from benchmarks.sagas.report import RESULTS, keep
from mesh.layers.throttle import ThrottleConfig
from mesh.runtime.tied import tied
from replay.progress import Progress

WORKS = ("pool", "cpu")
CALLERS = ("throttle", "insist")
TIMES = 10.0


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    made = argparse.ArgumentParser(prog="make bench-overload ARGS=…", description=__doc__)
    made.add_argument("--works", nargs="+", choices=WORKS, default=WORKS)
    made.add_argument(
        "--limits", nargs="+", choices=("adapts", "fixed"), default=("adapts", "fixed")
    )
    made.add_argument(
        "--callers", nargs="+", choices=CALLERS, default=("insist",), help="whether they hold back"
    )
    made.add_argument("--scale", type=float, default=1.0, help="of the time that all of it takes")
    made.add_argument("--keep", action="store_true", help="write benchmarks/results/overload.json")
    return made


def phases(scale: float) -> list[Phase]:
    """Return what is asked, as multiples of what can be done, and for how long."""
    return [
        Phase("calm", 0.5, 5.0 * scale),
        Phase("peak", 1.0, 10.0 * scale),
        Phase("storm", TIMES, 20.0 * scale),
        Phase("after", 0.5, 15.0 * scale),
    ]


async def run(work: str, limit: str, callers: str, scale: float = 1.0) -> dict[str, Any]:
    """Put one service through all phases."""
    command = tied([sys.executable, "-m", "benchmarks.overload.service", work, limit])
    pipe = asyncio.subprocess.PIPE
    service = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert service.stdin
    assert service.stdout
    throttle = ThrottleConfig() if callers == "throttle" else None
    load = Load(int(await service.stdout.readline()), throttle)
    seen = phases(scale)
    before = 0
    try:
        with Progress().task(f"{work}, limit {limit}, callers {callers}", len(seen)) as done:
            capacity_per_s = await load.capacity_per_s(5.0 * scale)
            for phase in seen:
                await load.offer(phase, phase.times_capacity * capacity_per_s)
                service.stdin.write(b"\n")
                after = int(await service.stdout.readline())
                phase.executed, before = after - before, after
                done()
    finally:
        await load.close()
        service.stdin.close()
        await service.wait()
    found = figures({phase.name: phase for phase in seen})
    set_up = {"work": work, "limit": limit, "callers": callers}
    return {**set_up, "capacity_per_s": round(capacity_per_s, 1), **found}


def figures(seen: dict[str, Phase]) -> dict[str, Any]:
    """Return what is claimed, and what it is made of."""
    peak, storm, after = seen["peak"], seen["storm"], seen["after"]
    normal_again = max(after.unserved_by_second, default=-1) + 1
    return {
        "goodput_share_of_peak": round(storm.goodput_per_s / peak.goodput_per_s, 3),
        "critical_served_share": round(storm.critical_served / max(1, storm.critical_asked), 4),
        "executed_in_vain": storm.executed - storm.served,
        "normal_after_s": normal_again,
        "phases": [phase.figures() for phase in seen.values()],
    }


def show(found: dict[str, Any]) -> None:
    """Print one line."""
    storm = next(p for p in found["phases"] if p["name"] == "storm")
    print(
        f"{found['work']:5} {found['limit']:7} {found['callers']:9}"
        f" goodput {found['goodput_share_of_peak']:.0%} of its peak,"
        f" critical {found['critical_served_share']:.1%}, normal after"
        f" {found['normal_after_s']} s; can do {found['capacity_per_s']}/s,"
        f" asked {storm['asked']}, executed {storm['executed']} ({found['executed_in_vain']} in"
        f" vain), refused {storm['refused']}, late {storm['late']}, failed {storm['failed']},"
        f" p99 {storm['p99_ms']:.0f} ms"
    )


async def main() -> None:
    """Measure and print."""
    options = parser().parse_args()
    facts = machine(RESULTS)
    found = []
    for work in options.works:
        for limit in options.limits:
            for callers in options.callers:
                found.append(await run(work, limit, callers, options.scale))
                show(found[-1])
    if options.keep:
        keep("overload", {"machine": facts, "runs": found})


if __name__ == "__main__":
    uvloop.run(main())
