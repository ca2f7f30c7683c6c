"""The retry budget: a share of the calls, some each second, a few at once, and never more."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mesh.layers.budget import Budget, BudgetConfig
from tests.support.runtime import FakeClock

CONFIG = BudgetConfig(share=0.25, per_s=0.5, burst=3.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def budget(clock: FakeClock) -> Budget:
    return Budget(CONFIG, clock.monotonic)


def spend(budget: Budget) -> int:
    """Withdraw until nothing is left; return how many there were."""
    count = 0
    while budget.withdraw():
        count += 1
    return count


def test_it_begins_full_and_is_empty_after_a_burst(budget: Budget) -> None:
    assert spend(budget) == 3
    assert budget.left == 0.0


def test_calls_earn_their_share(budget: Budget) -> None:
    spend(budget)
    for _ in range(7):
        budget.deposit()
    assert spend(budget) == 1
    assert budget.left == 0.75


def test_time_earns_some(budget: Budget, clock: FakeClock) -> None:
    spend(budget)
    clock.advance(1.9)
    assert not budget.withdraw()
    clock.advance(0.1)
    assert spend(budget) == 1


def test_nobody_saves_for_more_than_a_burst(budget: Budget, clock: FakeClock) -> None:
    clock.advance(1e6)
    for _ in range(1000):
        budget.deposit()
    assert spend(budget) == 3


def test_the_default_is_a_tenth_and_one_a_second() -> None:
    assert BudgetConfig() == BudgetConfig(share=0.1, per_s=1.0, burst=10.0)


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"per_s": -1.0}, {"burst": 0.5}])
def test_a_budget_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="burst is at least 1"):
        BudgetConfig(**wrong)


def test_threads_spend_what_there_is_and_not_more(clock: FakeClock) -> None:
    budget = Budget(BudgetConfig(share=0.5, per_s=0.0, burst=10_000.0), clock.monotonic)
    assert spend(budget) == 10_000

    def one(_: int) -> int:
        for _ in range(1000):
            budget.deposit()
        return sum(budget.withdraw() for _ in range(1000))

    with ThreadPoolExecutor(8) as threads:
        spent = sum(threads.map(one, range(8)))
    assert spent + spend(budget) == 4000


class BudgetAgainstModel(RuleBasedStateMachine):
    """Any order of calls, retries and waits, against the same bucket in exact fractions."""

    SHARE, PER_S, BURST = Fraction(1, 4), Fraction(1, 2), Fraction(3)

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.budget = Budget(CONFIG, self.clock.monotonic)
        self.tokens = self.BURST
        self.calls = self.retries = 0
        self.waited_s = Fraction(0)

    @rule(count=st.integers(1, 20))
    def call(self, count: int) -> None:
        for _ in range(count):
            self.budget.deposit()
        self.calls += count
        self.tokens = min(self.BURST, self.tokens + count * self.SHARE)

    @rule()
    def retry(self) -> None:
        allowed = self.budget.withdraw()
        assert allowed == (self.tokens >= 1)
        self.tokens -= allowed
        self.retries += allowed

    @rule(eighths=st.integers(0, 100))
    def wait(self, eighths: int) -> None:
        self.clock.advance(eighths / 8)
        self.waited_s += Fraction(eighths, 8)
        self.tokens = min(self.BURST, self.tokens + Fraction(eighths, 8) * self.PER_S)

    @invariant()
    def what_is_left_agrees(self) -> None:
        assert self.budget.left == self.tokens

    @invariant()
    def retries_are_bounded_by_what_was_earned(self) -> None:
        earned = self.calls * self.SHARE + self.waited_s * self.PER_S
        assert self.retries <= self.BURST + earned


TestBudgetAgainstModel = BudgetAgainstModel.TestCase
