"""A function that differs from its journal: what is said of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.saga import Branch, Steps, Undo, saga
from mesh.saga.diverged import differing
from mesh.saga.v1.saga_pb2 import Saga
from mesh.testing.loop import run_virtual
from shop.inventory.v1 import inventory_pb2 as inventory
from shop.order.v1 import order_pb2 as order
from tests.unit.mesh.saga.world import World

Body = Callable[[Steps, Any], Any]
INVENTORY = "shop.inventory.v1.InventoryService/"


def reserve(quantity: int = 1, order_id: str = "secret") -> inventory.ReserveStockRequest:
    lines = [inventory.StockLine(sku="A", quantity=quantity)]
    return inventory.ReserveStockRequest(order_id=order_id, lines=lines)


def release(order_id: str = "o") -> inventory.ReleaseStockRequest:
    return inventory.ReleaseStockRequest(order_id=order_id)


CHANGES: dict[str, tuple[Body, Body, str]] = {
    "another method": (
        lambda step, to: step(to.reserve, reserve()),
        lambda step, to: step(to.release, release()),
        (
            f"the journal has {INVENTORY}ReserveStock of 'fake', the function asks"
            f" {INVENTORY}ReleaseStock of 'fake'"
        ),
    ),
    "another target": (
        lambda step, to: step(to.north.reserve, reserve()),
        lambda step, to: step(to.south.reserve, reserve()),
        "ReserveStock of 'north', the function asks",
    ),
    "another request": (
        lambda step, to: step(to.reserve, reserve(1)),
        lambda step, to: step(to.reserve, reserve(2)),
        "ReserveStock is another: lines.",
    ),
    "an undo more": (
        lambda step, to: step(to.reserve, reserve()),
        lambda step, to: step(to.reserve, reserve(), undo=Undo(to.release, release())),
        f"by nothing, the function by {INVENTORY}ReleaseStock",
    ),
    "another undo": (
        lambda step, to: step(to.reserve, reserve(), undo=Undo(to.release, release("a"))),
        lambda step, to: step(to.reserve, reserve(), undo=Undo(to.release, release("b"))),
        f"the request of {INVENTORY}ReleaseStock, its undo, is another",
    ),
    "a branch more": (
        lambda step, to: step.all(Branch(to.reserve, reserve())),
        lambda step, to: step.all(Branch(to.reserve, reserve()), Branch(to.reserve, reserve())),
        f"the function asks step.all of {INVENTORY}ReserveStock of 'fake' beside",
    ),
    "a step of its own": (
        lambda step, to: step.all(Branch(to.reserve, reserve())),
        lambda step, to: step(to.reserve, reserve()),
        (
            f"the journal has step.all of {INVENTORY}ReserveStock of 'fake', the function asks"
            f" {INVENTORY}ReserveStock of 'fake'"
        ),
    ),
    "fewer steps": (
        lambda step, to: step(to.reserve, reserve()),
        lambda step, to: to.nothing(),
        "ReserveStock of 'fake', the function has returned",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_diverged_is_said_without_what_was_in_it(tmp_path: Path, change: str) -> None:
    was, now, said = CHANGES[change]
    runs = 0

    @saga(version=3)
    async def fickle(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
        """Does something else after its first run."""
        nonlocal runs
        runs += 1
        await (was if runs == 1 else now)(step, to)
        if runs == 1:
            raise ZeroDivisionError

    world = World(tmp_path, [fickle])
    world.two_places()
    world.to.nothing = nothing
    row = run_virtual(world.run())
    error = row.error()
    assert row.state == Saga.PARKED
    assert error is not None and error.reason == "DIVERGED"
    assert error.message.startswith("fickle v3, step 1: ")
    assert said in error.message
    assert "secret" not in error.message
    assert len(world.log) == 1


async def nothing() -> None:
    """Ask for nothing."""


def test_the_fields_that_differ_are_named_by_their_paths() -> None:
    one = order.Order(order_id="1", state=order.Order.PENDING)
    other = order.Order(order_id="1", state=order.Order.CONFIRMED)
    other.total.units = 3
    assert differing(one, one) == []
    assert differing(one, other) == ["total", "state"]
    one.total.units = 4
    assert differing(one, other) == ["total.units", "state"]
