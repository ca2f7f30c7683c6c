"""The system with every database on PostgreSQL: the same orders, the same books, the same kills.

Two saga engines share a database, and one of them dies.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e import december
from tests.e2e.books import check, count_resumed, read_books
from tests.e2e.read_model import as_analytics_tells, as_services_tell
from tests.e2e.system import SERVICES, System, running
from tests.soak.databases import Databases
from tests.soak.mails import Mailbox, Mails, read_mails
from tests.support.waiting import eventually

ORDERS, IN_FLIGHT = 160, 10
#: PostgreSQL first, under everybody; then one that is called, and one of two whose sagas they are.
VICTIMS = ("postgres", "payment", "orchestrator")
LISTENERS = ("analytics", "inventory", "notification")
SETTLED_S = 120.0


def test_orders_end_as_they_should_whoever_is_killed(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: dict[str, int] = {}
    with running(data, STORE="postgres", MESH_REPLICAS="orchestrator=2") as system:
        command = december.replay_command(*december.FAILING, f"--limit={ORDERS}")
        replay = system.start(command, data / "replay.log")
        try:
            for victim in VICTIMS:
                killed[victim] = kill_in_flight(system, victim)
            assert replay.wait(december.REPLAY_S) == 0, (data / "replay.log").read_text()
        finally:
            replay.kill()
            replay.wait()
        cancel_one(system)
        check_listeners(system)
        system.run(sys.executable, "-m", "reconcile")
        assert not list(data.glob("*.db"))
    resumed = count_resumed(data)
    with capsys.disabled():
        print(f"\nin flight when killed: {killed}; {resumed} sagas resumed")
    assert resumed >= IN_FLIGHT
    books = read_books(data)
    check(books)
    assert books.states.total() == ORDERS
    assert 0.05 < books.states["CANCELLED"] / ORDERS < 0.30, books.states
    confirmed = books.ordered("CONFIRMED")
    net = {"GBP": sum(december.totals_pence()[order_id] for order_id in confirmed)}
    assert books.net == books.provider_net == net
    shipped = sum((december.units()[id_] for id_ in confirmed), Counter())
    assert +Counter({sku: stock.shipped for sku, stock in books.stock.items()}) == shipped


def kill_in_flight(system: System, victim: str) -> int:
    """Kill *victim* while enough sagas run; return how many, once all serve again."""
    count = system.wait_in_flight(IN_FLIGHT)
    pid = system.kill(victim)
    system.wait_restarted(victim, pid, *SERVICES)
    return count


def cancel_one(system: System) -> None:
    """Cancel an order that was confirmed."""
    orders = as_services_tell(system)
    order_id = next(id_ for id_, (state, *_) in orders.items() if state == "CONFIRMED")
    answer = system.post(f"/v1/orders/{order_id}:cancel", {"reason": "changed mind", "wait": True})
    assert answer.json().get("state") == "CANCELLED", answer.text
    assert as_services_tell(system)[order_id] == ("CANCELLED", "REFUNDED", "CANCELLED")


def check_listeners(system: System) -> None:
    """Every event has its mail, the read model tells what the services do, and nothing is dead."""
    eventually(lambda: mails(system).are_all_there, within_s=SETTLED_S)
    assert list(mails(system).faults()) == []
    eventually(lambda: as_analytics_tells(system) == as_services_tell(system), within_s=SETTLED_S)
    dead = system.run(sys.executable, "-m", "mesh", "dlq", "list").stdout
    assert sorted(dead.splitlines()) == [f"{service}: no dead letters" for service in LISTENERS]


def mails(system: System) -> Mails:
    """What has been mailed, and what is to be."""

    async def read() -> Mails:
        async with Databases(system) as databases:
            return await read_mails(databases, Mailbox(system.data))

    return asyncio.run(read())
