"""What seems wrong is looked at again, until it holds still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from reconcile import run
from reconcile.facts import Facts, Saga
from reconcile.run import Report, reconcile
from reconcile.services import Services
from shop.order.v1.order_pb2 import Order
from tests.unit.reconcile.test_rules import CONFIRMED, OUT_OF_STOCK, saga

PENDING = replace(
    OUT_OF_STOCK, order=cast("Any", OUT_OF_STOCK.order)._replace(state="PENDING"), sagas=[]
)
DONE = [saga("COMPLETED")]
RUNNING = [saga("EXECUTING", age_s=-1e12)]  # young, whatever the time
PARKED = [saga("PARKED")]


class Fake:
    """Services whose lists hold *orders* that are all PENDING, and no sagas; then what is told."""

    def __init__(self, orders: int, sagas: Iterator[list[Saga]], facts: Iterator[Facts]) -> None:
        self._orders = [Order(order_id=f"{n}", state=Order.PENDING) for n in range(orders)]
        self._sagas = sagas
        self._facts = facts

    def __getattr__(self, name: str) -> Any:
        async def pages(*_: Any) -> AsyncIterator[list[Any]]:
            yield self._orders if name == "orders" else []

        return pages

    async def greet(self, within_s: float) -> None:
        pass

    async def sagas_of(self, order_id: str) -> list[Saga]:
        return next(self._sagas)

    async def facts_of(self, order_id: str) -> Facts:
        return replace(next(self._facts), order_id=order_id)


async def found(
    sagas: list[list[Saga]], facts: list[Facts], orders: int = 1, **options: Any
) -> Report:
    services = cast("Services", Fake(orders, iter(sagas), iter(facts)))
    return await reconcile(services, lambda what, count: None, **options)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PAUSE_S", 0.0)


async def test_what_is_wrong_and_holds_still_is_a_finding() -> None:
    report = await found([DONE, DONE], [PENDING])
    assert [(f.rule, f.subject) for f in report.findings] == [("ORDER_UNDECIDED", "0")]
    assert (report.orders, report.in_flight, report.unsure, report.is_ok) == (1, 0, 0, False)


async def test_what_ended_while_it_was_read_is_read_again() -> None:
    report = await found([RUNNING, DONE, DONE, DONE], [PENDING, CONFIRMED])
    assert report.is_ok
    assert report.in_flight == 0


async def test_what_began_while_it_was_read_is_on_its_way() -> None:
    report = await found([DONE, RUNNING], [PENDING])
    assert report.is_ok
    assert report.in_flight == 1


async def test_what_never_holds_still_is_not_called_wrong() -> None:
    report = await found([DONE, PARKED] * run.TRIES, [PENDING] * run.TRIES)
    assert report.findings == []
    assert (report.unsure, report.is_ok) == (1, False)


async def test_of_too_many_some_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SUSPECTS_MAX", 2)
    report = await found([DONE] * 4, [CONFIRMED] * 2, orders=5)
    assert (report.orders, report.unsure, report.findings) == (5, 3, [])


async def test_every_order_may_be_read_whole() -> None:
    dearer = cast("Any", CONFIRMED.order)._replace(lines_nanos=1)
    report = await found([DONE] * 2, [replace(CONFIRMED, order=dearer)], every_line=True)
    assert [finding.rule for finding in report.findings] == ["TOTAL_WRONG"]
