"""The simulation can fail: each protection, left out, is found missing."""

import pytest

from mesh.testing.campaign import simulate
from mesh.testing.report import explain, replay_command
from mesh.testing.schedule import only
from mesh.testing.shrink import shrink
from mesh.testing.simulation import run_seed
from tests.simulation.mutants import MUTANTS
from tests.simulation.shop import Shop

#: Each mutant is found within so many seeds, which the unchanged system is run under as well.
SEEDS = 400

pytestmark = pytest.mark.timeout(3600)


@pytest.mark.parametrize("name", MUTANTS)
def test_what_is_left_out_is_found(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = simulate(
        Shop, range(SEEDS), change=MUTANTS[name], stop=lambda report: bool(report.failed)
    )
    assert report.failures, f"{name} lives through {report.seeds} seeds"
    found = report.failures[0]
    with capsys.disabled():
        print(f"\n{name}: seed {found.seed}, of {report.seeds}: {found.problems[0]}")


def test_a_failure_is_shrunk_and_told_with_the_command_that_repeats_it() -> None:
    with MUTANTS["no_keys"]():
        failed = next(r for r in (run_seed(Shop, seed) for seed in range(SEEDS)) if r.problems)
        least = shrink(Shop, failed, runs_max=40)
        again = run_seed(Shop, failed.seed, only(fault.id for fault in least.faults))
    assert least.problems
    assert len(least.faults) < len(failed.faults)
    assert again.fingerprint == least.fingerprint
    text = explain(Shop, failed, least)
    assert replay_command(Shop, least) in text
    assert f"--start {failed.seed} --seeds 1 --only " in text
