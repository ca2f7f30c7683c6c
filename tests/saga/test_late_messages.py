"""Each call of an order, arriving after its undo, or once more when everything is over."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from mesh.testing.loop import run_virtual
from tests.saga.late import Overtaken, Repeated, run_late
from tests.saga.shop import SCENARIOS, STOCK, Books, Scenario

SUCCESS = SCENARIOS[0]
each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)


def decided(scenario: Scenario, books: Books) -> Scenario:
    """Return what *scenario* had become if its saga ran out of time."""
    if books.reason == "SAGA_DEADLINE":
        return replace(scenario, refused_with="SAGA_DEADLINE")
    return scenario


@each_scenario
def test_a_call_that_its_undo_overtook_does_nothing(scenario: Scenario, tmp_path: Path) -> None:
    abandoned = 0
    for number in itertools.count(1):
        faults = Overtaken(number)
        books = run_virtual(run_late(tmp_path / str(number), scenario, faults))
        if not faults.reached:
            break
        become = decided(scenario, books)
        abandoned += become is not scenario
        assert books.problems(become) == [], f"call {number} came too late"
    assert abandoned > 0
    assert number > 1


@each_scenario
def test_a_call_that_comes_again_does_nothing(scenario: Scenario, tmp_path: Path) -> None:
    extra = 5
    for number in itertools.count(1):
        faults = Repeated(number)
        books = run_virtual(run_late(tmp_path / str(number), scenario, faults, restock=extra))
        free, reserved, shipped = books.stock
        books.stock = (free - extra, reserved, shipped)
        assert books.problems(scenario) == [], f"call {number} came twice"
        if not faults.reached:
            break
    assert number > 1
    assert STOCK > 0
