"""The read model on real processes: killed, rebuilt while it serves, and equal to the services."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.e2e import december
from tests.e2e.system import System, eventually, running

ORDERS = 200
KILLS = 3
SETTLED_S = 60.0


def test_it_tells_what_the_services_tell_whoever_is_killed(tmp_path: Path) -> None:
    with running(tmp_path) as system:
        command = [sys.executable, "-m", "replay", str(december.FILE), f"--limit={ORDERS}"]
        replay = system.start([*command, "--decline=0.1", "--seed=3"], tmp_path / "replay.log")
        for number in range(KILLS):
            eventually(lambda: sales_count(system) > 0, within_s=SETTLED_S)
            if number == 1:
                said = system.run(
                    sys.executable, "-m", "mesh", "read-model", "rebuild", "analytics"
                )
                assert said.stdout.startswith("analytics-2: BUILDING")
            system.wait_restarted("analytics", system.kill("analytics"), "analytics")
        assert replay.wait(december.REPLAY_S) == 0, (tmp_path / "replay.log").read_text()
        eventually(lambda: serving(system) == ["analytics-2: SERVING"], within_s=SETTLED_S)
        eventually(lambda: overviews(system) == orders(system), within_s=SETTLED_S)
        confirmed = [state for state, *_ in orders(system).values()].count("CONFIRMED")
        assert sales_count(system) == confirmed
        one = next(iter(orders(system)))
        version = int(system.read(f"/v1/orders/{one}")["version"])
        newest = system.read(f"/v1/analytics/orders/{one}", minVersion=version)
        assert int(newest["version"]) == version


def serving(system: System) -> list[str]:
    """The read models there are, each with its state."""
    said = system.run(sys.executable, "-m", "mesh", "read-model", "list", "analytics").stdout
    return [line.partition(",")[0] for line in said.splitlines()]


def sales_count(system: System) -> int:
    """How many orders were sold, of the read model."""
    answer = system.get("/v1/analytics/sales")
    days = answer.json().get("days", []) if answer.status_code == 200 else []
    return sum(int(day["orderCount"]) for day in days)


def pages(system: System, path: str, items: str) -> list[Any]:
    """All items of a list."""
    found, token = [], ""
    while True:
        page = system.read(path, pageSize=1000, pageToken=token)
        found += page.get(items, [])
        token = page.get("nextPageToken", "")
        if not token:
            return found


def told(state: str) -> str:
    """A state; nothing if there is none."""
    return "" if state == "STATE_UNSPECIFIED" else state


def orders(system: System) -> dict[str, tuple[str, str, str]]:
    """Each order's state, payment's and shipment's, as their own services tell."""
    payments = {p["orderId"]: p["state"] for p in pages(system, "/v1/payments", "payments")}
    shipments = {s["orderId"]: s["state"] for s in pages(system, "/v1/shipments", "shipments")}
    return {
        o["orderId"]: (
            o["state"],
            payments.get(o["orderId"], ""),
            shipments.get(o["orderId"], ""),
        )
        for o in pages(system, "/v1/orders", "orders")
    }


def overviews(system: System) -> dict[str, tuple[str, str, str]]:
    """The same, as the read model tells: over all customers."""
    users = Counter(o["userId"] for o in pages(system, "/v1/orders", "orders"))
    found = {}
    for user in users:
        for one in pages(system, f"/v1/analytics/customers/{user}/orders", "orders"):
            found[one["orderId"]] = (
                told(one["state"]),
                told(one["paymentState"]),
                told(one["shipmentState"]),
            )
    return found
