"""All services in one process: the same system, and as durable."""

from pathlib import Path

from tests.e2e.books import check, count_resumed, read_books
from tests.e2e.shop import PRICE_PENCE, STOCK, customer, new_id
from tests.e2e.system import PROVIDER, SERVICES, running

ORDERS, IN_FLIGHT = 10, 5


def test_one_process_does_the_same_and_resumes(tmp_path: Path) -> None:
    with running(tmp_path, "--one-process") as system:
        beside = {"traces", "nats", "mailbox", "gateway", "reconcile"}
        assert set(system.pids) == {"all", *beside}
        buyer = customer(system, "GB", "CU")
        assert buyer.order()["state"] == "CONFIRMED"
        assert buyer.order(addressId="cu")["refusal"]["reason"] == "UNSHIPPABLE_ADDRESS"
        slow = [new_id() for _ in range(ORDERS)]
        for order_id in slow:
            assert buyer.order(order_id, paymentToken="tok_slow", wait=None)
        system.wait_in_flight(IN_FLIGHT)
        pid = system.kill("all")
        system.wait_restarted("all", pid, *SERVICES, PROVIDER)
        assert "all was killed by SIGKILL" in system.said()
        for order_id in slow:
            assert buyer.order(order_id, paymentToken="tok_slow")["state"] == "CONFIRMED"
        shipped = 2 * (ORDERS + 1)
        assert buyer.stock() == {"free": STOCK - shipped, "reserved": 0, "shipped": shipped}
    assert count_resumed(tmp_path) >= IN_FLIGHT
    books = read_books(tmp_path)
    check(books)
    assert books.states == {"CONFIRMED": ORDERS + 1, "CANCELLED": 1}
    assert books.net == {"GBP": shipped * PRICE_PENCE}
