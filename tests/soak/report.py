"""What a soak says at its end, for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tests.soak.record import Run, coverage_of, total_of

FAULTS_SHOWN = 20


def show(runs: list[Run], console: Console) -> None:
    """Print the figures of the runs together, what was interrupted, and what is wrong."""
    total = total_of(runs)
    flight, mails = total["in_flight_at_kill"], total["mails"]
    killed = ", ".join(f"{name} {count}" for name, count in total["processes_killed"].items())
    console.print(
        f"{total['kills']} kills in {total['killing_s']} s ({killed});"
        f" {flight['least']} to {flight['most']} sagas in flight, {flight['median']:g} the median;"
        f" {total['sagas_resumed']} sagas resumed",
        f"{total['orders_acknowledged']} orders, {total['orders_per_s']} /s; all ended within"
        f" {total['settled_s_most']} s of the last restart, and the read model told the same"
        f" {total['read_model_caught_up_s_most']} s later",
        f"{mails['due']} events to write about, {mails['twice']} mails came twice;"
        f" {mails['kills_that_may_repeat_one']} kills might each have repeated one",
        sep="\n",
        highlight=False,
    )
    table = Table(title="Steps interrupted, by the death of")
    for column in ("step", "its caller", "its callee"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for kind, caller, callee in coverage_of(runs).rows():
        table.add_row(kind, f"{caller}", f"{callee}", style="" if caller + callee else "yellow")
    console.print(table)
    found = [sentence for run in runs for sentence in run["faults"]]
    for sentence in found[:FAULTS_SHOWN]:
        console.print(sentence, style="red", markup=False)
    if len(found) > FAULTS_SHOWN:
        console.print(f"and {len(found) - FAULTS_SHOWN} more", style="red")
    if missing := total["steps_never_interrupted"]:
        console.print(f"never interrupted: {', '.join(missing)}; more kills will", style="yellow")
