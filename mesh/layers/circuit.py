"""The circuit breaker's state machine: pure, thread-safe, with time and chance from outside.

CLOSED lets everything through and counts consecutive failures; OPEN refuses; after a jittered
while HALF_OPEN lets a few probes through, and their successes close it, any failure re-opens it.
Michael Nygard, *Release It!*, 2007; the rules that are usually got wrong are the tests' names in
``tests/unit/mesh/layers/test_circuit.py``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from threading import Lock


class State(enum.Enum):
    """What the breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Result(enum.Enum):
    """What a call's end says of its target."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"  # says nothing: the caller's own fault, or the caller left


@dataclass(frozen=True)
class CircuitConfig:
    """When it opens, and for how long.

    Opens after `failures` in a row; stays open for `open_s` seconds, more or less by the share
    `jitter`; then lets `probes` calls through and closes when all of them succeeded.
    """

    failures: int = 5
    open_s: float = 30.0
    jitter: float = 0.1
    probes: int = 3

    def __post_init__(self) -> None:
        if self.failures < 1 or self.probes < 1:
            raise ValueError("failures and probes are at least 1: else it would never close")
        if self.open_s < 0.0 or not 0.0 <= self.jitter <= 1.0:
            raise ValueError("open_s is not negative, jitter is a share from 0 to 1")


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call. It belongs to the period in which it was given."""

    period: int


class Circuit:
    """One breaker.

    Args:
        config: its thresholds.
        now: a monotonic clock, in seconds.
        random: for the jitter.
        on_change: told of each (old, new) state, under the lock: it must not call back.
    """

    def __init__(
        self,
        config: CircuitConfig,
        now: Callable[[], float],
        random: Random,
        on_change: Callable[[State, State], None] = lambda old, new: None,
    ) -> None:
        self._config = config
        self._now = now
        self._random = random
        self._on_change = on_change
        self._lock = Lock()
        self._state = State.CLOSED
        #: The permit of all calls of a period in which the circuit is closed. Reading it needs
        #: no lock: whoever reads it late got in just before the change.
        self._closed: Permit | None = Permit(0)
        self._period = 0
        self._failures = 0
        self._successes = 0
        self._probes_out = 0
        self._open_until = 0.0

    @property
    def state(self) -> State:
        """The state that the next call would find."""
        if self._closed:
            return State.CLOSED
        with self._lock:
            if self._state is State.OPEN and self._now() >= self._open_until:
                return State.HALF_OPEN
            return self._state

    def retry_after_s(self) -> float:
        """Return in how many seconds the next probe is let through; 0 if now."""
        with self._lock:
            return max(0.0, self._open_until - self._now()) if self._state is State.OPEN else 0.0

    def acquire(self) -> Permit | None:
        """Return leave to make a call, to be given back with `release`; None to refuse it."""
        permit = self._closed
        if permit is not None:
            return permit
        with self._lock:
            if self._state is State.OPEN and self._now() >= self._open_until:
                self._enter(State.HALF_OPEN)
            if self._state is State.OPEN:
                return None
            if self._state is State.HALF_OPEN:
                if self._probes_out + self._successes >= self._config.probes:
                    return None
                self._probes_out += 1
            return Permit(self._period)

    def release(self, permit: Permit, result: Result) -> None:
        """Take note of how the call ended. Results of an earlier period change nothing."""
        if permit is self._closed and result is Result.SUCCESS and not self._failures:
            return  # nothing to change, so no lock
        with self._lock:
            if permit.period != self._period:
                return
            if self._state is State.HALF_OPEN:
                self._probes_out -= 1
            if result is Result.SUCCESS:
                self._succeeded()
            elif result is Result.FAILURE:
                self._failed()

    def _succeeded(self) -> None:
        self._failures = 0
        if self._state is State.HALF_OPEN:
            self._successes += 1
            if self._successes >= self._config.probes:
                self._enter(State.CLOSED)

    def _failed(self) -> None:
        self._failures += 1
        if self._state is State.HALF_OPEN or self._failures >= self._config.failures:
            spread = self._random.uniform(-self._config.jitter, self._config.jitter)
            self._open_until = self._now() + self._config.open_s * (1.0 + spread)
            self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        old, self._state = self._state, state
        self._period += 1
        self._closed = Permit(self._period) if state is State.CLOSED else None
        self._failures = self._successes = self._probes_out = 0
        self._on_change(old, state)
