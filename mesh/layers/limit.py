"""How many calls a server works on at a time, found by itself. Pure and thread-safe.

Beyond some number of calls under way a server only makes them wait for one another. Where that is
depends on the machine, the methods and what is behind them, so it is measured: as long as calls
take what they take in calm times, and a little more, the limit may grow; when they take longer, or
the event loop falls behind, it shrinks in proportion. By Little's law the work that is let in is
then as much as can be done, and the rest is told so at once.

After Netflix's concurrency-limits (gradient, https://github.com/Netflix/concurrency-limits) and
Envoy's adaptive concurrency filter. Two things differ. Each method is compared with itself, since
one server serves fast and slow ones. And what is calm is learnt in calm times only: an average
that follows the overload is soon at ease with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from ..call import Criticality


@dataclass(frozen=True)
class LimitConfig:
    """When a server has enough to do.

    A call may take `tolerance` times what its method takes in calm times, and `queueing_s` seconds
    more; the event loop may be `lag_s` behind. The limit is reconsidered every `window_s`.

    Default calls get `default_share` of it and sheddable ones `sheddable_share`; critical ones may
    exceed it, up to `critical_share`. Whoever is refused is asked to wait `pushback_s`.
    `streams_max` bounds streams, which say nothing by how long they take.
    """

    initial: int = 60
    least: int = 10
    most: int = 1000
    tolerance: float = 2.0
    queueing_s: float = 0.1
    lag_s: float = 0.1
    window_s: float = 0.25
    sheddable_share: float = 0.5
    default_share: float = 0.9
    critical_share: float = 2.0
    pushback_s: float = 1.0
    streams_max: int = 1000

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.initial <= self.most or self.streams_max < 1:
            raise ValueError("1 <= least <= initial <= most, and one stream at least")
        if not 0.0 < self.sheddable_share <= self.default_share <= self.critical_share:
            raise ValueError("what is sheddable has the least share, what is critical the most")
        times = (self.queueing_s, self.lag_s, self.window_s, self.pushback_s)
        if self.tolerance < 1.0 or min(times) <= 0.0:
            raise ValueError("tolerance is 1 or more; every time is above 0")


#: A window has this many calls at least: fewer say nothing.
_CALLS_MIN = 10
#: One call that hangs does not outweigh all others.
_PRESSURE_MAX = 4.0
#: How fast the calm duration of a method follows what is measured, per window: down; up, in calm
#: times; and up while the limit is at its least and that does not help, so that what has become
#: slower for good is accepted within a minute.
_DOWN, _UP, _RESIGNED = 0.2, 0.05, 0.01


class _Times:
    """What a method takes: in calm times, and in this window."""

    __slots__ = ("calls", "calm_s", "sum_s")

    def __init__(self, calm_s: float) -> None:
        self.calm_s = calm_s
        self.sum_s = 0.0
        self.calls = 0

    def learn(self, rise: float) -> None:
        """Close the window."""
        if self.calls:
            mean_s = self.sum_s / self.calls
            weight = _DOWN if mean_s < self.calm_s else rise
            self.calm_s += weight * (mean_s - self.calm_s)
        self.sum_s, self.calls = 0.0, 0


class Limiter:
    """The limit of one server.

    Args:
        config: its bounds.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, config: LimitConfig, now: Callable[[], float]) -> None:
        self.config = config
        self.limit = float(config.initial)
        self._set_at = now()
        self.under_way = 0
        self.streams = 0
        self._now = now
        self._lock = Lock()
        self._methods: dict[str, _Times] = {}
        self._shares = {
            Criticality.SHEDDABLE: config.sheddable_share,
            Criticality.DEFAULT: config.default_share,
            Criticality.CRITICAL: config.critical_share,
        }
        self._open_window()

    def _open_window(self) -> None:
        self._ends = self._now() + self.config.window_s
        self._peak = self.under_way
        self._calls = 0
        self._pressure = 0.0
        self._lag_s = 0.0

    def _set(self, limit: float) -> None:
        """Change the limit. Only calls that are let in from now on say whether that was enough.

        Those under way came before. Believing them, one would go on changing for as long as they
        take, and swing.
        """
        self.limit = min(max(limit, self.config.least), self.config.most)
        self._set_at = self._now()

    @property
    def has_room_for_all(self) -> bool:
        """Whether there is room for any call; costs a tenth of `has_room`."""
        return self.under_way < self.limit * self.config.sheddable_share

    def has_room(self, criticality: Criticality) -> bool:
        """Whether there is room for a call that is so critical; that there is none is noted."""
        if self.has_room_for_all:
            return True
        if self.under_way < max(1.0, self.limit * self._shares[criticality]):
            return True
        self._peak = max(self._peak, math.ceil(self.limit))
        return False

    def take(self, criticality: Criticality) -> bool:
        """Let a call in, if there is room for it."""
        with self._lock:
            if not self.has_room(criticality):
                return False
            self.under_way += 1
            if self.under_way > self._peak:
                self._peak = self.under_way
            return True

    def give_back(self, method: str, took_s: float, *, counts: bool) -> None:
        """A call of *method* is over. What failed `counts` only if it took its time."""
        with self._lock:
            self.under_way -= 1
            times = self._methods.get(method)
            if times is None:
                if not counts:
                    return
                times = self._methods[method] = _Times(took_s)
            limit_s = self.config.tolerance * times.calm_s + self.config.queueing_s
            if not counts and took_s < limit_s:
                return
            now = self._now()
            times.sum_s += took_s
            times.calls += 1
            if now - took_s >= self._set_at:
                self._calls += 1
                self._pressure += min(took_s / limit_s, _PRESSURE_MAX)
            if self._calls >= _CALLS_MIN and now >= self._ends:
                self._close_window()

    def take_stream(self) -> bool:
        """Let a stream in, if there is room."""
        with self._lock:
            if self.streams >= self.config.streams_max:
                return False
            self.streams += 1
            return True

    def give_back_stream(self) -> None:
        """A stream is over."""
        with self._lock:
            self.streams -= 1

    def lagged(self, lag_s: float) -> None:
        """The event loop was so far behind."""
        with self._lock:
            self._lag_s = max(self._lag_s, lag_s)

    def _close_window(self) -> None:
        lag = self._lag_s / self.config.lag_s
        pressure = max(self._pressure / self._calls, lag)
        rise = 0.0
        if self._peak < self.limit / 2.0 and lag <= 1.0:
            rise = _UP  # calm: how long calls take is up to them, and no limit would change it
        elif pressure <= 1.0:
            more = self.limit / 2.0 if pressure < 0.5 else math.sqrt(self.limit)
            self._set(self.limit + more)
        else:
            rise = _RESIGNED if self.limit <= self.config.least else 0.0
            self._set(self.limit * max(0.5, 1.0 / pressure))
        for times in self._methods.values():
            times.learn(rise)
        self._open_window()
