"""Who is at the door is let in before the next handler has its turn.

A handler that needs the processor holds the event loop, and with it whatever accepts calls: gRPC
hands over one per round of the loop. Whoever comes meanwhile waits where nobody sees it, first
come first served, until its caller has given up; and a server cannot refuse what it does not know
of. So when handlers have held the loop for a while, the next ones stand in a line, the most
critical first, until nobody is at the door any more. The line is as long as the limit allows; the
rest is refused while it still cares.

CoDel (RFC 8289) achieves the same by looking at how long each packet has waited, which of a call
that gRPC hands over nobody can tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
from collections.abc import Callable
from typing import Final

from ..call import Criticality

#: The loop is looked at so often, while calls come.
LOOK_S: Final = 0.01
#: Below this the loop is only busy, not held.
HELD_S: Final = 0.002
#: Handlers have the loop for so long, together, before the door has it; and it for no longer.
SHARE_S: Final = 0.02
#: Nobody is at the door if nobody has come for so long: gRPC takes less from one call to the next.
QUIET_S: Final = 0.001

_RANKS: Final = {Criticality.CRITICAL: 0, Criticality.DEFAULT: 1, Criticality.SHEDDABLE: 2}


class Turns:
    """The turns of the handlers of one event loop.

    Args:
        now: a monotonic clock, in seconds.
        behind: is told how many seconds it took until a callback, or a handler, had its turn.
    """

    def __init__(self, now: Callable[[], float], behind: Callable[[float], None]) -> None:
        self._now = now
        self._behind = behind
        self._look_at = self._came_at = -math.inf
        self._held_s = 0.0
        self._door_until: float | None = None
        self._numbers = itertools.count()
        self._line: list[tuple[int, int, float, asyncio.Future[None]]] = []
        self._serving = False

    def came(self, now: float) -> None:
        """Somebody has come to the door."""
        self._came_at = now

    def look(self, now: float) -> None:
        """Find out whether the loop is held, if it is time to."""
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            with contextlib.suppress(RuntimeError):  # a thread without a loop holds up nobody
                asyncio.get_running_loop().call_soon(self._looked, now)

    @property
    def must_wait(self) -> bool:
        """Whether a handler has to `wait` for its turn."""
        return self._serving or self._held_s >= SHARE_S

    async def wait(self, criticality: Criticality) -> None:
        """Return when it is the caller's turn."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # likewise
            return
        turn = loop.create_future()
        place = _RANKS[criticality], next(self._numbers), self._now(), turn
        heapq.heappush(self._line, place)
        if not self._serving:
            self._serving = True
            self._next(loop)
        await turn

    def _looked(self, since: float) -> None:
        held_s = self._now() - since
        self._behind(held_s)
        if held_s >= HELD_S:
            self._held_s += held_s

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the first in the line its turn, after the door has had its own."""
        now = self._now()
        if self._held_s >= SHARE_S:
            if self._door_until is None:
                self._came_at, self._door_until = now, now + SHARE_S
            if now < min(self._came_at + QUIET_S, self._door_until):
                loop.call_later(QUIET_S, self._next, loop)
                return
            self._held_s, self._door_until = 0.0, None
        while self._line:
            _, _, came_at, turn = heapq.heappop(self._line)
            self._behind(now - came_at)
            if not turn.done():  # its caller has not given up
                turn.set_result(None)
                loop.call_soon(self._served, loop, now)
                return
        self._serving = False

    def _served(self, loop: asyncio.AbstractEventLoop, since: float) -> None:
        """Go on: the handler waits for something, or has ended."""
        self._held_s += self._now() - since
        self._next(loop)
