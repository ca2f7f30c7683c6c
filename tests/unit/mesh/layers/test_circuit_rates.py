"""Failure and slow-call rates over a window, and what an operator makes of a circuit."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.layers.circuit import Change, Circuit, CircuitConfig, Mode, Result, State
from mesh.layers.window import PARTS, Counts, CountWindow, TimeWindow
from tests.support.runtime import FakeClock

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
SUCCESS, FAILURE, NEUTRAL = Result.SUCCESS, Result.FAILURE, Result.NEUTRAL
RATES = CircuitConfig(
    failures=1000,
    failure_share=0.5,
    slow_share=0.5,
    slow_s=1.0,
    calls_min=4,
    window_calls=8,
    open_s=10.0,
    jitter=0.0,
    probes=1,
)


class Driven(Circuit):
    def __init__(self, config: CircuitConfig = RATES) -> None:
        self.clock = FakeClock()
        self.changes: list[Change] = []
        super().__init__(config, self.clock.monotonic, random.Random(1), self._changed)

    def _changed(self, change: Change, by: Any) -> None:
        self.changes.append(change)

    def one(self, result: Result, duration_s: float = 0.0) -> None:
        permit = self.acquire()
        assert permit is not None, "refused"
        self.release(permit, result, duration_s)

    def several(self, *results: Result) -> None:
        for result in results:
            self.one(result)


def test_the_share_of_failures_opens_it_once_there_are_enough_calls() -> None:
    circuit = Driven()
    circuit.several(FAILURE, SUCCESS, FAILURE)
    assert circuit.state is CLOSED
    circuit.one(SUCCESS)
    assert circuit.state is OPEN
    assert circuit.changes[0].why == "2 of 4 calls failed"


def test_the_share_of_slow_calls_opens_it_though_all_succeed() -> None:
    circuit = Driven()
    for duration_s in (0.1, 1.1, 1.0):
        circuit.one(SUCCESS, duration_s)
    assert circuit.counts == Counts(3, 0, 1)
    circuit.one(SUCCESS, 1.1)
    assert circuit.state is OPEN
    assert circuit.changes[0].why == "2 of 4 calls were slow"


def test_neutral_calls_are_not_in_the_window_however_slow() -> None:
    circuit = Driven()
    for _ in range(50):
        circuit.one(NEUTRAL, 100.0)
    assert circuit.counts == Counts()


def test_old_calls_leave_the_window() -> None:
    circuit = Driven()
    circuit.several(FAILURE, *[SUCCESS] * 8)
    assert circuit.counts == Counts(8, 0, 0)
    circuit.several(FAILURE, FAILURE, FAILURE)
    assert circuit.state is CLOSED
    circuit.one(FAILURE)
    assert circuit.state is OPEN


def test_a_window_of_time_forgets_what_is_over() -> None:
    config = CircuitConfig(failures=1000, failure_share=0.5, calls_min=4, window_s=10.0)
    circuit = Driven(config)
    circuit.several(FAILURE, FAILURE, FAILURE)
    circuit.clock.advance(11.0)
    circuit.several(SUCCESS, SUCCESS, SUCCESS, FAILURE)
    assert circuit.counts == Counts(4, 1, 0)
    assert circuit.state is CLOSED
    circuit.several(FAILURE, FAILURE)
    assert circuit.state is OPEN


def test_failures_in_a_row_open_it_before_the_window_says_so() -> None:
    circuit = Driven(CircuitConfig(failures=3, failure_share=0.9, calls_min=100, jitter=0.0))
    circuit.several(*[SUCCESS] * 50, FAILURE, FAILURE, FAILURE)
    assert circuit.changes[0].why == "3 failures in a row"


def test_a_slow_probe_opens_it_again() -> None:
    circuit = Driven()
    circuit.several(*[FAILURE] * 4)
    circuit.clock.advance(10.0)
    circuit.one(SUCCESS, 1.1)
    assert circuit.state is OPEN
    assert circuit.changes[-1].why == "a probe was slow"


def test_the_window_begins_anew_when_it_closes() -> None:
    circuit = Driven()
    circuit.several(*[FAILURE] * 4)
    circuit.clock.advance(10.0)
    circuit.one(SUCCESS)
    assert circuit.state is CLOSED
    assert circuit.counts == Counts()


def test_windows_are_bounded() -> None:
    clock = FakeClock()
    counted, timed = CountWindow(5), TimeWindow(10.0, clock.monotonic)
    for _ in range(1000):
        counted.add(failed=True, slow=False)
        timed.add(failed=True, slow=False)
        clock.advance(0.01)
    assert counted.counts == Counts(5, 5, 0)
    assert timed.counts.calls == 1000
    assert len(timed._parts) <= PARTS + 1


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from([0.0, 0.3, 1.0, 7.0]))))
def test_windows_hold_what_a_list_of_all_calls_says(calls: list[tuple[bool, bool, float]]) -> None:
    clock = FakeClock()
    counted, timed = CountWindow(5), TimeWindow(10.0, clock.monotonic)
    seen: list[tuple[int, bool, bool]] = []
    for failed, slow, pause_s in calls:
        clock.advance(pause_s)
        seen.append((int(clock.monotonic()), failed, slow))  # its parts are a second each
        recent = [one for one in seen if one[0] > int(clock.monotonic()) - PARTS]
        assert counted.add(failed, slow) == totals(seen[-5:])
        assert timed.add(failed, slow) == totals(recent)


def totals(calls: list[tuple[int, bool, bool]]) -> Counts:
    return Counts(len(calls), sum(c[1] for c in calls), sum(c[2] for c in calls))


class TestModes:
    """What an operator says goes before what was counted."""

    def test_disabled_lets_everything_through_and_counts_nothing(self) -> None:
        circuit = Driven(CircuitConfig(failures=1))
        circuit.one(FAILURE)
        circuit.set_mode(Mode.DISABLED)
        circuit.several(*[FAILURE] * 50)
        assert (circuit.state, circuit.admits, circuit.counts) == (State.CLOSED, True, Counts())

    def test_forced_open_lets_nothing_through_whatever_the_time(self) -> None:
        circuit = Driven()
        circuit.set_mode(Mode.FORCED_OPEN)
        for _ in range(3):
            assert circuit.acquire() is None
            assert not circuit.admits
            assert circuit.retry_after_s() == RATES.open_s
            circuit.clock.advance(1000.0)

    def test_metrics_only_goes_through_its_states_and_refuses_nothing(self) -> None:
        config = CircuitConfig(failures=2, open_s=10.0, jitter=0.0, probes=1)
        circuit = Driven(config)
        circuit.set_mode(Mode.METRICS_ONLY)
        circuit.several(FAILURE, FAILURE, FAILURE, SUCCESS)
        assert (circuit.state, circuit.admits) == (State.OPEN, True)
        circuit.clock.advance(10.0)
        probe, beside = circuit.acquire(), circuit.acquire()
        assert probe is not None
        assert beside is not None
        circuit.release(beside, FAILURE)
        assert circuit.state is HALF_OPEN
        circuit.release(probe, SUCCESS)
        assert [change.state for change in circuit.changes] == [
            State.OPEN,
            State.HALF_OPEN,
            State.CLOSED,
        ]

    @pytest.mark.parametrize("mode", Mode)
    def test_normal_begins_anew(self, mode: Mode) -> None:
        circuit = Driven(CircuitConfig(failures=2))
        circuit.several(FAILURE, FAILURE)
        circuit.set_mode(mode)
        circuit.set_mode(Mode.NORMAL)
        circuit.one(FAILURE)
        assert circuit.state is CLOSED
        circuit.one(FAILURE)
        assert circuit.state is OPEN

    def test_calls_from_before_change_nothing_after(self) -> None:
        circuit = Driven(CircuitConfig(failures=1))
        late = circuit.acquire()
        assert late is not None
        circuit.set_mode(Mode.FORCED_OPEN)
        circuit.set_mode(Mode.NORMAL)
        circuit.release(late, FAILURE)
        assert circuit.state is CLOSED
