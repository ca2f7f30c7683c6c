"""The read model on real processes: killed, rebuilt while it serves, and equal to the services."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from shop.order.v1.order_pb2 import Order
from tests.e2e import december
from tests.e2e.read_model import as_analytics_tells, as_services_tell, pages
from tests.e2e.system import System, running
from tests.support.waiting import eventually

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
        eventually(
            lambda: as_analytics_tells(system) == as_services_tell(system), within_s=SETTLED_S
        )
        confirmed = [state for state, *_ in as_services_tell(system).values()].count("CONFIRMED")
        assert sales_count(system) == confirmed
        eventually(lambda: demand(system) == ordered(tmp_path), within_s=SETTLED_S)
        one = next(iter(as_services_tell(system)))
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


def demand(system: System) -> dict[str, tuple[int, int]]:
    """Units asked for and units confirmed of each SKU, as inventory heard of them."""
    return {
        one["sku"]: (int(one["asked"]), int(one.get("confirmed", 0)))
        for one in pages(system, "/v1/demand", "demand")
    }


def ordered(data: Path) -> dict[str, tuple[int, int]]:
    """The same, of the order service's own file."""
    query = (
        "SELECT sku, SUM(quantity), SUM(CASE state WHEN ? THEN quantity ELSE 0 END)"
        " FROM order_lines JOIN orders USING (order_id) GROUP BY sku"
    )
    with sqlite3.connect(f"file:{data / 'order.db'}?mode=ro", uri=True) as file:
        rows = file.execute(query, [Order.CONFIRMED]).fetchall()
    return {sku: (asked, confirmed) for sku, asked, confirmed in rows}
