"""What the administration service answers, from the process as it is."""

from __future__ import annotations

from collections.abc import Iterable

from ..layers.budget import Budget
from ..layers.bulkhead import Bulkhead
from ..layers.circuit import Mode, State
from ..layers.faults import Fault
from ..layers.hedge import Hedge
from ..layers.shed import Shed
from ..node import Node
from ..target import Target
from .v1 import admin_pb2 as pb

_WHAT = {
    Mode.NORMAL: "begins anew, closed",
    Mode.DISABLED: "lets every call through and counts nothing",
    Mode.FORCED_OPEN: "refuses every call",
    Mode.METRICS_ONLY: "goes on counting and lets every call through",
}


def status(node: Node, own: Target, settings: Iterable[pb.Setting]) -> pb.GetStatusResponse:
    """Return all there is to see."""
    found = pb.GetStatusResponse(settings=settings)
    for target in [*node.targets.values()]:
        _add(found, target)
    limits = [int(shed.limiter.limit) for shed in own.shared.values() if isinstance(shed, Shed)]
    found.concurrency_limit = sum(limits)
    for method, (fault, left_s) in sorted(node.faults.left().items()):
        found.faults.add(
            method=method,
            code=fault.code.name if fault.code else "",
            delay_seconds=fault.delay_s,
            share=fault.share,
            after_execution=fault.after_execution,
            ends_in_seconds=left_s,
        )
    return found


def effects_of(target: Target, mode: Mode, address: str, method: str) -> list[str]:
    """Return what setting these circuits to *mode* comes to."""
    effects = [
        f"{target.name} {at} {of}: is {_state(circuit.state, circuit.mode)}, {_WHAT[mode]}"
        for at, of, circuit in target.circuits(address, method)
    ]
    whose = f"{method or 'every method'} of {target.name}" + (f" at {address}" if address else "")
    return [*effects, f"any other circuit of {whose}: {_WHAT[mode]}"]


def effects_of_fault(method: str, fault: Fault) -> list[str]:
    """Return what injecting *fault* comes to."""
    what = [f"are late by {fault.delay_s:g} s"] if fault.delay_s else []
    if fault.code:
        when = "after they were executed" if fault.after_execution else "and are not sent"
        what.append(f"end with {fault.code.name}, {when}")
    some = f"{fault.share:.0%} of this process's calls of {method}"
    return [f"{some} {' and '.join(what)}; it ends by itself after {fault.duration_s:g} s"]


def _add(found: pb.GetStatusResponse, target: Target) -> None:
    for address, method, circuit in target.circuits():
        counts = circuit.counts
        found.circuits.add(
            target=target.name,
            address=address,
            method=method,
            state=pb.Circuit.State.Value(circuit.state.name),
            mode=pb.Circuit.Mode.Value(circuit.mode.name),
            retry_after_seconds=circuit.retry_after_s(),
            calls=counts.calls,
            failed=counts.failed,
            slow=counts.slow,
        )
    for shared in [*target.shared.values()]:
        if isinstance(shared, Budget):
            found.budgets.add(target=target.name, left=shared.left)
        elif isinstance(shared, Hedge):
            for path, hedging in [*shared.methods.items()]:
                method, left = path.removeprefix("/"), hedging.budget.left
                found.budgets.add(target=target.name, left=left, hedged_method=method)
        elif isinstance(shared, Bulkhead):
            for path, slots in [*shared.slots.items()]:
                found.bulkheads.add(
                    target=target.name,
                    method=path.removeprefix("/"),
                    taken=slots.taken,
                    waiting=slots.waiting,
                )


def _state(state: State, mode: Mode) -> str:
    return state.value if mode is Mode.NORMAL else f"{state.value} ({mode.value})"
