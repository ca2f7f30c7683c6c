"""The least that makes a seed fail: faults and clients' actions left out while it still does.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE
TSE 2002). Which faults are drawn does not depend on those left out, so what is left keeps its
meaning, more or less: a run in which less goes wrong comes to the same occasions by other ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from .schedule import only
from .simulation import Result, Simulation, run_seed

#: Runs that shrinking may take.
RUNS_MAX = 250


def shrink(
    simulation: type[Simulation],
    failed: Result,
    progress: Callable[[Result], None] = lambda least: None,
    runs_max: int = RUNS_MAX,
) -> Result:
    """Return a run of *failed*'s seed that fails in the same way, with its story.

    Args:
        simulation: of what.
        failed: the run to begin with.
        progress: is told of every smaller one.
        runs_max: after so many runs it is what it is.
    """
    search = _Search(simulation, failed, progress, runs_max)
    search.leave_out_kinds()
    search.leave_out_parts()
    return run_seed(simulation, failed.seed, only(search.ids), told=True)


class _Search:
    def __init__(
        self,
        simulation: type[Simulation],
        failed: Result,
        progress: Callable[[Result], None],
        runs_max: int,
    ) -> None:
        self._simulation = simulation
        self._seed = failed.seed
        self._kinds = _kinds_of(failed)
        self._progress = progress
        self._left = runs_max
        self._least = failed

    @property
    def ids(self) -> list[str]:
        """What is still needed."""
        return [fault.id for fault in self._least.faults]

    def leave_out_kinds(self) -> None:
        """Most kinds of faults have nothing to do with it."""
        for kind in sorted({fault.kind for fault in self._least.faults}):
            self._try([fault.id for fault in self._least.faults if fault.kind != kind])

    def leave_out_parts(self) -> None:
        """Leave out halves, then quarters, and so on, down to single ones."""
        parts = 2
        while len(self.ids) > 1 and self._left > 0:
            ids = self.ids
            size = -(-len(ids) // parts)
            chunks = [ids[at : at + size] for at in range(0, len(ids), size)]
            if any(self._try([one for one in ids if one not in chunk]) for chunk in chunks):
                parts = max(2, parts - 1)
            elif size == 1:
                return
            else:
                parts = min(len(ids), 2 * parts)

    def _try(self, ids: Sequence[str]) -> bool:
        """Whether *ids* are enough; if so, they are what is needed."""
        if self._left <= 0:
            return False
        self._left -= 1
        result = run_seed(self._simulation, self._seed, only(ids))
        if not self._kinds & _kinds_of(result) or len(result.faults) >= len(self._least.faults):
            return False
        self._least = result
        self._progress(result)
        return True


def _kinds_of(result: Result) -> set[str]:
    """Return the problems without what is particular to one order or amount."""
    return {re.sub(r"\d+", "#", problem) for problem in result.problems}
