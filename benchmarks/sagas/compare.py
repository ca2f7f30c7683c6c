"""Everybody in turn, many times over: the machine's moods hit all alike."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.sagas.contestants import Contestant
from benchmarks.sagas.processes import cpu_s

#: Rounds before the first, which find out how many sagas fill a turn.
TRIALS = 2


@dataclass(frozen=True)
class Turn:
    """What one contestant did in one round."""

    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


async def take_turn(contestant: Contestant, sagas: int) -> Turn:
    """Run about *sagas*, as many at once as the contestant likes best."""
    workers = contestant.workers
    share, at_once = -(-sagas // len(workers)), contestant.at_once // len(workers)
    before = cpu_s(contestant.pids)
    took = await asyncio.gather(*(w.ask(sagas=share, at_once=at_once) for w in workers))
    used = cpu_s(contestant.pids) - before
    made = share * len(workers)
    return Turn(
        per_s=made / max(one["wall_s"] for one in took),
        cpu_us=used / made * 1e6,
        p50_ms=statistics.fmean(one["p50_s"] for one in took) * 1e3,
        p99_ms=max(one["p99_s"] for one in took) * 1e3,
    )


async def compare(
    contestants: Mapping[str, Contestant], rounds: int, turn_s: float, done: Callable[[], None]
) -> dict[str, list[Turn]]:
    """Return the turns of all, each of about *turn_s*; tell *done* after every one."""
    sagas = {name: contestant.at_once for name, contestant in contestants.items()}
    turns: dict[str, list[Turn]] = {name: [] for name in contestants}
    for number in range(-TRIALS, rounds):
        for name, contestant in contestants.items():
            turn = await take_turn(contestant, sagas[name])
            if number < 0:
                sagas[name] = max(contestant.at_once, round(turn.per_s * turn_s))
            else:
                turns[name].append(turn)
            done()
    return turns


def median(turns: Sequence[Turn]) -> Turn:
    """Return each figure's median."""
    return Turn(
        per_s=statistics.median(turn.per_s for turn in turns),
        cpu_us=statistics.median(turn.cpu_us for turn in turns),
        p50_ms=statistics.median(turn.p50_ms for turn in turns),
        p99_ms=statistics.median(turn.p99_ms for turn in turns),
    )
