"""What happens at circuits, and who hears of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias
from weakref import ref

from opentelemetry.trace import Span, get_current_span

from ..errors import CircuitOpenError
from ..runtime.logs import log
from ..runtime.metrics import Metrics
from .circuit import Change, Circuit, Mode, State

#: What `mesh_breaker_state` shows.
_GAUGE = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


@dataclass(frozen=True)
class CircuitEvent:
    """Something that happened at a circuit. `why` is for people.

    `kind` is "changed" (its state), "rejected" (a call) or "mode" (an operator's doing).
    """

    kind: str
    target: str
    address: str
    method: str
    was: State
    state: State
    mode: Mode
    why: str = ""


Subscriber: TypeAlias = Callable[[CircuitEvent], None]


class Events:
    """Where circuits report: metrics, the log, spans, and whoever subscribed.

    What became of a call is on its span; what became of a circuit, on that of what is being served
    too. Of the calls that a circuit refuses in one state the log has the first, and their number.
    """

    def __init__(self, target: str = "", metrics: Metrics | None = None) -> None:
        self._target = target
        self._metrics = metrics
        self._refused: dict[tuple[str, str], int] = {}
        self.subscribers: list[Subscriber] = []

    def watch(self, circuit: Circuit, address: str, method: str) -> None:
        """Let the gauge follow *circuit*, and not keep it."""
        if self._metrics:
            watched = ref(circuit)

            def state() -> float:
                found = watched()
                return _GAUGE[found.state] if found else 0.0

            gauge = self._metrics.breakers.state.labels(self._target, address, method)
            gauge.set_function(state)

    def forget(self, address: str, method: str) -> None:
        """Let go of all series of a circuit that is gone."""
        self._refused.pop((address, method), None)
        if self._metrics:
            breakers, labels = self._metrics.breakers, (self._target, address, method)
            breakers.state.remove(*labels)
            breakers.rejected.remove(*labels)
            for state in State:
                breakers.changes.remove(*labels, state.value)

    def changed(
        self,
        circuit: Circuit,
        address: str,
        method: str,
        change: Change,
        span: Span | None = None,
    ) -> None:
        """A circuit is in another state, by the call that *span* is of."""
        log.warning(
            "circuit breaker",
            target=address or self._target,
            method=method,
            was=change.was.value,
            state=change.state.value,
            why=change.why,
            refused=self._refused.pop((address, method), 0),
        )
        if self._metrics:
            labels = self._target, address, method, change.state.value
            self._metrics.breakers.changes.labels(*labels).inc()
        self._tell("changed", circuit, address, method, change.was, change.why, span=span)

    def rejected(
        self, circuit: Circuit, address: str, method: str, span: Span | None = None
    ) -> CircuitOpenError:
        """A call is refused, with what is returned."""
        self._log_first(circuit, address, method)
        if self._metrics:
            self._metrics.breakers.rejected.labels(self._target, address, method).inc()
        self._tell("rejected", circuit, address, method, circuit.state, span=span)
        forced = "forced " if circuit.mode is Mode.FORCED_OPEN else ""
        told = f"the circuit of {method} is {forced}open"
        return CircuitOpenError(told, retry_after_s=circuit.retry_after_s())

    def _log_first(self, circuit: Circuit, address: str, method: str) -> None:
        before = self._refused.get((address, method), 0)
        self._refused[address, method] = before + 1
        if not before:
            log.warning(
                "circuit breaker refuses calls",
                target=address or self._target,
                method=method,
                state=circuit.state.value,
                mode=circuit.mode.value,
                retry_after_s=round(circuit.retry_after_s(), 3),
            )

    def mode_set(self, circuit: Circuit, address: str, method: str, why: str) -> None:
        """An operator has set the circuit's mode."""
        self._refused.pop((address, method), None)
        self._tell("mode", circuit, address, method, circuit.state, why)

    def _tell(
        self,
        kind: str,
        circuit: Circuit,
        address: str,
        method: str,
        was: State,
        why: str = "",
        span: Span | None = None,
    ) -> None:
        event = CircuitEvent(
            kind, self._target, address, method, was, circuit.state, circuit.mode, why
        )
        facts = {
            "rpc.method": method,
            "mesh.address": address,
            "mesh.breaker.state": event.state.value,
        }
        served = get_current_span()
        (span or served).add_event(f"mesh.breaker.{kind}", facts)
        if kind == "changed" and span not in (None, served):
            served.add_event(f"mesh.breaker.{kind}", facts)
        for subscriber in self.subscribers:
            try:
                subscriber(event)
            except Exception as error:  # noqa: BLE001  # a call is not to fail for it
                log.error("a subscriber to circuits failed", exc_info=error)
