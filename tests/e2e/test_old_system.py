"""A whole system of an older version, killed under orders, is brought to its end by this one.

`data/killed/*.sql` are dumps, by sqlite3, of all its databases. Its journal ended with migration
0002: there were no leases, branches, events or seals, and payments were rows. Each of its processes
was killed with -9 at one instant, with orders of December 2010 under way, some of which were being
undone. Items that nobody ordered are left out, and the keys under which items were put in.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Final

from mesh.saga.v1.saga_pb2 import Saga
from tests.e2e.books import faults, read_books
from tests.e2e.changed import configure
from tests.e2e.shop import Customer
from tests.e2e.system import running
from tests.support.waiting import eventually

DUMPS: Final = sorted((Path(__file__).parent / "data" / "killed").glob("*.sql"))
UNDER_WAY: Final = (Saga.PENDING, Saga.EXECUTING, Saga.COMPENSATING)
CHARGED: Final = 2  # as payments were then
WITHIN_S: Final = 120.0


def test_orders_that_an_older_system_left_under_way_are_brought_to_their_end(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    restore(data)
    left, charged = sagas(data), rows(data, "payment", "SELECT order_id, state FROM payments")
    assert Counter(left.values()) == {Saga.EXECUTING: 10, Saga.COMPENSATING: 2, Saga.FAILED: 4}
    executing = [order_id for order_id, state in left.items() if state == Saga.EXECUTING]
    in_time, late = executing[::2], executing[1::2]
    share_time(data, in_time, late)
    with running(data, MESH_CONFIG=str(keep_all(tmp_path / "system"))) as system:
        eventually(lambda: not set(UNDER_WAY) & set(sagas(data).values()), within_s=WITHIN_S)
        undone = next(order_id for order_id in late if charged.get(order_id) == CHARGED)
        was = system.read("/v1/orders/" + undone)
        line = {"sku": was["lines"][0]["sku"], "quantity": 1}
        Customer(system, was["userId"], line["sku"]).order("again", lines=[line])
        # Whose order was undone can order once more.
        eventually(lambda: system.read("/v1/orders/again")["state"] == "CONFIRMED")
        system.run(sys.executable, "-m", "reconcile", "--json", "--quiet")
    books, ended = read_books(data), sagas(data)
    unknown = {f"nobody knows who paid for {order_id}" for order_id in charged}  # it was not noted
    assert [one for one in faults(books) if one.partition(":")[0] not in unknown] == []
    assert books.orders.keys() <= {*left, "again"}
    assert {ended[order_id] for order_id in late} == {Saga.FAILED}
    confirmed = books.ordered("CONFIRMED").keys()
    assert confirmed >= {one for one in in_time if charged.get(one) == CHARGED} > set()
    assert confirmed == {key for key, state in ended.items() if state == Saga.COMPLETED}


def restore(data: Path) -> None:
    """Put back what was left."""
    data.mkdir()
    for dump in DUMPS:
        with closing(sqlite3.connect(data / f"{dump.stem}.db")) as database:
            database.executescript(dump.read_text())


def share_time(data: Path, in_time: list[str], late: list[str]) -> None:
    """Let sagas be as if they were begun just now, and others be out of time."""
    query = "UPDATE mesh_sagas SET deadline_at = ? WHERE key = ?"
    with closing(sqlite3.connect(data / "orchestrator.db")) as database, database:
        database.executemany(query, [(time.time() + 2 * WITHIN_S, one) for one in in_time])
        database.executemany(query, [(time.time() - 1, one) for one in late])


def keep_all(folder: Path) -> Path:
    """A mesh.toml that lets no age of the dumps be too old."""
    path = configure(folder, {})
    text = path.read_text()
    assert "days = 30" in text
    path.write_text(text.replace("days = 30", "days = 36500"))
    return path


def sagas(data: Path) -> dict[str, int]:
    """The state of each order's saga."""
    return rows(data, "orchestrator", "SELECT key, state FROM mesh_sagas ORDER BY key")


def rows(data: Path, service: str, query: str) -> dict[str, int]:
    with closing(sqlite3.connect(f"file:{data}/{service}.db?mode=ro", uri=True)) as database:
        return dict(database.execute(query).fetchall())
