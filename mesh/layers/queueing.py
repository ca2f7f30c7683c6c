"""Whether calls queue before a server even sees them. Pure and thread-safe.

While handlers use the processor, calls wait inside gRPC, where nothing counts them. What gives the
queue away is how long each call has waited. One that stands is told from a burst as CoDel does it
(Nichols and Jacobson, *Controlling Queue Delay*, 2012): not even the luckiest call of an interval
came through soon.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

#: An interval lasts until so many calls have come: fewer say nothing.
_CALLS_MIN = 5


class StandingQueue:
    """The queue in front of one server.

    Args:
        target_s: what calls may wait before they are served.
        interval_s: how long at least one of them must have waited less.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, target_s: float, interval_s: float, now: Callable[[], float]) -> None:
        self._target_s = target_s
        self._interval_s = interval_s
        self._now = now
        self._lock = Lock()
        self._stands = False
        self._open(now())

    def _open(self, now: float) -> None:
        self._ends = now + self._interval_s
        self._least_s = float("inf")
        self._calls = 0

    def came(self, waited_s: float) -> bool:
        """Note a call that waited so long; whether the queue stands."""
        now = self._now()
        with self._lock:
            self._calls += 1
            self._least_s = min(self._least_s, waited_s)
            if now >= self._ends and self._calls >= _CALLS_MIN:
                self._stands = self._least_s > self._target_s
                self._open(now)
            return self._stands
