"""The benchmark of sagas does what it says: no figures, only that everybody does the work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from benchmarks.rounds import interleave, summary
from benchmarks.sagas import crash, finished, journals, report
from benchmarks.sagas.compare import Turn, compare
from benchmarks.sagas.contestants import CONTESTANTS, OURS, RAW, Ground
from benchmarks.sagas.processes import ProcessError, cpu_s
from benchmarks.sagas.worker import closed_loop
from replay.progress import Progress


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with AsyncExitStack() as opened:
        yield Ground(tmp_path, opened)


async def test_everybody_has_a_turn_in_every_round(ground: Ground) -> None:
    contestants = {name: await CONTESTANTS[name](ground) for name in (RAW, OURS)}
    count = 0

    def done() -> None:
        nonlocal count
        count += 1

    turns = await compare(contestants, rounds=2, turn_s=0.05, done=done)
    assert count == 2 * (2 + 2)
    for taken in turns.values():
        assert len(taken) == 2
        assert all(t.per_s > 0 and t.cpu_us > 0 and 0 < t.p50_ms <= t.p99_ms for t in taken)
    made = journals.completed(ground.folder / "ours-mesh.db")
    assert made == journals.sagas(ground.folder / "ours-mesh.db") >= 4 * 50


async def test_a_worker_that_dies_says_why(ground: Ground) -> None:
    with pytest.raises(ProcessError, match="/dev/null"):
        await ground.worker("ours", "ours", "--echo", "", "--database", "/dev/null/journal")


async def test_a_filled_journal_is_one_that_an_engine_takes(ground: Ground) -> None:
    contestants, turns = await finished.measure(ground, 100, 1, 0.01, Progress())
    assert list(contestants) == list(turns) == [finished.EMPTY, finished.FULL]
    empty, full = ground.folder / "empty.db", ground.folder / "full.db"
    assert journals.completed(full) == journals.sagas(full) >= 100 + 3 * 50
    assert journals.sagas(empty) >= 3 * 50


async def test_after_a_kill_all_sagas_end_and_each_step_took_effect_once(ground: Ground) -> None:
    outcome = await crash.measure(ground, 120, Progress())
    assert outcome.in_flight > 0
    assert outcome.whole, outcome


async def test_the_loop_makes_as_many_as_it_is_told_and_no_more_at_once() -> None:
    made = under_way = most = 0

    async def run() -> None:
        nonlocal made, under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        made += 1

    took = await closed_loop(run, sagas=25, at_once=4)
    assert (made, most) == (25, 4)
    assert 0 < took["p50_s"] <= took["p99_s"] <= took["wall_s"]


def test_a_ratio_is_that_of_throughput_round_by_round() -> None:
    def turns(*per_s: float) -> list[Turn]:
        return [Turn(one, 1.0, 1.0, 1.0) for one in per_s]

    measured = {"a": turns(10, 30, 20), "b": turns(5, 10, 10)}
    targets = [("a", "b", 2.0), ("a", "b", 2.5), ("a", "not measured", 1.0)]
    found = report.compared(measured, targets)
    assert [(one["median"], one["met"]) for one in found] == [(2.0, True), (2.0, False)]


def test_cpu_is_counted() -> None:
    before = cpu_s([os.getpid()])
    while cpu_s([os.getpid()]) == before:
        sum(range(100_000))


async def test_a_summary_is_of_all_rounds() -> None:
    async def work(calls: int) -> list[float]:
        return [number * 1e-6 for number in range(1, calls + 1)]

    samples = await interleave({"a": work}, 2, 1000, lambda line: None)
    found = summary(samples["a"])
    assert found.p50_us == pytest.approx(500, abs=1)
    assert found.p99_us == pytest.approx(990, abs=1)
    assert found.calls_per_s > 0
