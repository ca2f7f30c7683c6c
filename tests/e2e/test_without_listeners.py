"""Nobody who only listens is needed: they are killed whenever they come back, and orders end."""

from __future__ import annotations

import mailbox
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e import december
from tests.e2e.system import System, running
from tests.support.waiting import POLL_S, eventually

ORDERS = 30
#: Whom nobody calls to place an order.
LISTENERS = ("notification", "analytics", "traces")
SETTLED_S = 90.0


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("system")) as up:
        yield up


def test_orders_are_confirmed_while_all_who_listen_are_dead_and_mails_come_later(
    system: System,
) -> None:
    with ExitStack() as dead:
        for listener in LISTENERS:
            dead.enter_context(kept_dead(system, listener))
        command = [sys.executable, "-m", "replay", str(december.FILE), f"--limit={ORDERS}"]
        said = system.run(*command, timeout_s=december.REPLAY_S)
        assert "everything as expected" in said.stderr + said.stdout
        assert not any(system.serves(name) for name in ("notification", "analytics"))
        assert system.get("/v1/analytics/sales").status_code == 503
        orders = system.read("/v1/orders", pageSize=1000)["orders"]
        assert [order["state"] for order in orders] == ["CONFIRMED"] * ORDERS
    eventually(lambda: len(mails(system.data)) == 2 * ORDERS, within_s=SETTLED_S)
    eventually(lambda: sales(system) == ORDERS, within_s=SETTLED_S)


@contextmanager
def kept_dead(system: System, process: str) -> Iterator[None]:
    """Kill *process*, and whatever is started in its place."""
    over = threading.Event()
    killed: set[int] = set()

    def watch() -> None:
        while not over.wait(POLL_S):
            if (pid := system.pids.get(process)) and pid not in killed:
                killed.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        eventually(lambda: len(killed) > 1, within_s=SETTLED_S)
        yield
    finally:
        over.set()
        watching.join()


def mails(data: Path) -> set[str]:
    box = mailbox.Maildir(data / "mail", create=False)
    return {str(box.get_message(key)["Message-ID"]) for key in box.keys()}  # noqa: SIM118


def sales(system: System) -> int:
    answer = system.get("/v1/analytics/sales")
    days = answer.json().get("days", []) if answer.status_code == 200 else []
    return sum(int(day["orderCount"]) for day in days)
