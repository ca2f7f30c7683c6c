"""The whole system is asked to end, or its supervisor is killed, while orders are on their way."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e import shop
from tests.e2e.books import check, read_books
from tests.e2e.system import running
from tests.support.waiting import eventually


def test_ctrl_c_answers_what_is_under_way(tmp_path: Path) -> None:
    with running(tmp_path) as system, ThreadPoolExecutor() as pool:
        customer = shop.customer(system)
        placing = pool.submit(customer.order, "order-slow", paymentToken="tok_slow")
        eventually(lambda: system.sagas_running() == 1)
        system.supervisor.terminate()
        assert placing.result()["state"] == "CONFIRMED"
    books = read_books(tmp_path)
    check(books)
    assert books.states == {"CONFIRMED": 1}


def test_with_the_supervisor_killed_everything_ends_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as system:
        customer = shop.customer(system)
        body = customer.body("order-slow", paymentToken="tok_slow", wait=False)
        assert system.post("/v1/orders", body).status_code == 200
        before = system.pids
        system.kill_supervisor()
        system.start_again()  # at once
        assert "waiting until its processes have ended" in system.said()
        assert not set(before.values()) & set(system.pids.values())
        eventually(lambda: system.sagas_running() == 0)
        assert system.read("/v1/orders/order-slow")["state"] == "CONFIRMED"
    books = read_books(tmp_path)
    check(books)
    assert books.states == {"CONFIRMED": 1}
