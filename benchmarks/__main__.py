"""`make bench`: measure, print a table, keep the figures in benchmarks/results/."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import uvloop

from benchmarks import calls, spans
from benchmarks.rounds import Sample, interleave, ratio

RESULTS = Path(__file__).parent / "results"
#: What is aimed at: (variant, against, at most).
TARGETS = [
    ("layers", "raw", 1.20),
    ("layers, 10% traced", "raw", 1.30),
    ("layers, 100% traced", "raw", 1.60),
    ("layers, 100% traced", "contrib, 100% traced", 0.75),
    ("span", "span of the SDK", 1.00),
]
COLLECTOR_PORT, PAGE_PORT = 24317, 28081


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    made = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    made.add_argument("--rounds", type=int, default=20)
    made.add_argument("--calls", type=int, default=500, help="of each variant in a round")
    made.add_argument("--keep", action="store_true", help="write benchmarks/results/calls.json")
    return made


def main() -> int:
    """Run the benchmark of calls."""
    options = parser().parse_args()
    logging.getLogger("mesh").setLevel(logging.ERROR)
    collector = subprocess.Popen(
        [
            *(sys.executable, "-m", "observability.trace_store"),
            *("--otlp-port", str(COLLECTOR_PORT), "--http-port", str(PAGE_PORT)),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        samples = uvloop.run(measure(options.rounds, options.calls))
    except KeyboardInterrupt:
        return 130
    finally:
        collector.terminate()
        collector.wait()
    report(samples, options.keep)
    return 0


async def measure(rounds: int, count: int) -> dict[str, list[Sample]]:
    """Return the samples of every variant."""

    def progress(line: str) -> None:
        print(f"\r{line}", end="", file=sys.stderr, flush=True)

    await asyncio.sleep(1)  # the collector comes up; the first round is not counted
    async with calls.variants(f"127.0.0.1:{COLLECTOR_PORT}") as variants:
        return await interleave(variants | spans.variants(), rounds, count, progress)


def report(samples: dict[str, list[Sample]], keep: bool) -> None:
    """Print the table; keep it if asked to."""
    print("\r\033[K", end="", file=sys.stderr)
    cpu = {name: [sample.cpu_us for sample in taken] for name, taken in samples.items()}
    print(f"{'variant':24}{'CPU us a call':>14}{'us a call':>12}")
    for name, taken in samples.items():
        wall = statistics.median(sample.wall_us for sample in taken)
        print(f"{name:24}{statistics.median(cpu[name]):14.0f}{wall:12.0f}")
    print(f"\n{'CPU ratio':48}{'median':>8}{'95% interval':>16}{'target':>9}")
    figures = []
    for name, against, target in TARGETS:
        found = ratio(cpu[name], cpu[against])
        met = "met" if found.median <= target else "missed"
        interval = f"{found.low:.2f} - {found.high:.2f}"
        print(f"{name + ' : ' + against:48}{found.median:8.2f}{interval:>16}{target:9.2f} {met}")
        figures.append({"what": name, "against": against, "target": target, **asdict(found)})
    if keep:
        RESULTS.mkdir(exist_ok=True)
        machine = {"machine": platform.machine(), "python": platform.python_version()}
        document = {**machine, "rounds": len(cpu["raw"]), "ratios": figures}
        (RESULTS / "calls.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
