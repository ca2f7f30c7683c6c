"""The checks of this folder can fail: each protection, switched off, is found missing."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import MeshError
from mesh.saga.leases import Claim, Leases
from mesh.storage import keys
from mesh.testing.cluster import Faults
from mesh.testing.loop import run_virtual
from tests.saga import shop
from tests.saga.late import Overtaken, Repeated, run_late
from tests.saga.shop import SCENARIOS, Scenario
from tests.saga.test_crash_points import KillAt, run

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def killed(folder: Path, scenario: Scenario) -> Iterator[list[str]]:
    """Yield the problems of each run with one kill."""
    calm = Faults()
    run_virtual(run(folder / "calm", scenario, calm))
    for number in range(1, len(calm.points) + 1):
        try:
            books = run_virtual(run(folder / str(number), scenario, KillAt(number)))
        except (AssertionError, MeshError) as error:
            yield [str(error) or "an assertion"]
        else:
            yield books.problems(scenario)


def late(kind: Callable[[int], Any], folder: Path, scenario: Scenario) -> Iterator[list[str]]:
    """Yield the problems of each run with one late message."""
    for number in itertools.count(1):
        faults = kind(number)
        try:
            books = run_virtual(run_late(folder / str(number), scenario, faults, restock=5))
        except (AssertionError, MeshError) as error:
            yield [str(error) or "an assertion"]
            continue
        if not faults.reached:
            return
        free, reserved, shipped = books.stock
        books.stock = (free - 5, reserved, shipped)
        become = scenario
        if books.reason == "SAGA_DEADLINE":
            become = Scenario("late", "SAGA_DEADLINE")
        yield books.problems(become)


def test_without_the_barrier_a_late_do_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def done(tx: Any, do: Any) -> keys.State:
        return keys.State.REPLIED

    monkeypatch.setattr(keys, "state_or_void", done)
    assert any(late(Overtaken, tmp_path, BY_NAME["success"]))


def test_without_stored_refusals_a_late_copy_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember = keys.remember

    async def replies_only(tx: Any, call: Any, answer: keys.Answer) -> None:
        if answer.state is not keys.State.REFUSED:
            await remember(tx, call, answer)

    monkeypatch.setattr(keys, "remember", replies_only)
    assert any(late(Repeated, tmp_path, BY_NAME["out of stock"]))


def test_without_keys_a_repeated_call_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(tx: Any, call: Any) -> None:
        return None

    monkeypatch.setattr(keys, "find", nothing)
    assert any(killed(tmp_path, BY_NAME["success"]))


def test_without_resume_an_unfinished_order_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(self: Leases, engine_id: str, limit: int) -> list[Claim]:
        return []

    monkeypatch.setattr(Leases, "claim", nothing)
    monkeypatch.setattr(shop, "PATIENCE", 50)
    assert any(killed(tmp_path, BY_NAME["success"]))
