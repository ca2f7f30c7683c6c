"""One reconciliation: read everything, look at each order, look again at whatever seems wrong.

The services are read one after the other while orders go on being placed, so that what is read
first is older than what is read last. An order that seems wrong for that reason is read again by
its id, its sagas before and after: if they had ended before, and nothing began since, then nobody
has changed anything in between, and what is wrong is wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from reconcile import facts as facts_module
from reconcile.catalogue import Finding
from reconcile.facts import CANCEL, PLACE, Fact, Facts
from reconcile.rules import check
from reconcile.services import Services
from reconcile.spool import Spool
from reconcile.stock import Shelf
from replay.pool import for_each

#: A saga gives up after ten minutes what it cannot do, and then undoes it.
STUCK_AFTER_S: Final = 900.0
#: So many are read again; where more seem wrong, that alone is worth a look.
SUSPECTS_MAX: Final = 1000
AT_ONCE: Final = 4
FIRST_ANSWER_S: Final = 10.0
TRIES: Final = 5
PAUSE_S: Final = 0.5

#: Called with what is being read and how many of it were.
Tell = Callable[[str, int], None]


@dataclass(slots=True)
class Report:
    """What one run found.

    orders: how many were looked at. in_flight: how many a saga is working on: right or wrong will
    be seen next time. unsure: how many seemed wrong and could not be read again, for there were too
    many of them, or they did not hold still.
    """

    began_at: float
    orders: int = 0
    in_flight: int = 0
    unsure: int = 0
    findings: list[Finding] = field(default_factory=list)
    duration_s: float = 0.0

    @property
    def is_ok(self) -> bool:
        """Whether nothing is wrong, as far as could be seen."""
        return not self.findings and not self.unsure


async def reconcile(
    services: Services,
    tell: Tell,
    *,
    stuck_after_s: float = STUCK_AFTER_S,
    every_line: bool = False,
) -> Report:
    """Read it all, once. Raises mesh.MeshError where a service does not answer for a minute.

    every_line: read each order again, with its lines, which the lists leave out.
    """
    start = time.monotonic()
    report = Report(began_at=time.time())
    shelf = Shelf(report.began_at)

    async def look_again(order_id: str) -> None:
        await _look_again(services, order_id, report, stuck_after_s)
        tell("read again", 1)

    await services.greet(FIRST_ANSWER_S)
    with Spool() as spool:
        await _read(services, spool, shelf, tell)
        suspects: Iterable[str] = _suspects(spool, report, stuck_after_s, every_line)
        if not every_line:
            suspects = list(suspects)  # now: no call may wait until the next one is found
        await for_each(suspects, look_again, concurrency=AT_ONCE)
    report.findings = sorted([*report.findings, *shelf.check()])
    report.duration_s = time.monotonic() - start
    return report


async def _read(services: Services, spool: Spool, shelf: Shelf, tell: Tell) -> None:
    """Put everything on the spool. Sagas last: each order that was read has its saga there."""
    async for stock in services.stock():
        for item in stock:
            shelf.put(item)
        tell("items", len(stock))

    def count(reservation: Any) -> Fact:
        shelf.count(reservation)
        return facts_module.of_reservation(reservation)

    async def put(
        name: str,
        pages: AsyncIterator[list[Any]],
        fact_of: Callable[[Any], Fact],
        order_id_of: Callable[[Any], str] = lambda it: str(it.order_id),
    ) -> None:
        async for page in pages:
            spool.add((order_id_of(it), fact_of(it)) for it in page)
            tell(name, len(page))

    await put("reservations", services.reservations(), count)
    await put("orders", services.orders(), facts_module.of_order)
    await put("shipments", services.shipments(), facts_module.of_shipment)
    await put("payments", services.payments(), facts_module.of_payment)
    await put("ledger", services.entries(), facts_module.of_entry)
    await put("charges", services.charges(), facts_module.of_charge, lambda it: str(it.reference))
    for name in (CANCEL, PLACE):
        sagas = services.sagas(name)
        await put("sagas", sagas, facts_module.of_saga, lambda it: str(it.key))


def _suspects(
    spool: Spool, report: Report, stuck_after_s: float, every_line: bool
) -> Iterator[str]:
    """Look at each order; give out the ids of those that must be read again."""
    wrong = 0
    for facts in spool.each():
        report.orders += facts.order is not None
        seems_wrong = any(check(facts, report.began_at, stuck_after_s))
        wrong += seems_wrong
        if every_line or (seems_wrong and wrong <= SUSPECTS_MAX):
            yield facts.order_id
        elif seems_wrong:
            report.unsure += 1
        else:
            report.in_flight += bool(facts.running)


async def _look_again(
    services: Services, order_id: str, report: Report, stuck_after_s: float
) -> None:
    """Read one order so that its parts belong together, and look at it again."""
    for _ in range(TRIES):
        facts, is_still = await _read_one(services, order_id)
        found = list(check(facts, time.time(), stuck_after_s))
        if is_still or not found:
            report.findings += found
            report.in_flight += bool(facts.running and not found)
            return
        await asyncio.sleep(PAUSE_S)
    report.unsure += 1


async def _read_one(services: Services, order_id: str) -> tuple[Facts, bool]:
    """What is known of an order, and whether nothing of it changed while it was read."""
    before = await services.sagas_of(order_id)
    facts = await services.facts_of(order_id)
    facts.sagas = await services.sagas_of(order_id)
    return facts, facts.sagas == before
