"""Orders under some disturbance, and the books afterwards, whatever the disturbance is."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from replay.gateway import Gateway
from replay.invoices import read_file
from replay.loading import DIRECT, Services, load
from replay.plan import Plan
from replay.progress import Progress
from tests.e2e import december
from tests.e2e.books import Books, count_resumed, faults, read_books
from tests.e2e.read_model import Told, as_analytics_tells, as_services_tell
from tests.e2e.system import System
from tests.soak.databases import Databases
from tests.soak.driver import Driver
from tests.soak.journal import Journal, service_of
from tests.soak.mails import Mailbox, Mails, read_mails
from tests.soak.orders import Fate, placements, set_up
from tests.soak.patience import until
from tests.support.waiting import POLL_S

#: Before the disturbance begins, so that there is something to disturb.
WARM_UP_S = 3.0
#: A customer asks again for so long.
PATIENCE_S = 300.0
#: How long the read model may take to tell what the services tell.
READ_MODEL_S = 60.0
#: How long mails may take that nobody hinders: they are sent one after the other.
MAILS_S = 180.0

Disturb = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Load:
    """What is ordered. concurrency: customers; first_day: only the orders of the first day."""

    seed: int
    concurrency: int = 32
    first_day: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    settled_s: from when everything ran again to the end of the last saga. caught_up_s: from there
    until the read model told what the services tell. told: what they did in the end. mailed_s: from
    the end of the last saga until the last mail was there.
    """

    driver: Driver
    disturbed_s: float
    settled_s: float
    caught_up_s: float
    told: tuple[Told, Told]
    mailed_s: float
    mails: Mails
    resumed: int
    restarts: int
    reconciled: dict[str, Any]
    books: Books
    loaded: Counter[str]

    def faults(self) -> Iterable[str]:
        """What is wrong, a sentence each; nothing is expected."""
        yield from self.driver.refused
        yield from faults(self.books)
        yield from self.mails.faults()
        yield from self._faults_of_acknowledged()
        yield from self._faults_of_sums()
        yield from self._faults_of_read_model()
        for finding in self.reconciled["findings"]:
            yield f"reconcile: {finding['rule']}: {finding['subject']}: {finding['text']}"
        if not self.reconciled["ok"]:
            yield f"reconcile: {self.reconciled['unsure']} unsure"

    def _faults_of_acknowledged(self) -> Iterable[str]:
        for order_id, placement in self.driver.acknowledged.items():
            order = self.books.orders.get(order_id)
            state = order.state if order else "lost"
            expected = placement.fate.ends_as
            if order_id in self.driver.cancelled:
                expected = frozenset({"CANCELLED"})
            if order is None and placement.fate is Fate.CANCELLED:  # before it was written down
                state = self.books.sagas.get(("place_order", order_id), "lost")
                expected = frozenset({"FAILED"})
            if state not in expected:
                yield f"order {order_id}, {placement.fate.value}, is {state}"
            elif order and state == "CONFIRMED" and order.total != ("GBP", placement.total_pence):
                yield f"order {order_id} costs {placement.total_pence} pence, not {order.total}"
        for order_id in self.books.orders.keys() - self.driver.acknowledged.keys():
            yield f"order {order_id} was placed and not acknowledged"

    def _faults_of_sums(self) -> Iterable[str]:
        """Sums over what customers know, against sums over the database files."""
        confirmed = self.books.ordered("CONFIRMED").keys() & self.driver.acknowledged.keys()
        net = sum(self.driver.acknowledged[order_id].total_pence for order_id in confirmed)
        for who, kept in (("ledger", self.books.net), ("provider", self.books.provider_net)):
            if +kept != Counter({"GBP": net}):
                yield f"the {who} has kept {dict(kept)}, the confirmed orders come to {net} pence"
        for order_id, charges in self.books.charges.items():
            if len(charges) != 1:
                yield f"order {order_id} was charged {len(charges)} times"
        there = Counter(
            {sku: stock.free + stock.shipped for sku, stock in self.books.stock.items()}
        )
        if +there != self.loaded:
            yield f"{(+there).total()} units are there, {self.loaded.total()} were loaded"

    def _faults_of_read_model(self) -> Iterable[str]:
        """The read model against the services, and both against the database files."""
        by_services, by_analytics = self.told
        for order_id in by_services.keys() | by_analytics.keys():
            told = by_services.get(order_id), by_analytics.get(order_id)
            if told[0] != told[1]:
                yield f"order {order_id} is {told[0]}, and {told[1]} of the read model"
        states = {order_id: state for order_id, (state, *_) in by_services.items()}
        if states != {order_id: order.state for order_id, order in self.books.orders.items()}:
            yield "the services do not tell what is in their database files"


async def orders_under(
    system: System, orders: Load, disturb: Disturb, progress: Progress
) -> Outcome:
    """Place orders all the while, and read the books when everything has ended. Stops the system.

    disturb: what is done to the system meanwhile; afterwards everything must come up again.
    """
    rng = random.Random(orders.seed)
    plan = set_up(read_file(december.FILE), first_day=orders.first_day)
    addresses = {name: system.address(name) for name in DIRECT}
    async with Services(addresses) as services:
        await load(services, plan, progress, concurrency=orders.concurrency)
    base_url = f"http://127.0.0.1:{system.config.ports['gateway']}"
    names = system.pids.keys()
    concurrency = 2 * orders.concurrency
    async with Gateway(base_url, concurrency=concurrency, patience_s=PATIENCE_S) as gateway:
        driver = Driver(gateway, placements(plan, rng))
        customers = asyncio.create_task(driver.run(orders.concurrency))
        try:
            await asyncio.sleep(WARM_UP_S)
            began = time.monotonic()
            await disturb()
            disturbed_s = time.monotonic() - began
            await until(lambda: _all_run(system, names))
            up_at = time.monotonic()
            driver.stop()
            await customers
        finally:
            customers.cancel()
            await asyncio.gather(customers, return_exceptions=True)
    async with Databases(system) as databases:
        await until(lambda: _all_ended(Journal(system, databases)))
        ended_at = time.monotonic()
        told = await _read_model(system)
        told_at = time.monotonic()
        mails = await _mails(system, databases)
        mailed_at = time.monotonic()
    reconciled = _reconcile(system)
    restarts = system.said().count("serves again")
    system.stop()
    # In a thread, as of a PostgreSQL they are read by an event loop of its own.
    resumed = await asyncio.to_thread(count_resumed, system.data)
    books = await asyncio.to_thread(read_books, system.data)
    return Outcome(
        driver=driver,
        disturbed_s=disturbed_s,
        settled_s=ended_at - up_at,
        caught_up_s=told_at - ended_at,
        told=told,
        mailed_s=mailed_at - ended_at,
        mails=mails,
        resumed=resumed,
        restarts=restarts,
        reconciled=reconciled,
        books=books,
        loaded=_loaded(plan),
    )


def _loaded(plan: Plan) -> Counter[str]:
    units: Counter[str] = Counter()
    for one in plan.loads:
        units[one.sku] += one.quantity
    return units


async def _all_run(system: System, names: Collection[str]) -> bool:
    """Whether every process runs, and serves."""
    if set(names) - system.pids.keys():
        return False
    try:
        gateway_serves = system.get("/healthz").is_success
    except httpx.TransportError:
        return False
    services = (name for name in names if service_of(name) in system.config.services)
    return gateway_serves and all(map(system.serves, services))


async def _all_ended(journal: Journal) -> bool:
    return await journal.unfinished() == 0


async def _read_model(system: System) -> tuple[Told, Told]:
    """What services and read model tell, when they tell the same or are out of time for it."""
    ends = time.monotonic() + READ_MODEL_S
    while True:
        told = as_services_tell(system), as_analytics_tells(system)
        if told[0] == told[1] or time.monotonic() > ends:
            return told
        await asyncio.sleep(POLL_S)


async def _mails(system: System, databases: Databases) -> Mails:
    """What has been mailed, when it is all or out of time for it."""
    ends = time.monotonic() + MAILS_S
    mailbox = Mailbox(system.data)
    while True:
        mails = await read_mails(databases, mailbox)
        if mails.are_all_there or time.monotonic() > ends:
            return mails
        await asyncio.sleep(POLL_S)


def _reconcile(system: System) -> dict[str, Any]:
    """What the product's own reconciliation says of the live system."""
    command = (sys.executable, "-m", "reconcile", "--json", "--quiet")
    done = system.run(*command, timeout_s=600, check=False)
    assert done.returncode in (0, 1), done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report
