"""What `mesh policies` prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..terminal import table
from .v1 import admin_pb2 as pb

_HEAD = ("CALLS", "METHOD", "AT", "CIRCUIT", "SLOW/FAILED/CALLS", "UNDER WAY", "WAITING")


def status(name: str, found: pb.GetStatusResponse, *, everything: bool) -> Iterator[str]:
    """Return the lines for one process."""
    limit = found.concurrency_limit or "no"
    yield f"{name}: limit of {limit} calls at a time"
    if found.circuits:
        yield from _table([_HEAD, *map(_circuit, found.circuits, [found] * len(found.circuits))])
    else:
        yield "  no calls were made yet"
    for budget in found.budgets:
        hedged = budget.hedged_method.rpartition("/")[2]
        of, what = (f".{hedged}", "second attempts") if hedged else ("", "retries")
        yield f"  {budget.target}{of}: {budget.left:.1f} {what} left"
    for fault in found.faults:
        what = f"{fault.code or 'late'} for {fault.share:.0%} of calls"
        yield f"  FAULT {fault.method}: {what}, {fault.ends_in_seconds:.0f} s more"
    yield from _settings(found.settings, everything)
    yield ""


def _circuit(circuit: pb.Circuit, found: pb.GetStatusResponse) -> Sequence[str]:
    same = [
        (b.taken, b.waiting)
        for b in found.bulkheads
        if (b.target, b.method) == (circuit.target, circuit.method)
    ]
    taken, waiting = map(sum, zip(*same, strict=True)) if same else (0, 0)
    state = pb.Circuit.State.Name(circuit.state)
    if circuit.mode != pb.Circuit.NORMAL:
        state = f"{pb.Circuit.Mode.Name(circuit.mode)} ({state})"
    elif circuit.retry_after_seconds:
        state = f"{state} for {circuit.retry_after_seconds:.1f} s"
    counts = f"{circuit.slow}/{circuit.failed}/{circuit.calls or '-'}"
    method = circuit.method.rpartition("/")[2]
    return (circuit.target, method, circuit.address, state, counts, str(taken), str(waiting))


def _settings(settings: Iterable[pb.Setting], everything: bool) -> Iterator[str]:
    """Return the settings, those that are the same for all methods of a target once."""
    same: dict[tuple[str, str, str, str], list[str]] = {}
    methods: dict[str, set[str]] = {}
    for one in settings:
        method = one.method.rpartition("/")[2]
        methods.setdefault(one.target, set()).add(method)
        if everything or one.source != "default":
            same.setdefault((one.target, one.name, one.value, one.source), []).append(method)
    rows = []
    for (target, name, value, source), of in same.items():
        whose = "" if set(of) == methods[target] else f".{', '.join(of)}"
        rows.append((f"{target or 'served'}{whose}", f"{name} = {value}", source))
    if rows:
        yield from _table([("SETTINGS OF", "", "SAID BY"), *rows])


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    return (f"  {line}" for line in table(rows))
