"""The circuit breaker's state machine: pure, thread-safe, with time and chance from outside.

CLOSED lets everything through and counts; OPEN refuses; after a jittered while HALF_OPEN lets a
few probes through, and their successes close it, any failure re-opens it. Michael Nygard,
*Release It!*, 2007; rates over a window are resilience4j's. The rules that are usually got wrong
are the tests' names in ``tests/unit/mesh/layers/test_circuit.py``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from threading import Lock
from typing import Any

from .window import Counts, Window, window_of


class State(enum.Enum):
    """What the breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Mode(enum.Enum):
    """What an operator made of it."""

    NORMAL = "normal"
    DISABLED = "disabled"  # lets everything through and counts nothing
    FORCED_OPEN = "forced_open"  # lets nothing through
    METRICS_ONLY = "metrics_only"  # goes through its states, and lets everything through


class Result(enum.Enum):
    """What a call's end says of its target."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"  # says nothing: the caller's own fault, or the caller left


@dataclass(frozen=True)
class CircuitConfig:
    """When it opens, and for how long.

    Opens after `failures` in a row. If these shares are given, opens also when of the calls in the
    window `failure_share` failed, or `slow_share` took longer than `slow_s` seconds, once there
    were `calls_min` of them; the window is the last `window_calls` calls, or if `window_s` is given
    those of the last seconds. Stays open for `open_s` seconds, more or less by the share
    `jitter`; then lets `probes` calls through and closes when all of them succeeded, none slowly. A
    probe that has not ended after as long again loses its place to the next call.
    """

    failures: int = 5
    failure_share: float | None = None
    slow_share: float | None = None
    slow_s: float = 1.0
    calls_min: int = 20
    window_calls: int = 100
    window_s: float | None = None
    open_s: float = 30.0
    jitter: float = 0.1
    probes: int = 3

    def __post_init__(self) -> None:
        if self.failures < 1 or self.probes < 1:
            raise ValueError("failures and probes are at least 1: else it would never close")
        if self.open_s < 0.0 or not 0.0 <= self.jitter <= 1.0:
            raise ValueError("open_s is not negative, jitter is a share from 0 to 1")
        for share in (self.failure_share, self.slow_share):
            if share is not None and not 0.0 < share <= 1.0:
                raise ValueError("failure_share and slow_share are more than 0 and at most 1")
        if self.slow_s <= 0.0 or (self.window_s is not None and self.window_s <= 0.0):
            raise ValueError("slow_s and window_s are more than 0")
        if not 1 <= self.calls_min <= self.window_calls <= 10_000:
            raise ValueError("1 <= calls_min <= window_calls <= 10000: else it would never open")

    @property
    def timed(self) -> bool:
        """Whether it matters how long calls take."""
        return self.slow_share is not None


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call, of the period in which it was given; perhaps as a probe."""

    period: int
    probe: bool = False


#: Of a call that the circuit lets through and takes no note of.
UNCOUNTED = Permit(-1)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of state, and why."""

    was: State
    state: State
    why: str


class Circuit:
    """One breaker.

    Args:
        config: its thresholds.
        now: a monotonic clock, in seconds.
        random: for the jitter.
        on_change: told of each change, after it, by the thread that made it, and `by` what.
    """

    def __init__(
        self,
        config: CircuitConfig,
        now: Callable[[], float],
        random: Random,
        on_change: Callable[[Change, Any], None] = lambda change, by: None,
    ) -> None:
        self.config = config
        self._now = now
        self._random = random
        self._on_change = on_change
        self._lock = Lock()
        self._state = State.CLOSED
        self._mode = Mode.NORMAL
        #: The permit of all calls of a period in which the circuit is closed. Reading it needs
        #: no lock: whoever reads it late got in just before the change.
        self._closed: Permit | None = Permit(0)
        self._period = 0
        self._failures = 0
        self._successes = 0
        self._probes_out = 0
        self._wait_until = 0.0
        self._changes: list[Change] = []
        self._window: Window | None = None
        if config.failure_share is not None or config.slow_share is not None:
            self._window = window_of(config.window_calls, config.window_s, now)

    @property
    def state(self) -> State:
        """The state that the next call would find."""
        if self._closed is not None:
            return State.CLOSED
        with self._lock:
            due = self._state is State.OPEN and self._waited()
            return State.HALF_OPEN if due else self._state

    @property
    def mode(self) -> Mode:
        """What an operator made of it."""
        return self._mode

    @property
    def admits(self) -> bool:
        """Whether the next call would be let through."""
        if self._closed is not None:
            return True
        with self._lock:
            if self._mode is not Mode.NORMAL:
                return self._mode is not Mode.FORCED_OPEN
            return self._has_place() or self._waited()

    @property
    def counts(self) -> Counts:
        """What the window holds; without one, the failures in a row."""
        with self._lock:
            return self._window.counts if self._window else Counts(failed=self._failures)

    def set_mode(self, mode: Mode) -> None:
        """Do what an operator says: NORMAL begins anew, closed."""
        with self._lock:
            self._mode = mode
            if self._state is not State.CLOSED:
                self._enter(State.CLOSED, f"set to {mode.value}")
            else:
                self._begin_period()
        self._tell()

    def retry_after_s(self) -> float:
        """Return in how many seconds the next probe is let through.

        0 while its probes are out, any of which may end at once. While it is forced open nobody
        knows: it is worth asking again after `open_s`.
        """
        with self._lock:
            if self._mode is Mode.FORCED_OPEN:
                return self.config.open_s
            return max(0.0, self._wait_until - self._now()) if self._state is State.OPEN else 0.0

    def acquire(self, by: Any = None) -> Permit | None:
        """Return leave to make a call, to be given back with `release`; None to refuse it."""
        permit = self._closed
        if permit is not None:
            return permit
        with self._lock:
            if self._mode is Mode.FORCED_OPEN:
                return None
            permit = UNCOUNTED if self._mode is Mode.DISABLED else self._permit()
        self._tell(by)
        return UNCOUNTED if permit is None and self._mode is Mode.METRICS_ONLY else permit

    def release(self, permit: Permit, end: Result, duration_s: float = 0.0, by: Any = None) -> None:
        """Take note of how the call ended. Results of an earlier period change nothing."""
        if (
            permit is self._closed
            and end is Result.SUCCESS
            and not self._failures
            and self._window is None
        ):
            return  # nothing to change, so no lock
        with self._lock:
            if permit.period != self._period:
                return
            if self._probes_out:
                self._probes_out -= 1
            if end is not Result.NEUTRAL:
                slow = self.config.timed and duration_s > self.config.slow_s
                self._count(end is Result.FAILURE, slow)
        self._tell(by)

    def _waited(self) -> bool:
        return self._now() >= self._wait_until

    def _has_place(self) -> bool:
        if self._state is State.HALF_OPEN:
            return self._probes_out + self._successes < self.config.probes
        return self._state is State.CLOSED

    def _permit(self) -> Permit | None:
        if not self._has_place():
            if not self._waited():
                return None
            if self._state is State.OPEN:
                self._enter(State.HALF_OPEN, "its time is over")
            self._probes_out = 0  # whatever is out for so long may never end
            self._wait()
        probe = self._state is State.HALF_OPEN
        self._probes_out += probe
        return Permit(self._period, probe)

    def _wait(self) -> None:
        spread = self._random.uniform(-self.config.jitter, self.config.jitter)
        self._wait_until = self._now() + self.config.open_s * (1.0 + spread)

    def _count(self, failed: bool, slow: bool) -> None:
        if self._state is State.HALF_OPEN:
            if failed or slow:
                self._open("a probe failed" if failed else "a probe was slow")
            else:
                self._successes += 1
                if self._successes >= self.config.probes:
                    self._enter(State.CLOSED, "its probes succeeded")
            return
        self._failures = self._failures + 1 if failed else 0
        if self._failures >= self.config.failures:
            self._open(f"{self._failures} failures in a row")
        elif self._window is not None:
            self._look_at(self._window.add(failed, slow))

    def _look_at(self, counts: Counts) -> None:
        if counts.calls < self.config.calls_min:
            return
        failure_share, slow_share = self.config.failure_share, self.config.slow_share
        if failure_share is not None and counts.failed >= failure_share * counts.calls:
            self._open(f"{counts.failed} of {counts.calls} calls failed")
        elif slow_share is not None and counts.slow >= slow_share * counts.calls:
            self._open(f"{counts.slow} of {counts.calls} calls were slow")

    def _open(self, why: str) -> None:
        self._wait()
        self._enter(State.OPEN, why)

    def _enter(self, state: State, why: str) -> None:
        self._changes.append(Change(self._state, state, why))
        self._state = state
        self._begin_period()

    def _begin_period(self) -> None:
        self._period += 1
        normal = self._mode is Mode.NORMAL  # else each call is to look at the mode
        self._closed = Permit(self._period) if normal and self._state is State.CLOSED else None
        self._failures = self._successes = self._probes_out = 0
        if self._window is not None:
            self._window.clear()

    def _tell(self, by: Any = None) -> None:
        """Tell of what changed; outside the lock, so that who is told may ask."""
        while self._changes:
            try:
                change = self._changes.pop(0)
            except IndexError:  # another thread tells it
                return
            self._on_change(change, by)
