"""The last calls, counted: by number or by time, in memory that is bounded either way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

#: In how many parts a window of time is counted; it moves by one of them at a time.
PARTS = 10


class Counts(NamedTuple):
    """How many calls there were, and of them."""

    calls: int = 0
    failed: int = 0
    slow: int = 0


class CountWindow:
    """The last *size* calls."""

    def __init__(self, size: int) -> None:
        self._last: deque[tuple[bool, bool]] = deque()
        self._size = size
        self._failed = 0
        self._slow = 0

    @property
    def counts(self) -> Counts:
        """What the window holds now."""
        return Counts(len(self._last), self._failed, self._slow)

    def add(self, failed: bool, slow: bool) -> Counts:
        """Count a call; return what the window holds now."""
        self._last.append((failed, slow))
        self._failed += failed
        self._slow += slow
        if len(self._last) > self._size:
            failed, slow = self._last.popleft()
            self._failed -= failed
            self._slow -= slow
        return Counts(len(self._last), self._failed, self._slow)

    def clear(self) -> None:
        """Forget all of them."""
        self._last.clear()
        self._failed = self._slow = 0


class TimeWindow:
    """The calls of the last *length_s* seconds, the oldest tenth of them going at once."""

    def __init__(self, length_s: float, now: Callable[[], float]) -> None:
        self._part_s = length_s / PARTS
        self._now = now
        #: Of each part its number, calls, failed and slow ones; the last is counted on.
        self._parts: deque[list[int]] = deque()
        self._total = [0, 0, 0]

    @property
    def counts(self) -> Counts:
        """What the window holds now."""
        self._forget(int(self._now() // self._part_s))
        return Counts(*self._total)

    def add(self, failed: bool, slow: bool) -> Counts:
        """Count a call; return what the window holds now."""
        number = int(self._now() // self._part_s)
        if not self._parts or self._parts[-1][0] != number:
            self._forget(number)
            self._parts.append([number, 0, 0, 0])
        part, total = self._parts[-1], self._total
        part[1] += 1
        total[0] += 1
        if failed:
            part[2] += 1
            total[1] += 1
        if slow:
            part[3] += 1
            total[2] += 1
        return Counts(*total)

    def clear(self) -> None:
        """Forget all of them."""
        self._parts.clear()
        self._total = [0, 0, 0]

    def _forget(self, number: int) -> None:
        while self._parts and self._parts[0][0] <= number - PARTS:
            gone = self._parts.popleft()
            for place in range(3):
                self._total[place] -= gone[place + 1]


#: What a circuit looks at.
Window: TypeAlias = CountWindow | TimeWindow


def window_of(calls: int, seconds: float | None, now: Callable[[], float]) -> Window:
    """Return a window of the last *seconds*, or if that is None of so many calls."""
    return CountWindow(calls) if seconds is None else TimeWindow(seconds, now)
