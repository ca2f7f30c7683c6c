"""The last calls, counted: by number or by time, in memory that is bounded either way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

#: In how many parts a window of time is counted; it moves by one of them at a time.
PARTS = 10


class Counts(NamedTuple):
    """How many calls there were, and of them."""

    calls: int = 0
    failed: int = 0
    slow: int = 0

    def plus(self, other: Counts, sign: int = 1) -> Counts:
        """Return both together, or (with a *sign* of -1) the difference."""
        return Counts(*(a + sign * b for a, b in zip(self, other, strict=True)))


class CountWindow:
    """The last *size* calls."""

    def __init__(self, size: int) -> None:
        self._last: deque[Counts] = deque()
        self._size = size
        self.counts = Counts()

    def add(self, failed: bool, slow: bool) -> Counts:
        """Count a call; return what the window holds now."""
        call = Counts(1, int(failed), int(slow))
        self._last.append(call)
        self.counts = self.counts.plus(call)
        if len(self._last) > self._size:
            self.counts = self.counts.plus(self._last.popleft(), -1)
        return self.counts

    def clear(self) -> None:
        """Forget all of them."""
        self._last.clear()
        self.counts = Counts()


class TimeWindow:
    """The calls of the last *length_s* seconds, the oldest tenth of them going at once."""

    def __init__(self, length_s: float, now: Callable[[], float]) -> None:
        self._part_s = length_s / PARTS
        self._now = now
        self._parts: deque[tuple[int, Counts]] = deque()

    @property
    def counts(self) -> Counts:
        """What the window holds now."""
        oldest = self._number() - PARTS
        while self._parts and self._parts[0][0] <= oldest:
            self._parts.popleft()
        total = Counts()
        for _, counts in self._parts:
            total = total.plus(counts)
        return total

    def add(self, failed: bool, slow: bool) -> Counts:
        """Count a call; return what the window holds now."""
        call, number = Counts(1, int(failed), int(slow)), self._number()
        if self._parts and self._parts[-1][0] == number:
            call = call.plus(self._parts.pop()[1])
        self._parts.append((number, call))
        return self.counts

    def clear(self) -> None:
        """Forget all of them."""
        self._parts.clear()

    def _number(self) -> int:
        return int(self._now() // self._part_s)
