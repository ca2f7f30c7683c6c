"""`make bench`: measure, print a table, keep the figures in benchmarks/results/."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import calls, cancel, spans
from benchmarks.machine import machine
from benchmarks.rounds import Sample, Summary, interleave, ratio, summary
from tests.support.relay import HOPS

RESULTS = Path(__file__).parent / "results"
#: What is aimed at: (variant, against, at most).
TARGETS = [
    ("layers", "raw", 1.20),
    ("layers, 10% traced", "raw", 1.30),
    ("layers, 100% traced", "raw", 1.60),
    ("layers, 100% traced", "contrib, 100% traced", 0.75),
    ("span", "span of the SDK", 1.00),
]
#: Within this time work ends for a caller who has left, however many services down.
CANCEL_MS = 100.0
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
    facts = machine(RESULTS)
    collector = subprocess.Popen(
        [
            *(sys.executable, "-m", "observability.trace_store"),
            *("--otlp-port", str(COLLECTOR_PORT), "--http-port", str(PAGE_PORT)),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        samples = uvloop.run(measure(options.rounds, options.calls))
        cancelled_ms = uvloop.run(cancel.took_ms())
    except KeyboardInterrupt:
        return 130
    finally:
        collector.terminate()
        collector.wait()
    variants = report_variants(samples)
    figures = [*report_ratios(samples), report_cancel(cancelled_ms)]
    if options.keep:
        document = {
            "machine": facts,
            "rounds": options.rounds,
            "variants": {name: asdict(found) for name, found in variants.items()},
            "figures": figures,
        }
        (RESULTS / "calls.json").write_text(json.dumps(document, indent=2) + "\n")
    return 0


async def measure(rounds: int, count: int) -> dict[str, list[Sample]]:
    """Return the samples of every variant."""

    def progress(line: str) -> None:
        print(f"\r{line}", end="", file=sys.stderr, flush=True)

    await asyncio.sleep(1)  # the collector comes up; the first round is not counted
    async with calls.variants(f"127.0.0.1:{COLLECTOR_PORT}") as variants:
        return await interleave(variants | spans.variants(), rounds, count, progress)


def report_variants(samples: dict[str, list[Sample]]) -> dict[str, Summary]:
    """Print what each variant costs; return it."""
    print("\r\033[K", end="", file=sys.stderr)
    found = {name: summary(taken) for name, taken in samples.items()}
    print(f"{'variant':24}{'CPU us a call':>14}{'calls a s':>11}{'p50 us':>9}{'p99 us':>9}")
    for name, one in found.items():
        print(f"{name:24}{one.cpu_us:14.0f}{one.calls_per_s:11.0f}", end="")
        known = one.p50_us is not None
        print(f"{one.p50_us:9.0f}{one.p99_us:9.0f}" if known else "")
    return found


def report_ratios(samples: dict[str, list[Sample]]) -> list[dict[str, Any]]:
    """Print what one variant costs of another; return the ratios."""
    cpu = {name: [sample.cpu_us for sample in taken] for name, taken in samples.items()}
    print(f"\n{'CPU ratio':48}{'median':>8}{'95% interval':>16}{'target':>9}")
    figures = []
    for name, against, target in TARGETS:
        found = ratio(cpu[name], cpu[against])
        met = "met" if found.median <= target else "missed"
        interval = f"{found.low:.2f} - {found.high:.2f}"
        print(f"{name + ' : ' + against:48}{found.median:8.2f}{interval:>16}{target:9.2f} {met}")
        figures.append({"what": name, "against": against, "target": target, **asdict(found)})
    return figures


def report_cancel(took_ms: list[float]) -> dict[str, Any]:
    """Print how soon a call that its caller left ended at the last hop; return it."""
    found = {"median_ms": statistics.median(took_ms), "worst_ms": max(took_ms)}
    met = "met" if found["worst_ms"] <= CANCEL_MS else "missed"
    what = f"left by its caller, ended {HOPS} hops down, ms"
    print(f"\n{what:48}{'median':>8}{'worst':>16}{'target':>9}")
    print(f"{'':48}{found['median_ms']:8.1f}{found['worst_ms']:16.1f}{CANCEL_MS:9.0f} {met}")
    return {"what": what, "target": CANCEL_MS, **found}


if __name__ == "__main__":
    sys.exit(main())
