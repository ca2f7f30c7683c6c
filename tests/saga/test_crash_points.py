"""Every outside effect of an order, killed just before and just after it.

The points are counted on an undisturbed run of each scenario; then the run is repeated once for
each of them, with that node killed there.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mesh.saga.v1.saga_pb2 import Saga
from mesh.service import Service
from mesh.testing.cluster import Faults, Point
from mesh.testing.loop import run_virtual
from tests.saga.shop import SCENARIOS, SERVICES, Books, Scenario, Shop

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)

READS = ("GetUser", "QuoteOrder")
EFFECTS = ("ChargePayment", "RefundPayment")


class KillAt(Faults):
    """Kills the node that comes to the point with this number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def kills(self, point: Point) -> bool:
        return len(self.points) == self._number


async def run(
    folder: Path,
    scenario: Scenario,
    faults: Faults,
    services: dict[str, Service[Any]] = SERVICES,
) -> Books:
    """Place the scenario's order under *faults* and return the books."""
    async with Shop(folder, faults, services) as shop:
        await shop.place(scenario)
        return await shop.books()


def effects_of(sagas: list[Saga]) -> tuple[int, int]:
    """Return the (commits, calls) that *sagas* had outside, told from their journals alone."""
    commits = calls = 0
    for saga in sagas:
        undone = [step.undo_method for step in saga.steps if step.undo_state]
        made = [step.method for step in saga.steps] + undone
        names = Counter(path.rpartition("/")[2] for path in made)
        # Start; the intents of each position; when compensating, the plan and each undo's answer
        # but the last; the end.
        commits += 1 + len({step.position for step in saga.steps}) + len(undone) + 1
        calls += len(made)
        # A write commits once in its service; an effect twice, and once at the provider.
        commits += len(made) - sum(names[name] for name in READS)
        commits += 2 * sum(names[name] for name in EFFECTS)
        # A quote asks the user and the stock; an effect asks the provider.
        calls += 2 * names["QuoteOrder"] + sum(names[name] for name in EFFECTS)
    return commits, calls


def check_every_point(
    folder: Path,
    scenario: Scenario,
    capsys: pytest.CaptureFixture[str],
    services: dict[str, Service[Any]] = SERVICES,
) -> None:
    """Run *scenario* in peace, count its crash points, and run it with a kill at each."""
    calm = Faults()
    books = run_virtual(run(folder / "calm", scenario, calm, services))
    assert books.problems(scenario) == []
    counted = Counter(point.effect for point in calm.points)
    commits, calls = effects_of(books.sagas)
    asked_from_outside = 2 if scenario.cancel else 1
    assert counted == {
        "commit": 2 * commits,
        "send": 2 * calls,
        "reply": calls + asked_from_outside,
    }
    with capsys.disabled():
        print(
            f"\n{scenario.name}: {len(calm.points)} crash points: before and after {commits}"
            f" commits and {calls} calls, before {counted['reply']} replies"
        )
    for number, point in enumerate(calm.points, start=1):
        books = run_virtual(run(folder / str(number), scenario, KillAt(number), services))
        assert books.problems(scenario) == [], f"killed at point {number}, {point}"


@each_scenario
def test_money_and_stock_are_right_whoever_dies_wherever(
    scenario: Scenario, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_every_point(tmp_path, scenario, capsys)
