"""What is drawn from a seed: one random sequence for each kind and place, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random

from .loop import SimulatedLoop
from .rates import Rates
from .schedule import Chronicle, Fault, Schedule


class Draws:
    """The chance of one seed, and the records of what it brought.

    Args:
        seed: of all that is drawn.
        loop: whose time and steps the chronicle tells.
        schedule: what may happen, and what did.
        chronicle: is told everything.
    """

    def __init__(
        self, seed: int, loop: SimulatedLoop, schedule: Schedule, chronicle: Chronicle
    ) -> None:
        self._seed = seed
        self._loop = loop
        self._schedule = schedule
        self._chronicle = chronicle
        self._streams: dict[object, Random] = {}
        self._occasions: Counter[object] = Counter()
        self.rates = Rates.draw(self.random("rates"))

    def random(self, which: str) -> Random:
        """Return a new sequence."""
        return Random(f"{self._seed}/{which}")  # noqa: S311  # a seed is the point

    def stream(self, *which: object) -> Random:
        """Return the sequence of a kind and place."""
        stream = self._streams.get(which)
        if stream is None:
            stream = self._streams[which] = self.random(repr(which))
        return stream

    def occasion(self, *which: object) -> int:
        """Return which time this is, from 1."""
        self._occasions[which] += 1
        return self._occasions[which]

    def admits(
        self, kind: str, where: str, number: int, detail: str = "", methods: Iterable[str] = ()
    ) -> bool:
        """Whether the fault that was drawn happens; it meets the calls of *methods*."""
        fault = Fault(kind, where, number, self._loop.time(), detail)
        return self._schedule.admits(fault, methods)

    def meet(self, kind: str, method: str) -> None:
        """Count that a fault of that kind met a call of *method*."""
        self._schedule.met[kind, method] += 1

    def note(self, what: str) -> None:
        """Tell the chronicle."""
        self._chronicle.note(self._loop.time(), self._loop.steps, what)
