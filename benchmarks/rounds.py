"""Interleaved rounds: every variant once a round, so that the machine's moods hit all alike."""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

#: Makes a number of calls; returns what each took, in seconds, if one can tell.
Work: TypeAlias = Callable[[int], Awaitable[Sequence[float]]]
RESAMPLES = 2000
#: What a variant leaves for later (spans to send) is done within this time, and is its own cost.
SETTLE_S = 0.25


@dataclass(frozen=True)
class Sample:
    """One variant in one round: CPU and time for each call, and what each took."""

    cpu_us: float
    wall_us: float
    took_s: Sequence[float] = ()


@dataclass(frozen=True)
class Summary:
    """One variant over all rounds: medians, and quantiles of all that its calls took."""

    cpu_us: float
    calls_per_s: float
    p50_us: float | None
    p99_us: float | None


@dataclass(frozen=True)
class Ratio:
    """A median ratio and its 95 % bootstrap interval."""

    median: float
    low: float
    high: float


async def interleave(
    variants: Mapping[str, Work], rounds: int, calls: int, progress: Callable[[str], None]
) -> dict[str, list[Sample]]:
    """Run every variant *rounds* times, in turn; the first round only warms up."""
    samples: dict[str, list[Sample]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        progress(f"round {number} of {rounds}")
        for name, work in variants.items():
            cpu, wall = time.process_time(), time.perf_counter()
            took_s = await work(calls)
            wall = time.perf_counter() - wall
            await asyncio.sleep(SETTLE_S)
            cpu = time.process_time() - cpu
            if number:
                samples[name].append(Sample(cpu / calls * 1e6, wall / calls * 1e6, took_s))
        if not number:
            gc.collect()
            gc.freeze()  # as a process of the mesh does once it serves
    return samples


def summary(samples: Sequence[Sample]) -> Summary:
    """Return what the rounds of a variant come to."""
    took_s = [one for sample in samples for one in sample.took_s]
    cuts = statistics.quantiles(took_s, n=100) if len(took_s) > 1 else None
    return Summary(
        statistics.median(sample.cpu_us for sample in samples),
        1e6 / statistics.median(sample.wall_us for sample in samples),
        cuts[49] * 1e6 if cuts else None,
        cuts[98] * 1e6 if cuts else None,
    )


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Return the median of the rounds' ratios, with its interval."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    draw = random.Random(0)  # noqa: S311  # resampling
    medians = sorted(
        statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES)
    )
    return Ratio(statistics.median(ratios), medians[RESAMPLES // 40], medians[-RESAMPLES // 40 - 1])
