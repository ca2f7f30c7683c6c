"""The system with every database on PostgreSQL: the same orders, the same books, the same kills."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.e2e import december
from tests.e2e.books import check, count_resumed, read_books
from tests.e2e.system import SERVICES, System, running

ORDERS, IN_FLIGHT = 160, 10
#: PostgreSQL first, under everybody; then whose saga it is, and one that is called.
VICTIMS = ("postgres", "orchestrator", "payment")


def test_orders_end_as_they_should_whoever_is_killed(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: dict[str, int] = {}
    with running(data, STORE="postgres") as system:
        command = december.replay_command(*december.FAILING, f"--limit={ORDERS}")
        replay = system.start(command, data / "replay.log")
        try:
            for victim in VICTIMS:
                killed[victim] = kill_in_flight(system, victim)
            assert replay.wait(december.REPLAY_S) == 0, (data / "replay.log").read_text()
        finally:
            replay.kill()
            replay.wait()
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
