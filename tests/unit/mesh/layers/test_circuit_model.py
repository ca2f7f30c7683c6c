"""The breaker against a model that is too simple to be wrong: it remembers everything."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from mesh.layers.circuit import Circuit, CircuitConfig, Mode, Permit, Result, State
from tests.support.runtime import FakeClock

CONFIG = CircuitConfig(failures=3, open_s=10.0, jitter=0.0, probes=2)


@dataclass
class Period:
    """A stretch of time in one state, and the results of the calls that began in it."""

    state: State
    ends_at: float = float("inf")
    #: The places that are taken, and until when their probes keep them.
    taken: int = 0
    kept_until: float = 0.0
    results: list[Result] = field(default_factory=list)

    def failures_in_a_row(self) -> int:
        telling = [r for r in self.results if r is not Result.NEUTRAL]
        return next(
            (n for n, r in enumerate(reversed(telling)) if r is Result.SUCCESS), len(telling)
        )

    def has_place(self) -> bool:
        if self.state is State.HALF_OPEN:
            return self.taken + self.results.count(Result.SUCCESS) < CONFIG.probes
        return self.state is State.CLOSED

    def lets_through(self, now: float) -> bool:
        return self.has_place() or (self.state is State.HALF_OPEN and now >= self.kept_until)


@dataclass
class Taken:
    permit: Permit
    period: Period


class CircuitAgainstModel(RuleBasedStateMachine):
    """Any order of calls, ends and waits gives the answers that the model gives."""

    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.circuit = Circuit(CONFIG, self.clock.monotonic, random.Random(0))
        self.period = Period(State.CLOSED)

    def _look_at_the_clock(self) -> None:
        now = self.clock.monotonic()
        if now >= self.period.ends_at:
            self.period = Period(State.HALF_OPEN, kept_until=now + CONFIG.open_s)

    @rule(target=taken)
    def acquire(self) -> Taken | object:
        self._look_at_the_clock()
        permit = self.circuit.acquire()
        now = self.clock.monotonic()
        assert (permit is not None) == self.period.lets_through(now)
        if permit is None:
            return Taken(Permit(-1), Period(State.CLOSED))  # of no period: changes nothing
        if not self.period.has_place():
            self.period.taken, self.period.kept_until = 0, now + CONFIG.open_s
        self.period.taken += 1
        return Taken(permit, self.period)

    @rule(one=consumes(taken), result=st.sampled_from(Result))
    def release(self, one: Taken, result: Result) -> None:
        self.circuit.release(one.permit, result)
        if one.period is not self.period:
            return
        self.period.results.append(result)
        self.period.taken = max(0, self.period.taken - 1)
        probing = self.period.state is State.HALF_OPEN
        if probing and self.period.results.count(Result.SUCCESS) >= CONFIG.probes:
            self.period = Period(State.CLOSED)
        elif result is Result.FAILURE and (
            probing or self.period.failures_in_a_row() >= CONFIG.failures
        ):
            self.period = Period(State.OPEN, self.clock.monotonic() + CONFIG.open_s)

    @rule()
    def reset(self) -> None:
        self.circuit.set_mode(Mode.NORMAL)
        self.period = Period(State.CLOSED)

    @rule(delay_s=st.sampled_from([0.0, 1.0, 9.0, 10.0, 100.0]))
    def wait(self, delay_s: float) -> None:
        self.clock.advance(delay_s)

    @invariant()
    def the_states_agree(self) -> None:
        due = self.clock.monotonic() >= self.period.ends_at
        assert self.circuit.state is (State.HALF_OPEN if due else self.period.state)

    @invariant()
    def it_admits_what_it_would_let_through(self) -> None:
        now = self.clock.monotonic()
        due = now >= self.period.ends_at
        assert self.circuit.admits == (due or self.period.lets_through(now))

    @invariant()
    def the_waits_agree(self) -> None:
        left_s = self.period.ends_at - self.clock.monotonic()
        expected = max(0.0, left_s) if self.period.state is State.OPEN else 0.0
        assert self.circuit.retry_after_s() == expected


TestCircuitAgainstModel = CircuitAgainstModel.TestCase
TestCircuitAgainstModel.settings = settings(max_examples=60, stateful_step_count=50)
