"""The table, and the file in benchmarks/results/."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.rounds import ratio
from benchmarks.sagas.compare import Turn, median
from benchmarks.sagas.contestants import ORDER, OURS, OURS_POSTGRES, RAW, RAW_ORDER, Contestant

RESULTS = Path(__file__).resolve().parents[1] / "results"
#: What is compared: (contestant, against, what is aimed at: its throughput by that of the other).
TARGETS = [
    (OURS, RAW, 0.55),
    (OURS, "DBOS SQLite, default", 12.0),
    (OURS, "DBOS SQLite, tuned", 12.0),
    (OURS, "DBOS PostgreSQL, default", 10.0),
    (OURS, "DBOS PostgreSQL, tuned", 10.0),
    (OURS_POSTGRES, "DBOS PostgreSQL, default", None),
    (OURS_POSTGRES, "DBOS PostgreSQL, tuned", None),
    (OURS, "Temporal dev server, default", 20.0),
    (OURS, "Temporal dev server, tuned", 20.0),
    (OURS, "Temporal, local activities", None),
    (ORDER, RAW_ORDER, 0.35),
]
NAME, WIDE = 34, 10


def compared(turns: Mapping[str, Sequence[Turn]], targets: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the ratios of throughput, round by round, for those *targets* that were measured."""
    figures = []
    for name, against, target in targets:
        if turns.get(name) and turns.get(against):
            found = ratio([t.per_s for t in turns[name]], [t.per_s for t in turns[against]])
            met = None if target is None else found.median >= target
            figures.append(
                {"what": name, "against": against, "target": target, "met": met, **asdict(found)}
            )
    return figures


def show(
    turns: Mapping[str, Sequence[Turn]],
    contestants: Mapping[str, Contestant],
    figures: Sequence[Mapping[str, Any]],
) -> None:
    """Print the table."""
    titles = ("at once", "sagas/s", "CPU us", "p50 ms", "p99 ms")
    print(f"{'':{NAME}}" + "".join(f"{title:>{WIDE}}" for title in titles) + "  durable")
    for name, taken in turns.items():
        found, one = median(taken), contestants[name]
        numbers = (one.at_once, found.per_s, found.cpu_us, found.p50_ms, found.p99_ms)
        row = "".join(f"{number:{WIDE},.0f}" for number in numbers)
        print(f"{name:{NAME}}{row}  {one.durability}")
    if figures:
        print(f"\n{'throughput':{2 * NAME}}{'median':>8}{'95% interval':>16}   target")
    for figure in figures:
        what = f"{figure['what']} : {figure['against']}"
        interval = f"{figure['low']:.2f} - {figure['high']:.2f}"
        met = {None: "", True: f"{figure['target']} met", False: f"{figure['target']} missed"}
        print(f"{what:{2 * NAME}}{figure['median']:8.2f}{interval:>16}   {met[figure['met']]}")


def keep(name: str, document: Mapping[str, Any]) -> None:
    """Write benchmarks/results/*name*.json."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")


def rows(
    turns: Mapping[str, Sequence[Turn]], contestants: Mapping[str, Contestant]
) -> dict[str, Any]:
    """Return what the table says, for the file."""
    return {
        name: {
            "at_once": contestants[name].at_once,
            "durability": contestants[name].durability,
            **{figure: round(value, 1) for figure, value in asdict(median(taken)).items()},
        }
        for name, taken in turns.items()
    }
