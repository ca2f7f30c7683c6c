"""The figures of soaks as JSON: a list of runs, whose sums are worked out when they are read."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias

from tests.soak.coverage import Coverage
from tests.soak.soak import MAIL_REPEATS, Soaked

#: What is kept of one run.
Run: TypeAlias = dict[str, Any]

MAILS: Final = ("due", "twice", "kills_that_may_repeat_one")
WHAT: Final = "kill -9 of random processes under the orders of December 2010, round after round"


def run_of(soaked: Soaked, found: list[str]) -> Run:
    """What to keep of a run, each kill included. found: what was wrong."""
    outcome, options, killer = soaked.outcome, soaked.options, soaked.killer
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with other work",
        "seed": options.orders.seed,
        "store": options.store,
        "gap_s": options.gap_s,
        "customers": options.orders.concurrency,
        "faults": found,
        "restarts": outcome.restarts,
        "killing_s": round(outcome.disturbed_s, 1),
        "settled_s": round(outcome.settled_s, 2),
        "read_model_caught_up_s": round(outcome.caught_up_s, 2),
        "mails_all_there_s": round(outcome.mailed_s, 2),
        "mails": {
            "due": len(outcome.mails.due),
            "twice": outcome.mails.twice,
            "kills_that_may_repeat_one": soaked.killed(*MAIL_REPEATS),
        },
        "sagas_resumed": outcome.resumed,
        "orders_acknowledged": len(outcome.driver.acknowledged),
        "order_states": dict(outcome.books.states),
        "net_pence": {
            "ledger": dict(outcome.books.net),
            "provider": dict(outcome.books.provider_net),
        },
        "reconcile": {
            key: outcome.reconciled[key] for key in ("ok", "orders", "unsure", "duration_s")
        },
        "interrupted": [
            {"step": kind, "caller_killed": caller, "callee_killed": callee}
            for kind, caller, callee in killer.coverage.rows()
            if caller + callee
        ],
        "kills": [kill.to_json() for kill in killer.kills],
    }


def coverage_of(runs: list[Run]) -> Coverage:
    """What the runs interrupted, together."""
    coverage = Coverage()
    for run in runs:
        for row in run["interrupted"]:
            coverage.counts[row["step"], True] += row["caller_killed"]
            coverage.counts[row["step"], False] += row["callee_killed"]
    return coverage


def total_of(runs: list[Run]) -> dict[str, Any]:
    """The runs summed up."""
    kills = [kill for run in runs for kill in run["kills"]]
    in_flight = [kill["in_flight"] for kill in kills if kill["in_flight"] is not None]
    mails = Counter[str]()
    for run in runs:
        mails.update(run.get("mails", {}))  # the first runs counted none
    killing_s = sum(run["killing_s"] for run in runs)
    orders = sum(run["orders_acknowledged"] for run in runs)
    return {
        "runs": len(runs),
        "kills": len(kills),
        "aimed_kills": sum(bool(kill["aimed"]) for kill in kills),
        "processes_killed": dict(
            Counter(v for kill in kills for v in kill["victims"]).most_common()
        ),
        "in_flight_at_kill": {
            "least": min(in_flight),
            "median": median(in_flight),
            "most": max(in_flight),
        },
        "restarts": sum(run["restarts"] for run in runs),
        "killing_s": round(killing_s, 1),
        "settled_s_most": max(run["settled_s"] for run in runs),
        "read_model_caught_up_s_most": max(run["read_model_caught_up_s"] for run in runs),
        "mails": {name: mails[name] for name in MAILS},
        "sagas_resumed": sum(run["sagas_resumed"] for run in runs),
        "steps_interrupted": coverage_of(runs).counts.total(),
        "steps_never_interrupted": coverage_of(runs).missing,
        "orders_acknowledged": orders,
        "orders_per_s": round(orders / killing_s, 1),
        "faults": sum(len(run["faults"]) for run in runs),
    }


def read(file: Path) -> list[Run]:
    """The runs in *file*; none if it is not there."""
    if not file.exists():
        return []
    runs: list[Run] = json.loads(file.read_text())["runs"]
    return runs


def write(file: Path, runs: list[Run]) -> None:
    """Put the runs and their sums into *file*."""
    file.parent.mkdir(parents=True, exist_ok=True)
    record = {"what": WHAT, "total": total_of(runs), "runs": runs}
    file.write_text(json.dumps(record, indent=1) + "\n")
