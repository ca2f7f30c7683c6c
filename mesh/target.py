"""What the calls of one process to one target share, whichever of its channels they go through."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeAlias, TypeVar

from .runtime.clock import Runtime
from .runtime.metrics import Metrics

L = TypeVar("L")


#: A layer with a memory: circuits, places, a budget.
Remembering: TypeAlias = Callable[[Any, Runtime, Metrics], L]


class Target:
    """One target, as one process sees it."""

    def __init__(self, name: str, runtime: Runtime, metrics: Metrics) -> None:
        self.name = name
        self._runtime = runtime
        self._metrics = metrics
        self.shared: dict[tuple[Any, Hashable], Any] = {}

    def share(self, kind: Remembering[L], config: Hashable) -> L:
        """Return the one *kind* of all calls that are configured so."""
        made = self.shared.get((kind, config)) or kind(config, self._runtime, self._metrics)
        shared: L = self.shared.setdefault((kind, config), made)
        return shared
