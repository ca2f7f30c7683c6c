"""What the calls of one process to one target share, whichever of its channels they go through."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeAlias, TypeVar

from .layers.breaker import Breaker
from .layers.breaker_events import Events, Subscriber
from .layers.circuit import Circuit, CircuitConfig, Mode
from .runtime.clock import Runtime
from .runtime.metrics import Metrics

L = TypeVar("L")
#: A layer with a memory: places, a budget.
Remembering: TypeAlias = Callable[[Any, Runtime, Metrics], L]
#: How many things an operator may have said of circuits at a time.
MODES_MAX = 256


class Target:
    """One target, as one process sees it."""

    def __init__(self, name: str, runtime: Runtime, metrics: Metrics) -> None:
        self.name = name
        self._runtime = runtime
        self._metrics = metrics
        self._events = Events(name, metrics)
        self._modes: dict[tuple[str, str], Mode] = {}
        self.breakers: dict[CircuitConfig, Breaker] = {}
        self.shared: dict[tuple[Any, Hashable], Any] = {}

    def share(self, kind: Remembering[L], config: Hashable) -> L:
        """Return the one *kind* of all calls that are configured so."""
        made = self.shared.get((kind, config)) or kind(config, self._runtime, self._metrics)
        shared: L = self.shared.setdefault((kind, config), made)
        return shared

    def breaker(self, config: CircuitConfig) -> Breaker:
        """Return the breaker of all calls that are configured so."""
        made = self.breakers.get(config) or Breaker(
            config, self._runtime, self._events, self._mode_of
        )
        return self.breakers.setdefault(config, made)

    @property
    def subscribers(self) -> list[Subscriber]:
        """Are told of what happens at its circuits; add to it."""
        return self._events.subscribers

    def circuits(self, address: str = "", method: str = "") -> Iterator[tuple[str, str, Circuit]]:
        """Return each circuit with its address and method; "" stands for any of them."""
        for breaker in [*self.breakers.values()]:
            for (at, of), circuit in [*breaker.circuits.items()]:
                if address in ("", at) and method in ("", of):
                    yield at, of, circuit

    def forget(self, address: str) -> None:
        """Let go of what is known of an address that is gone."""
        for breaker in [*self.breakers.values()]:
            breaker.forget(address)

    def set_mode(self, mode: Mode, address: str = "", method: str = "", why: str = "") -> int:
        """Do what an operator says of these circuits and those to come; return how many are."""
        if not address and not method:
            self._modes.clear()
        self._modes.pop((address, method), None)
        self._modes[address, method] = mode
        if len(self._modes) > MODES_MAX:
            del self._modes[next(iter(self._modes))]
        found = list(self.circuits(address, method))
        for at, of, circuit in found:
            circuit.set_mode(mode)
            self._events.mode_set(circuit, at, of, why)
        return len(found)

    def _mode_of(self, address: str, method: str) -> Mode:
        """Return what was said last of such a circuit."""
        said = [
            mode
            for (at, of), mode in self._modes.items()
            if at in ("", address) and of in ("", method)
        ]
        return said[-1] if said else Mode.NORMAL
