"""What a soak says at its end: for people a table, for the record JSON."""

from __future__ import annotations

import os
import platform
from collections import Counter
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.soak.killer import Kill
from tests.soak.soak import Soaked


def to_json(soaked: Soaked, found: list[str]) -> dict[str, Any]:
    """Everything, each kill included."""
    outcome, options = soaked.outcome, soaked.options
    kills, books, driver = soaked.killer.kills, outcome.books, outcome.driver
    return {
        "what": "kill -9 of random processes under the orders of December 2010, round after round",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with other work",
        "options": {
            "kills": options.kills,
            "seed": options.orders.seed,
            "gap_s": options.gap_s,
            "concurrency": options.orders.concurrency,
        },
        "faults": found,
        "kills": len(kills),
        "processes_killed": dict(_victims(kills).most_common()),
        "aimed_kills": sum(bool(kill.aimed) for kill in kills),
        "in_flight_at_kill": _spread([kill.in_flight for kill in kills]),
        "restarts": outcome.restarts,
        "killing_s": round(outcome.disturbed_s, 1),
        "settled_s": round(outcome.settled_s, 2),
        "read_model_caught_up_s": round(outcome.caught_up_s, 2),
        "sagas_resumed": outcome.resumed,
        "orders_acknowledged": len(driver.acknowledged),
        "orders_per_s": round(len(driver.acknowledged) / outcome.disturbed_s, 1),
        "order_states": dict(books.states),
        "net_pence": {"ledger": dict(books.net), "provider": dict(books.provider_net)},
        "reconcile": {
            key: outcome.reconciled[key] for key in ("ok", "orders", "unsure", "duration_s")
        },
        "coverage": [
            {"step": kind, "caller_killed": caller, "callee_killed": callee}
            for kind, caller, callee in soaked.killer.coverage.rows()
        ],
        "each_kill": [kill.to_json() for kill in kills],
    }


def show(soaked: Soaked, found: list[str], console: Console) -> None:
    """Print the figures, the coverage, and what is wrong."""
    figures = to_json(soaked, found)
    killed = ", ".join(f"{name} {count}" for name, count in figures["processes_killed"].items())
    flight = figures["in_flight_at_kill"]
    console.print(
        f"{figures['kills']} kills in {figures['killing_s']} s ({killed});"
        f" {flight['least']} to {flight['most']} sagas in flight, {flight['median']} in the middle;"
        f" {figures['sagas_resumed']} sagas resumed",
        f"{figures['orders_acknowledged']} orders, {figures['orders_per_s']} /s;"
        f" all ended {figures['settled_s']} s after the last restart",
        sep="\n",
        highlight=False,
    )
    table = Table(title="Interrupted, by the death of")
    for column in ("step", "its caller", "its callee"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for kind, caller, callee in soaked.killer.coverage.rows():
        table.add_row(kind, f"{caller}", f"{callee}", style="" if caller + callee else "red")
    console.print(table)
    for sentence in found[:20]:
        console.print(sentence, style="red", markup=False)
    if len(found) > 20:
        console.print(f"and {len(found) - 20} more", style="red")


def _victims(kills: list[Kill]) -> Counter[str]:
    return Counter(name for kill in kills for name in kill.victims)


def _spread(values: list[int]) -> dict[str, float]:
    return {"least": min(values), "median": median(values), "most": max(values)}
